#!/usr/bin/env python
"""Write image lists with fewer labels than a registered dataset has, to measure what that costs.

    python benchmarks/missing_tags.py --dataset coco3k --output lists

``dropped.csv`` has all training images without ``--drop`` of the positive labels; ``labelled.csv`` has ``--labelled``
training images with all labels, and ``unlabelled.csv`` the others without any. Both are drawn with ``--seed``. Every
class keeps at least one training image. ``train.csv``, ``val.csv`` and ``test.csv`` have everything. The lists have
labels only: results are without CorLoc and AP50. Prints the commands that train on them; for as many steps with
``labelled.csv`` as with all images, raise ``train.epochs``.
"""

import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import argparse
import csv
import os
import shlex
from collections import Counter
from pathlib import Path

import numpy as np
from detectron2.data import MetadataCatalog

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.datasets import SPLITS, get_dataset_info

ROOT = Path(__file__).resolve().parents[1]


def drop_labels(labels: list[list[int]], fraction: float, seed: int, keep_one: bool = False) -> list[list[int]]:
    """Drop a fraction of all positive labels, drawn uniformly, but never the last one of a class.

    Args:
        labels: positive classes of each image.
        fraction: of the labels, 0 to 1; fewer are dropped where nothing more may be.
        keep_one: nor the last one of an image.
    """
    kept = [list(row) for row in labels]
    pairs = [(i, k) for i, row in enumerate(labels) for k in row]
    left, missing = Counter(k for _, k in pairs), round(fraction * len(pairs))
    for i, k in np.random.default_rng(seed).permutation(np.array(pairs, dtype=int).reshape(-1, 2)).tolist():
        if missing and left[k] > 1 and len(kept[i]) > keep_one:
            kept[i].remove(k)
            left[k] -= 1
            missing -= 1
    return kept


def choose_images(labels: list[list[int]], count: int, seed: int) -> list[int]:
    """Draw ``count`` images, sorted: first one of each class that none has yet, rarest first, then any.

    Raises:
        ValueError: ``count`` is not below the number of images, or too small for all classes.
    """
    if not 0 < count < len(labels):
        raise ValueError(f"--labelled {count}: choose from 1 to {len(labels) - 1}")
    order = np.random.default_rng(seed).permutation(len(labels)).tolist()
    counts = Counter(k for row in labels for k in row)
    chosen: dict[int, None] = {}
    for k in sorted(counts, key=lambda k: (counts[k], k)):
        if not any(k in labels[i] for i in chosen):
            chosen[next(i for i in order if k in labels[i])] = None
    if len(chosen) > count:
        raise ValueError(f"--labelled {count}: one image of each class are {len(chosen)} already")
    chosen.update(dict.fromkeys(order))
    return sorted(list(chosen)[:count])


def write_list(path: Path, names: list[str], labels: list[list[int]] | None, classes: list[str]) -> None:
    """Write a CSV of images; with ``labels`` None it has no labels."""
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["file"] if labels is None else ["file", "labels"])
        for i, name in enumerate(names):
            writer.writerow([name] if labels is None else [name, ";".join(classes[k] for k in labels[i])])


def write_lists(dataset: str, folder: Path, *, drop: float, labelled: int, keep_one: bool, seed: int) -> str:
    """Write all lists and return the folder of the images.

    Raises:
        ValueError: the dataset has labels that are neither positive nor negative, or class names with ";".
    """
    info = get_dataset_info(dataset)
    records = {split: get_dataset_dicts(getattr(info, split)) for split in SPLITS}
    classes = list(MetadataCatalog.get(info.train).thing_classes)
    if any(record.get("ignore_labels") for split in SPLITS for record in records[split]):
        raise ValueError(f"{dataset} has ignored labels, which a list cannot have: choose another dataset")
    if any(";" in name for name in classes):
        raise ValueError(f"{dataset} has a class with ';' in its name, which separates labels in a list")
    files = {split: [os.path.abspath(r["file_name"]) for r in records[split]] for split in SPLITS}
    root = os.path.commonpath([os.path.dirname(file) for split in SPLITS for file in files[split]])
    names = {split: [os.path.relpath(file, root) for file in files[split]] for split in SPLITS}
    labels = {split: [record["labels"] for record in records[split]] for split in SPLITS}
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "classes.txt").write_text("\n".join(classes) + "\n", encoding="utf-8")
    for split in SPLITS:
        write_list(folder / f"{split}.csv", names[split], labels[split], classes)
    train, positive = names["train"], labels["train"]
    write_list(folder / "dropped.csv", train, drop_labels(positive, drop, seed, keep_one), classes)
    chosen = choose_images(positive, labelled, seed)
    others = sorted(set(range(len(train))) - set(chosen))
    write_list(folder / "labelled.csv", [train[i] for i in chosen], [positive[i] for i in chosen], classes)
    write_list(folder / "unlabelled.csv", [train[i] for i in others], None, classes)
    return root


def commands(dataset: str, folder: Path, root: str) -> list[str]:
    """Return the commands that train plain and distilled students on the lists; lines with # describe them."""
    recipe = f"configs/{get_dataset_info(dataset).recipe}"
    distilled = ["region_consistent", "region_consistent_trunk"]
    distilled = [config for config in distilled if (ROOT / recipe / f"{config}.py").is_file()]

    def options(name: str, train: str) -> str:
        files = [f"dataset.files.{split}={folder / file}.csv" for split, file in zip(SPLITS, (train, "val", "test"))]
        settings = [
            f"dataset.name={dataset}_{name}",
            f"dataset.image_root={root}",
            f"dataset.classes={folder}/classes.txt",
        ]
        return shlex.join([*settings, *files])

    def call(tool: str, config: str, *overrides: str) -> str:
        return " ".join([f"python tools/{tool}.py --config-file {recipe}/{config}.py", *overrides])

    lines = []
    for name, train in (("full", "train"), ("dropped", "dropped"), ("labelled", "labelled")):
        own = options(name, train)
        lines += [
            f"# {train}.csv: T-WDet, and students without and with it",
            call("generate_proposals", "teacher", own),
        ]
        lines += [call("train_net", config, own) for config in ("student", "teacher", *distilled)]
    own, unknown = options("dropped", "dropped"), "distiller.objectives.loss_hard.unknown_above=0.5"
    lines.append("# dropped.csv: the paper's two stages")
    lines += [call("train_net", stage, own) for stage in ("stage1", "stage2")]
    lines.append("# dropped.csv: negatives that T-WDet scores above 0.5 are unknown")
    for config in ("region_consistent", "stage2"):
        lines.append(call("train_net", config, own, f"train.run={config}_unknown", unknown))
    own = options("labelled", "labelled") + " " + shlex.quote(f"dataset.files.unlabelled={folder}/unlabelled.csv")
    cache = f"distiller.cache.folder=output/{dataset}_labelled/unlabelled_cache"
    lines.append("# labelled.csv and unlabelled.csv")
    lines.append(call("generate_proposals", "region_consistent", own))
    for config in distilled:
        lines.append(call("train_net", config, own, f"train.run={config}_unlabelled", f"{cache}_{config}"))
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dataset", default="coco3k", help="a dataset.name (%(default)s)")
    parser.add_argument("--output", type=Path, required=True, metavar="FOLDER", help="folder of the lists")
    parser.add_argument("--drop", type=float, default=0.3, help="fraction of positives in dropped.csv (%(default)s)")
    parser.add_argument("--keep-one", action="store_true", help="every image in dropped.csv keeps a label")
    parser.add_argument("--labelled", type=int, default=700, help="images in labelled.csv (%(default)s)")
    parser.add_argument("--seed", type=int, default=0)
    arguments = vars(parser.parse_args())
    dataset, folder = arguments.pop("dataset"), arguments.pop("output").absolute()
    try:
        root = write_lists(dataset, folder, **arguments)
    except (KeyError, OSError, ValueError) as error:
        parser.error(str(error.args[0] if isinstance(error, KeyError) else error))
    print("\n".join(commands(dataset, folder, root)))


if __name__ == "__main__":
    main()
