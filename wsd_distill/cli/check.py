"""Check photos and tags before a training."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .sources import TAGS, read_sources


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``wsd check``."""
    parser.add_argument("tags", nargs="+", metavar="TAGS", help=TAGS)
    parser.add_argument("--images", metavar="FOLDER", help="folder of the photos (default: the folder of TAGS)")
    parser.add_argument("--separator", metavar="MARK", help="what separates labels in one text (default: detected)")
    parser.add_argument("--classes", metavar="FILE", help="text file with one class per line (default: all labels)")
    parser.add_argument("--decisions", metavar="FILE", help="CSV of wsd audit, applied to the tags first")
    parser.add_argument("--out", metavar="PAGE", help="HTML file to write, with photos and what to correct")


def run(arguments: argparse.Namespace) -> int:
    """Print notes, counts, warnings and errors; return 1 if there are errors, otherwise 0."""
    import wsd_distill.data.datasets  # noqa: F401  (it patches Detectron2 0.6, and registers datasets)

    from ..data.datasets.faults import RowFaults
    from ..data.datasets.label_columns import parse_separator
    from ..io import check_not_folder, check_writable
    from ..tags import apply_decisions, read_tags
    from ..tags.findings import check_tags
    from ..tags.page import write_page

    if arguments.separator is not None:
        parse_separator(arguments.separator)
    source = read_sources(arguments.tags)
    first = source if isinstance(source, str) else next(iter(source.values()))
    images = arguments.images or (first if os.path.isdir(first) else os.path.dirname(first) or ".")
    if not os.path.isdir(images):
        raise FileNotFoundError(f"--images {images} is not a folder: give the folder of the photos")
    faults = RowFaults(collect=True)
    if arguments.out:
        check_not_folder(arguments.out)
        check_writable(arguments.out)
    try:
        table = read_tags(source, images, arguments.separator, arguments.classes, check_files=False, faults=faults)
        if arguments.decisions and any(not finding.is_warning for finding in faults.found):
            print(f"{arguments.decisions} is not applied: correct the rows first")
        elif arguments.decisions:
            table, note = apply_decisions(table, arguments.decisions)
            print(note)
    except ValueError as error:
        for finding in faults.found:
            print(f"{'WARNING' if finding.is_warning else 'ERROR'} {finding}")
        print(f"ERROR {error}")
        if arguments.out:
            print(f"{arguments.out} is not written: correct this first")
        return 1
    for note in table.notes:
        print(note)
    check = check_tags(table, images, faults.found)
    print(f"{len(table)} photos, {len(table.classes)} classes, {check.num_labels} tags")
    for name, count in zip(table.classes, check.positive.tolist()):
        print(f"  {count:7d} {name}")
    for finding in check.findings:
        print(f"{'WARNING' if finding.is_warning else 'ERROR'} {finding}")
    if arguments.out:
        write_page(arguments.out, table, check, images, f"{Path(first).name}: photos and tags")
        print(f"The page is {arguments.out}")
    errors = sum(not finding.is_warning for finding in check.findings)
    warnings = len(check.findings) - errors
    print(f"{errors} error{'s' * (errors != 1)}, {warnings} warning{'s' * (warnings != 1)}")
    return 1 if check.has_errors else 0
