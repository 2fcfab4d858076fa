#!/usr/bin/env python
"""Flip labels of a dataset, and measure how many of them a ranking of suspicious labels finds.

    python benchmarks/label_errors.py flip --dataset coco3k --output flipped
    python benchmarks/label_errors.py compare flipped --teacher FOLD0 FOLD1 FOLD2 --student FOLD0 FOLD1 FOLD2

``flip`` removes ``--fraction`` of the positive labels of the training split, drawn with ``--seed``, and adds each to
another photo without it, so that the number of photos of a class stays. It writes ``train.csv``, ``val.csv``,
``test.csv``, ``classes.txt`` and ``flips.csv``, converts the proposals of the dataset if there are any, and prints the
trainings. ``compare`` scores each photo with the model of its fold, and prints the share of flipped labels among the
first K of our ranking and of cleanlab's (``pip install cleanlab``). Errors of the dataset itself count as not found.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import csv
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

from wsd_distill.audit.held_out import score_held_out
from wsd_distill.audit.ranking import rank_suspects
from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.datasets import SPLITS, get_dataset_info
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata, default_store_path

REMOVED, ADDED = "removed", "added"
FIRST = (50, 100, 310)  # K of the precision at K; the last one is the number of all flipped labels
FOLDS = 3


def flip_labels(labels: np.ndarray, fraction: float, seed: int) -> np.ndarray:
    """Return labels (N, K) bool with a fraction of the positive ones moved to other photos.

    A class whose last photo without it is used up gets fewer.
    """
    rng, flipped = np.random.default_rng(seed), labels.copy()
    positive = np.argwhere(labels)
    removed = positive[rng.permutation(len(positive))[: round(fraction * len(positive))]]
    flipped[tuple(removed.T)] = False
    for k in removed[:, 1].tolist():
        free = np.flatnonzero(~labels[:, k] & ~flipped[:, k])
        if len(free):
            flipped[rng.choice(free), k] = True
    return flipped


def write_flipped(dataset: str, folder: Path, fraction: float, seed: int) -> str:
    """Write the lists, the flips and the proposals; return the folder of the images.

    Raises:
        ValueError: the dataset has labels that are neither positive nor negative, or class names with ";".
    """
    info = get_dataset_info(dataset)
    classes = list(MetadataCatalog.get(info.train).thing_classes)
    records = {split: get_dataset_dicts(getattr(info, split)) for split in SPLITS}
    if any(record.get("ignore_labels") for rows in records.values() for record in rows) or any(
        ";" in name for name in classes
    ):
        raise ValueError(f"{dataset} has ignored labels, or ';' in the name of a class: choose another dataset")
    files = {split: [os.path.abspath(record["file_name"]) for record in rows] for split, rows in records.items()}
    root = os.path.commonpath([os.path.dirname(file) for rows in files.values() for file in rows])
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for split in SPLITS:
        names = [os.path.relpath(file, root) for file in files[split]]
        labels = np.zeros((len(names), len(classes)), bool)
        for row, record in zip(labels, records[split]):
            row[record["labels"]] = True
        given = flip_labels(labels, fraction, seed) if split == "train" else labels
        rows = [[name, ";".join(classes[k] for k in np.flatnonzero(row))] for name, row in zip(names, given)]
        _write_csv(folder / f"{split}.csv", ["file", "labels"], rows)
        if split == "train":
            flips = np.argwhere(labels != given).tolist()
            rows = [[names[i], classes[k], REMOVED if labels[i, k] else ADDED] for i, k in flips]
            _write_csv(folder / "flips.csv", ["file", "label", "change"], rows)
        ids = [record["image_id"] for record in records[split]]
        _convert_proposals(getattr(info, split), f"{dataset}_flipped_{split}", dict(zip(names, ids)), folder, split)
    return root


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def _convert_proposals(source: str, name: str, ids: dict[str, int], folder: Path, split: str) -> None:
    """Write the proposals of a dataset, if it has any, with the file names of the list as image ids."""
    path = default_store_path(source)
    if not os.path.exists(path):
        return
    store = ProposalStore(path, dataset_name=source)
    metadata = StoreMetadata(name, store.metadata.generator, store.metadata.parameters)
    with ProposalStoreWriter(folder / "proposals" / f"{split}.arrow", metadata) as writer:
        for file in sorted(ids):
            row = store.row_index(ids[file])
            writer.write(file, *store.read_row(row), store.image_stamp(row))


def commands(dataset: str, folder: Path, root: str) -> list[str]:
    """Return the commands of all trainings, and the comparison."""
    recipe, output = "configs/efficientnet_lite0", folder / "runs"
    options = [f"dataset.name={dataset}_flipped", f"dataset.image_root={root}", f"dataset.classes={folder}/classes.txt"]
    options += [f"dataset.files.{split}={folder}/{split}.csv" for split in SPLITS]
    options += [f"proposals.{split}={folder}/proposals/{split}.arrow" for split in SPLITS]
    make_proposals = f"tools/generate_proposals.py --config-file {recipe}/teacher.py"
    lines = [] if (folder / "proposals").exists() else [make_proposals]
    folders: dict[str, list[str]] = {"teacher": [], "student": []}
    for config, runs in folders.items():
        for fold in range(FOLDS):
            runs.append(str(output / f"{config}_fold{fold}"))
            own = [f"dataset.leave_out={fold}/{FOLDS}", f"train.output_dir={runs[-1]}"]
            lines.append(f"tools/train_net.py --resume --config-file {recipe}/{config}.py {shlex.join(own)}")
    lines = [f"python {line} {shlex.join(options)}" for line in lines]
    chosen = " ".join(f"--{config} {shlex.join(runs)}" for config, runs in folders.items())
    return [*lines, f"python benchmarks/label_errors.py compare {folder} {chosen}"]


def read_flips(folder: Path, files: Sequence[str], classes: Sequence[str]) -> np.ndarray:
    """Return (N, K) bool: the labels that were flipped."""
    rows, columns = ({name: i for i, name in enumerate(names)} for names in (files, classes))
    flipped = np.zeros((len(files), len(classes)), bool)
    with open(folder / "flips.csv", newline="", encoding="utf-8") as file:
        for line in csv.DictReader(file):
            flipped[rows[line["file"]], columns[line["label"]]] = True
    return flipped


def precision_at(order: np.ndarray, flipped: np.ndarray) -> list[float]:
    """Return the percentage of flipped labels among the first K of an order of the N * K labels, for each K."""
    hits = flipped.ravel()[order]
    return [100 * float(hits[:count].mean()) for count in (*FIRST, int(flipped.sum()))]


def our_order(scores: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the indices of all labels, the most suspicious first."""
    ranking = rank_suspects(scores, labels)
    return np.ravel_multi_index((ranking.rows, ranking.classes), labels.shape)


def cleanlab_orders(scores: np.ndarray, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Return the orders by cleanlab: its quality of each label, and the same after the issues that it finds.

    Its quality (``self_confidence``) is the score of a present label and 1 - score of an absent one.
    """
    from cleanlab.multilabel_classification.filter import find_multilabel_issues_per_class
    from cleanlab.multilabel_classification.rank import get_label_quality_scores_per_class

    given, scores = [np.flatnonzero(row).tolist() for row in labels], scores.astype(np.float64)
    quality = np.asarray(get_label_quality_scores_per_class(given, scores))
    quality = quality if quality.shape == labels.shape else quality.T
    issues = np.stack(list(find_multilabel_issues_per_class(given, scores, n_jobs=1)))
    issues = issues if issues.shape == labels.shape else issues.T
    return {
        "cleanlab, label quality": np.argsort(quality, axis=None, kind="stable"),
        "cleanlab, issues by quality": np.argsort(np.where(issues, quality - 2, quality), axis=None, kind="stable"),
    }


def compare(folder: Path, runs: dict[str, list[Path]]) -> str:
    """Score all photos and return the table in Markdown; each line names the scores and the ranking."""
    lines = []
    for name, folds in runs.items():
        found = score_held_out(folds, folder / "scores" / name, ["train"])
        flipped = read_flips(folder, found.image_ids, found.class_names)
        orders = {"ours": our_order(found.scores, found.labels), **cleanlab_orders(found.scores, found.labels)}
        if not lines:
            counts = " | ".join(map(str, (*FIRST, f"{flipped.sum()} (all)")))
            lines = [f"| held-out scores | ranking | {counts} |", "|---|---|" + "---|" * (len(FIRST) + 1)]
            chance = 100 * flipped.mean()
            lines.append("| none | chance | " + " | ".join([f"{chance:.1f}"] * (len(FIRST) + 1)) + " |")
        for ranking, order in orders.items():
            values = " | ".join(f"{value:.1f}" for value in precision_at(order, flipped))
            lines.append(f"| {name} | {ranking} | {values} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands_ = parser.add_subparsers(dest="command", required=True)
    child = commands_.add_parser("flip")
    child.add_argument("--dataset", default="coco3k", help="a dataset.name (%(default)s)")
    child.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the lists")
    child.add_argument("--fraction", type=float, default=0.05, help="of the positive labels (%(default)s)")
    child.add_argument("--seed", type=int, default=0)
    child = commands_.add_parser("compare")
    child.add_argument("folder", type=Path, help="of flip")
    for option in ("--teacher", "--student"):
        child.add_argument(option, type=Path, nargs="+", default=[], metavar="RUN", help="folders of all folds")
    arguments = parser.parse_args()
    try:
        if arguments.command == "flip":
            folder = arguments.output.absolute()
            root = write_flipped(arguments.dataset, folder, arguments.fraction, arguments.seed)
            print("\n".join(commands(arguments.dataset, folder, root)))
        else:
            runs = {name: getattr(arguments, name) for name in ("teacher", "student") if getattr(arguments, name)}
            print(compare(arguments.folder.absolute(), runs))
    except (ImportError, KeyError, OSError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))


if __name__ == "__main__":
    main()
