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

from wsd_distill.engine.cli import expand_paths
from wsd_distill.evaluation.protocols import METRIC_NAMES, PROTOCOLS
from wsd_distill.evaluation.scores import Scores, read_scores

(TUNED,) = (name for name, protocol in PROTOCOLS.items() if protocol.threshold is None)


def evaluate(file: Path, names: list[str], threshold_file: Path | None) -> dict[str, dict[str, float]]:
    """Compute and print the metrics by protocol."""
    found = read_scores(file)
    tuning = read_scores(threshold_file, found.class_names) if threshold_file else found
    results = {name: PROTOCOLS[name].evaluate(found, tuning) for name in names}
    print(f"\n{file}: {describe(found)}")
    if TUNED in names and (threshold_file is None or threshold_file.samefile(file)):
        print(f"The threshold of {TUNED} is tuned on this file, so that F1 is optimistic: set --threshold-file.")
    elif TUNED in names:
        print(f"The threshold of {TUNED} is tuned on {threshold_file}.")
    print(format_table(results))
    return results


def describe(found: Scores) -> str:
    images, classes = found.scores.shape
    positive, ignored = found.labels == 1, (found.labels == -1).sum()
    empty = [name for name, column in zip(found.class_names, positive.T) if not column.any()]
    text = f"{images} images, {classes} classes, {positive.sum()} labels"
    text += f"; without positives: {', '.join(empty)}" if empty else ""
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
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the metrics to this file")
    arguments = expand_paths(parser.parse_intermixed_args())
    chosen = arguments.protocol or ["all"]
    names = list(PROTOCOLS if "all" in chosen else dict.fromkeys(chosen))
    try:
        if arguments.json and not arguments.json.parent.is_dir():
            raise FileNotFoundError(f"--json {arguments.json}: folder {arguments.json.parent} does not exist")
        results = {str(file): evaluate(file, names, arguments.threshold_file) for file in arguments.files}
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n")
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
