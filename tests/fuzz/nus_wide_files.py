"""A small copy of NUS-WIDE's layout."""

from __future__ import annotations

from pathlib import Path

from wsd_distill.data.datasets.nus_wide import CLASSES

IMAGES = ["airport\\1_11.jpg", "sky\\2_12.jpg", "birds\\4_14.jpg"]


def write_tree(path: Path) -> None:
    """Write all files of the official training split below the folder ``nuswide`` that contains ``path``."""
    folder = next(parent for parent in path.parents if parent.name == "nuswide")
    labels = folder / "Groundtruth" / "TrainTestLabels"
    for name in (labels, folder / "ImageList", folder / "ConceptsList", folder / "splits"):
        name.mkdir(parents=True, exist_ok=True)
    (folder / "ConceptsList" / "Concepts81.txt").write_text("\n".join(CLASSES) + "\n")
    (folder / "ImageList" / "TrainImagelist.txt").write_text("\n".join(IMAGES) + "\n")
    for k, concept in enumerate(CLASSES):
        (labels / f"Labels_{concept}_Train.txt").write_text("".join(f"{int(k % 4 > i)}\n" for i in range(len(IMAGES))))


def csv_list() -> str:
    """Return ``nus_wid_data.csv``."""
    rows = [f'{path[:-4]},"{CLASSES[:i]!r}",train' for i, path in enumerate(IMAGES, 1)]
    return "\n".join(["path,labels,split", *rows, ""])
