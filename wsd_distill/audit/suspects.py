"""The labels that look wrong or missing, each with its photo, box and scores, and their CSV."""

from __future__ import annotations

import csv
import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.special import expit

from wsd_distill.io import atomic_write
from wsd_distill.tagging import Tagger

from .held_out import HeldOut
from .ranking import calibrate_classes, rank_suspects

COLUMNS = ("file", "label", "decision", "tag", "suspicion", "teacher", "tagger", "x1", "y1", "x2", "y2", "split")


class Suspect(NamedTuple):
    """A label of a photo that looks wrong or missing."""

    file: str  # relative to the folder of the photos
    label: str
    is_present: bool  # among the tags of the photo
    suspicion: float
    teacher: float  # calibrated probability of the held-out teacher
    tagger: float  # calibrated probability of the tagger, which may have been trained on the photo
    box: tuple[float, float, float, float] | None  # x1, y1, x2, y2 in pixels of the photo
    split: str
    tags: list[str]  # of the photo


def find_suspects(found: HeldOut, images: Path, tagger: Tagger, top: int) -> list[Suspect]:
    """Return the ``top`` most suspicious labels, the first one first.

    Args:
        found: held-out scores; the image ids are file names.
        images: folder of the photos.
        tagger: the student that was kept; it runs on the photos of the suspects only.
        top: number of suspects.

    Raises:
        ValueError: the classes of the tagger are others.
        ImageError: a photo cannot be read; names it.
    """
    if tagger.classes != found.class_names:
        raise ValueError(f"the model folder has other classes than the photos: {tagger.classes}, {found.class_names}")
    teacher = expit(calibrate_classes(found.scores, found.labels))
    ranking = rank_suspects(found.scores, found.labels, top)
    photos, places = np.unique(ranking.rows, return_inverse=True)
    own = _run_tagger(tagger, [str(images / str(found.image_ids[row])) for row in photos.tolist()])
    suspects = []
    for row, k, value, place in zip(ranking.rows.tolist(), ranking.classes.tolist(), ranking.suspicion, places):
        box = found.boxes[row, k].tolist()
        suspects.append(
            Suspect(
                file=str(found.image_ids[row]),
                label=found.class_names[k],
                is_present=bool(found.labels[row, k] == 1),
                suspicion=float(value),
                teacher=float(teacher[row, k]),
                tagger=float(own[place, k]),
                box=None if np.isnan(box).any() else tuple(box),
                split=found.splits[row],
                tags=[found.class_names[j] for j in np.flatnonzero(found.labels[row] == 1)],
            )
        )
    return suspects


def write_suspects(path: Path, suspects: Sequence[Suspect]) -> None:
    """Write a CSV with an empty column ``decision``, which ``wsd train --decisions`` reads once it is filled in."""
    with atomic_write(path) as tmp_path, open(tmp_path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for x in suspects:
            scores = [f"{value:.4f}" for value in (x.suspicion, x.teacher, x.tagger)]
            box = [""] * 4 if x.box is None else [f"{value:.1f}" for value in x.box]
            writer.writerow([x.file, x.label, "", "present" if x.is_present else "absent", *scores, *box, x.split])


def _run_tagger(tagger: Tagger, files: list[str | os.PathLike], batch: int = 32) -> np.ndarray:
    """Return the probabilities (N, K) of photos."""
    parts = [np.zeros((0, len(tagger.classes)), np.float32)]
    for start in range(0, len(files), batch):
        parts.append(tagger.probabilities(np.stack([tagger.read(file) for file in files[start : start + batch]])))
    return np.concatenate(parts)
