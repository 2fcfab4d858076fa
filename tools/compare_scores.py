#!/usr/bin/env python
"""Compare two methods on the same test images: the difference B - A with a paired bootstrap over images.

    python tools/compare_scores.py output/x/student output/x/stage2
    python tools/compare_scores.py --a output/x/seed*/student --b output/x/seed*/stage2 [--metric CF1] [--json out.json]

A run is its folder, or the scores.npz of one evaluation. Several runs of a method are its seeds: the first of A is
paired with the first of B, and so on. All runs must have the same images, labels and classes. Printed for each metric,
in percent: mean and sample standard deviation over seeds, the 95 % interval of the mean difference over draws of
images, and the share of draws in which B is above A. Every draw uses the same images for all runs (docs/protocols.md).
"""

from __future__ import annotations

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import glob
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from wsd_distill.engine.cli import expand_paths
from wsd_distill.evaluation.bootstrap import METRIC_NAMES, Comparison, compare, draw_weights, needs_threshold
from wsd_distill.evaluation.metrics import tune_threshold
from wsd_distill.evaluation.scores import SCORES_FILE, Scores, check_same_images, read_scores


def find_runs(patterns: Sequence[Path]) -> list[Path]:
    """Return files and folders; a pattern with ``*``, ``?`` or ``[`` that no path has is replaced by its matches."""
    runs = []
    for pattern in map(str, patterns):
        matches = [pattern] if Path(pattern).exists() else sorted(glob.glob(pattern))
        if not matches:
            raise FileNotFoundError(f"{pattern} does not exist: give a {SCORES_FILE} or the folder of a run")
        runs += map(Path, matches)
    return runs


def scores_file(run: Path, split: str, hint: str = "see --split") -> Path:
    """Return ``run``, or the scores of ``split`` in this folder; FileNotFoundError names the splits that it has."""
    file = run / "inference" / split / SCORES_FILE if run.is_dir() else run
    found = sorted(path.parent.name for path in run.glob(f"inference/*/{SCORES_FILE}"))
    if found and not file.exists():
        raise FileNotFoundError(f"{run} has no scores of the split {split!r}, but of {', '.join(found)}: {hint}")
    return file


def read_threshold(run: Path, found: Scores) -> float:
    """Tune the threshold of a run on the scores of its val split; ValueError if ``run`` is a file."""
    if not run.is_dir():
        raise ValueError(f"{run} has no threshold tuned on val: give the folder of the run, or --metric CF1@0.5")
    path = scores_file(run, "val", "evaluate it, for the threshold is tuned there, or give --metric CF1@0.5")
    tuning = read_scores(path, found.class_names)
    if tuning.weights_digest != found.weights_digest:
        raise ValueError(f"{path} has scores of other weights than the split to compare: evaluate both splits again")
    return tune_threshold(tuning.scores, tuning.labels)


def compare_runs(a: list[Path], b: list[Path], arguments: argparse.Namespace) -> dict[str, Comparison]:
    """Read the scores of runs and compare them by each metric."""
    files = {run: scores_file(run, arguments.split) for run in [*a, *b]}
    found = {run: read_scores(file) for run, file in files.items()}
    for run in found:
        check_same_images(files[a[0]], found[a[0]], files[run], found[run])
    thresholds = None
    if any(map(needs_threshold, arguments.metric)):
        tuned = {run: read_threshold(run, scores) for run, scores in found.items()}
        thresholds = ([tuned[run] for run in a], [tuned[run] for run in b])
    weights = draw_weights(len(found[a[0]].scores), arguments.draws, arguments.seed)
    runs = [found[run] for run in a], [found[run] for run in b]
    return {metric: compare(*runs, metric, weights, thresholds) for metric in arguments.metric}


def summarize(found: Comparison) -> dict:
    """Return the values of a comparison for ``--json``."""
    values = {"A": found.a, "B": found.b, "B-A": found.differences}
    result: dict = {"runs": values, "mean": {name: float(np.mean(x)) for name, x in values.items()}}
    result["std"] = {name: float(np.std(x, ddof=1)) if len(x) > 1 else None for name, x in values.items()}
    return {**result, "interval": list(found.interval), "share_above": found.share_above}


def format_table(results: dict[str, dict]) -> str:
    rows = []
    for metric, result in results.items():
        stds = {name: "" if std is None else f" \u00b1 {std:.2f}" for name, std in result["std"].items()}
        mean, (low, high) = result["mean"], result["interval"]
        cells = [f"{mean[name]:.2f}{stds[name]}" for name in ("A", "B")]
        difference = f"{mean['B-A']:+.2f}{stds['B-A']}"
        rows.append([metric, *cells, difference, f"{low:+.2f} to {high:+.2f}", f"{100 * result['share_above']:.1f} %"])
    headers = ["", "A", "B", "B - A", "95 % interval", "B above A"]
    return tabulate(rows, headers=headers, tablefmt="pipe", disable_numparse=True, colalign=["left", *["right"] * 5])


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, metavar="RUN", help="one run of A and one of B")
    parser.add_argument("--a", nargs="+", type=Path, metavar="RUN", help="runs (seeds) of method A")
    parser.add_argument("--b", nargs="+", type=Path, metavar="RUN", help="runs (seeds) of method B")
    parser.add_argument("--metric", action="append", choices=METRIC_NAMES, help="repeatable (default mAP)")
    parser.add_argument("--split", default="test", help="evaluated split, of folders of runs (default test)")
    parser.add_argument("--draws", type=int, default=2000, help="number of draws of images (default 2000)")
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default 0)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all numbers to this file")
    arguments = expand_paths(parser.parse_intermixed_args())
    if bool(arguments.a) != bool(arguments.b) or bool(arguments.a) == bool(arguments.runs):
        parser.error("give two runs, A and B, or --a and --b")
    if arguments.runs and len(arguments.runs) != 2:
        parser.error(f"{len(arguments.runs)} runs: give two, A and B, or several of each with --a and --b")
    if arguments.draws < 1:
        parser.error(f"--draws {arguments.draws}: at least 1")
    arguments.metric = list(dict.fromkeys(arguments.metric or ["mAP"]))
    arguments.a, arguments.b = (arguments.a, arguments.b) if arguments.a else ([run] for run in arguments.runs)
    return arguments


def main() -> None:
    arguments = parse_arguments()
    try:
        if arguments.json and not arguments.json.parent.is_dir():
            raise FileNotFoundError(f"--json {arguments.json}: folder {arguments.json.parent} does not exist")
        a, b = find_runs(arguments.a), find_runs(arguments.b)
        results = {metric: summarize(found) for metric, found in compare_runs(a, b, arguments).items()}
        for name, runs in (("A", a), ("B", b)):
            print(f"{name}: {', '.join(map(str, runs))}")
        print(f"{arguments.draws} draws of the images of the {arguments.split} split.\n{format_table(results)}")
        if arguments.json:
            header = {"a": list(map(str, a)), "b": list(map(str, b)), "draws": arguments.draws, "seed": arguments.seed}
            arguments.json.write_text(json.dumps({**header, "metrics": results}, indent=2) + "\n")
    except (OSError, ValueError) as error:
        sys.exit(f"{Path(__file__).name}: {error}")


if __name__ == "__main__":
    main()
