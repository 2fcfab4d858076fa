"""Train a tagger on photos with tags: a plain student and distilled ones. The best on val is kept.

    wsd train tags.csv --images photos --out pets
    wsd train tags.csv --images photos --out pets --budget 2h --set train.backbone=resnet50

The folder of --out gets a model folder (docs/tagger.md) and report.html. Started again with --resume, it goes on.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from wsd_distill.io import check_writable, file_lock

from .sources import TAGS, read_sources

if TYPE_CHECKING:
    from wsd_distill.pipeline.tagger_training import TaggerTraining

_OWN = ("files.", "classes", "image_root", "name", "unlabelled")
PHOTO_OPTIONS = (*(f"dataset.{key}" for key in _OWN), "train.output_dir")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``wsd train``."""
    add = parser.add_argument
    add("tags", nargs="+", metavar="TAGS", help=TAGS)
    add("--images", type=Path, required=True, metavar="FOLDER", help="folder of the photos")
    add("--out", type=Path, required=True, metavar="FOLDER", help="created; its last part is the tagger's name")
    add("--recipe", default="efficientnet_lite0", help="folder in configs (default %(default)s)")
    add("--budget", metavar="TIME", help="for all trainings, like 2h or 90min; default: the recipe's sizes and epochs")
    add("--separator", help="of tags in one field (default: detected)")
    add("--classes", help="text file with one class per line (default: the tags that occur)")
    add("--unlabelled", metavar="PHOTOS", help="folder or list of photos without tags, for the distilled students")
    add("--decisions", metavar="FILE", help="CSV of wsd audit: which tags to keep, remove, add or make unknown")
    add("--seed", type=int, default=0, help="of the split (default %(default)s)")
    add("--resume", action="store_true", help="go on in --out, with the same options")
    add("--set", nargs="+", default=[], metavar="key=value", dest="overrides", help="what to change in the configs")


def run(arguments: argparse.Namespace) -> int:
    """Train a tagger; see the module."""
    from wsd_distill.pipeline.budget import parse_time
    from wsd_distill.pipeline.plan import find_config
    from wsd_distill.pipeline.sources import find_root
    from wsd_distill.pipeline.tagger_training import TaggerTraining, write_lists
    from wsd_distill.tags import apply_decisions, read_tags, split_tags
    from wsd_distill.tags.findings import check_classes
    from wsd_distill.tags.hashes import hash_photos
    from wsd_distill.tags.unlabelled import check_exists, find_unlabelled

    budget = None if arguments.budget is None else parse_time(arguments.budget)
    find_config(find_root(), arguments.recipe, "teacher")
    out = arguments.out.resolve()
    _check_out(arguments.out, arguments.resume)
    for override in arguments.overrides:
        if override.startswith(PHOTO_OPTIONS):
            raise ValueError(f"--set {override}: wsd train sets this itself, from TAGS, --images and --out")
    if arguments.unlabelled is not None:
        check_exists(arguments.unlabelled)
    tags = read_tags(read_sources(arguments.tags), arguments.images, arguments.separator, arguments.classes)
    if arguments.decisions is not None:
        tags, note = apply_decisions(tags, arguments.decisions)
        print(note)
    tags.notes.extend(check_classes(tags))
    images = arguments.images.resolve()
    hashes = hash_photos([str(images / file) for file in tags.files])
    tags = split_tags(tags, images, seed=arguments.seed, hashes=hashes)
    unlabelled: list[str] = []
    if arguments.unlabelled is not None:
        unlabelled, notes = find_unlabelled(arguments.unlabelled, tags, images, hashes)
        tags.notes.extend(notes)
    print("\n".join(tags.notes), flush=True)
    lists = write_lists(tags, images, out / "lists", unlabelled)
    training = TaggerTraining(out.name, out, lists, images, arguments.recipe, arguments.overrides)
    with file_lock(out / ".lock"):
        return _train(training, budget, arguments.out)


def _train(training: TaggerTraining, budget: float | None, out: Path) -> int:
    """Plan, train, and write the model folder and the report; return the exit code. ``out`` is shown to the user."""
    from wsd_distill.report.graphs import REPORT
    from wsd_distill.report.tagger_page import write_tagger_page

    print("measuring the time of a step ...", flush=True)
    plan = training.make_plan(budget)
    print(plan.describe(), flush=True)
    result = training.train(plan, budget, say=lambda text: print(text, flush=True))
    print(result.summary())
    if training.unlabelled and not result.best.candidate.teacher:
        print("the photos of --unlabelled were not used: only students with a teacher learn from them")
    model = training.save_model(result)
    page = write_tagger_page(training.out / REPORT, training.name, result, plan, training.images)
    print(f"tagger: {out / model.name}\nreport: {out / page.name}")
    return 1 if result.skipped else 0


def _check_out(out: Path, resume: bool) -> None:
    """Check that a training can be written to ``out``, or a complete or interrupted one goes on there.

    Raises:
        OSError: it cannot be written to.
        ValueError: it is a file or a folder of something else, or has a training and not ``resume``.
    """
    if (out / "plan.json").exists():
        if not resume:
            raise ValueError(f"{out} has a training already: go on with --resume, or give another --out")
        check_writable(out)
        return
    if out.exists() and not out.is_dir():
        raise ValueError(f"--out {out} is a file: give a new folder")
    names = [path.name for path in out.iterdir()] if out.exists() else []
    if any(name != "lists" and not name.startswith((".", "plan.json.")) for name in names):  # of an early interruption
        raise ValueError(f"--out {out} is not empty and not of wsd train: give a new folder")
    check_writable(out)
