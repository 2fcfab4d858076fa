"""List labels that look wrong or missing, ranked by teachers that have not seen the photo.

    wsd audit pets --out suspects.html
    wsd train tags.csv --images photos --out pets2 --decisions decisions.csv

pets is the output folder of wsd train. Three teachers are trained, each without a third of the training photos. The
page of --out asks for a decision for each suspect, and downloads decisions.csv; beside it is a CSV of all suspects,
whose column decision may be filled in instead (docs/audit.md). Started again, the command goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``wsd audit``."""
    add = parser.add_argument
    add("folder", type=Path, metavar="FOLDER", help="output folder of wsd train")
    add("--out", type=Path, required=True, metavar="PAGE", help="HTML file to write, with a CSV beside it")
    add("--top", type=int, default=500, metavar="N", help="number of suspects (default %(default)s)")
    add("--set", nargs="+", default=[], metavar="key=value", dest="overrides", help="what to change for the teachers")


def run(arguments: argparse.Namespace) -> int:
    """Train the teachers that are missing, score all photos, and write page and CSV."""
    import wsd_distill.data.datasets  # noqa: F401  (it patches Detectron2 0.6, and registers datasets)
    from wsd_distill.audit.held_out import score_held_out
    from wsd_distill.audit.page import write_page
    from wsd_distill.audit.suspects import find_suspects, write_suspects
    from wsd_distill.io import check_not_folder, check_writable
    from wsd_distill.pipeline.tagger_training import TaggerTraining
    from wsd_distill.tagging import Tagger

    if arguments.out.suffix not in (".html", ".htm"):
        raise ValueError(f"--out {arguments.out}: give a file that ends in .html")
    if arguments.top < 1:
        raise ValueError(f"--top {arguments.top}: give a number of suspects from 1 on")
    check_not_folder(arguments.out)
    check_writable(arguments.out)
    folder = arguments.folder.resolve()
    training, plan = TaggerTraining.load(folder)
    tagger = Tagger.load(folder / "model")
    print("teachers, each trained without a third of the training photos", flush=True)
    runs = training.train_folds(plan, arguments.overrides)
    found = score_held_out(runs, folder / "audit")
    suspects = find_suspects(found, training.images, tagger, arguments.top)
    note = (
        "Training photos were scored by the teacher that was not trained on them, validation and test photos by the "
        f"mean of all {len(runs)}; the tagger has seen the training photos."
    )
    table = arguments.out.with_suffix(".csv")
    write_suspects(table, suspects)
    write_page(arguments.out, training.name, suspects, training.images, len(found.image_ids), note)
    print(f"{note}\n{len(suspects)} suspects\npage: {arguments.out}\ntable: {table}")
    return 0
