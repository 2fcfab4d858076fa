#!/usr/bin/env python
"""Compute the metrics of evaluated scores as the paper and other projects define them, side by side.

    python tools/evaluate_scores.py output/digit_scenes/student/inference/test/scores.npz \
        --threshold-file output/digit_scenes/student/inference/val/scores.npz [--protocol paper] [--json metrics.json]

Columns are protocols, rows are metrics in percent; "-" means that the project does not report the metric. Protocols are
described in docs/protocols.md.
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import json
import sys
from pathlib import Path

from tabulate import tabulate

from wsd_distill.data.class_counts import classes_everywhere, describe_classes
from wsd_distill.engine.cli import expand_paths
from wsd_distill.evaluation.metrics import average_precisions, map_levels
from wsd_distill.evaluation.protocols import METRIC_NAMES, PROTOCOLS
from wsd_distill.evaluation.scores import Scores, constant_scores, read_scores

(TUNED,) = (name for name, protocol in PROTOCOLS.items() if protocol.threshold is None)


def evaluate(
    file: Path, names: list[str], threshold_file: Path | None, other_weights: bool
) -> dict[str, dict[str, float]]:
    """Compute and print the metrics by protocol; a ``threshold_file`` of other weights raises ValueError."""
    found = read_scores(file)
    tuning = read_scores(threshold_file, found.class_names) if threshold_file else found
    known = found.weights_digest and tuning.weights_digest
    if known and found.weights_digest != tuning.weights_digest and not other_weights:
        text = f"{threshold_file} has scores of other weights than {file}"
        raise ValueError(f"{text}: give the file of the same evaluation, or --other-weights")
    results = {name: PROTOCOLS[name].evaluate(found, tuning) for name in names}
    print(f"\n{file}: {describe(found)}")
    if TUNED in names and (threshold_file is None or threshold_file.samefile(file)):
        print(f"The threshold of {TUNED} is tuned on this file, so that F1 is optimistic: set --threshold-file.")
    elif TUNED in names:
        unknown = "" if known else " A file does not name its weights, so that they may differ."
        print(f"The threshold of {TUNED} is tuned on {threshold_file}.{unknown}")
    levels = map_levels(average_precisions(found.scores, found.labels), found.labels)
    print(f"mAP of random scores: {levels['mAP-chance']:.2f}.")
    if classes_everywhere(found.labels).any():
        print(f"mAP of {TUNED} without the classes that every image has: {levels['mAP-with-negatives']:.2f}.")
    for problem in [*constant_scores(found.scores), *describe_classes(found.labels, found.class_names)]:
        print(f"WARNING {problem}.")
    print(format_table(results))
    return {name: {**column, "mAP-chance": levels["mAP-chance"]} for name, column in results.items()}


def describe(found: Scores) -> str:
    images, classes = found.scores.shape
    ignored = (found.labels == -1).sum()
    text = f"{images} images, {classes} classes, {(found.labels == 1).sum()} labels"
    return text + (f"; ignored: {ignored} labels" if ignored else "")


def format_table(results: dict[str, dict[str, float]]) -> str:
    signs = {name: "\u2265" if PROTOCOLS[name].at_threshold else ">" for name in results}
    rows = [["predicted if", *(f"{signs[name]} {column['threshold']:.4g}" for name, column in results.items())]]
    for metric in METRIC_NAMES:
        cells = [f"{column[metric]:.2f}" if metric in column else "-" for column in results.values()]
        if set(cells) != {"-"}:
            rows.append([metric, *cells])
    align = ["left", *["right"] * len(results)]
    return tabulate(rows, headers=["", *results], tablefmt="pipe", disable_numparse=True, colalign=align)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    tuning = "scores.npz of the split to tune the paper's threshold on"
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE", help="scores.npz of an evaluation")
    parser.add_argument("--protocol", action="append", choices=[*PROTOCOLS, "all"], help="repeatable (default all)")
    parser.add_argument("--threshold-file", type=Path, metavar="FILE", help=tuning)
    parser.add_argument("--other-weights", action="store_true", help="accept a --threshold-file of other weights")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics to this file")
    arguments = expand_paths(parser.parse_intermixed_args())
    chosen = arguments.protocol or ["all"]
    names = list(PROTOCOLS if "all" in chosen else dict.fromkeys(chosen))
    try:
        if arguments.json and not arguments.json.parent.is_dir():
            raise FileNotFoundError(f"--json {arguments.json}: folder {arguments.json.parent} does not exist")
        results = {
            str(file): evaluate(file, names, arguments.threshold_file, arguments.other_weights)
            for file in arguments.files
        }
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
