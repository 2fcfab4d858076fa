"""Scores of photos from models that were not trained on them. A second start goes on: each part is a file."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.utils.data
from detectron2.config import instantiate
from omegaconf import DictConfig
from torch import nn
from tqdm import tqdm

from wsd_distill.data.build import get_dataset_dicts
from wsd_distill.data.class_counts import label_matrix
from wsd_distill.data.datasets import SPLITS, get_fold, get_whole_dataset
from wsd_distill.data.transport import collate
from wsd_distill.data.types import DatasetDict
from wsd_distill.distillation.cross_fitting import check_folds
from wsd_distill.engine.trained_run import load_trained_run
from wsd_distill.evaluation.detections import ImageDetections
from wsd_distill.io import atomic_write
from wsd_distill.modeling.checkpoints.load import hash_state

PART = 512  # photos per file


class HeldOut(NamedTuple):
    """N photos and K classes.

    Attributes:
        image_ids: N.
        splits: N, "train", "val" or "test".
        class_names: K.
        labels: (N, K) int8, 1 = present, 0 = absent, -1 = unknown.
        scores: (N, K) float32.
        boxes: (N, K, 4) float32, XYXY_ABS in pixels of the photo: best region of each class; nan without a detector.
    """

    image_ids: list
    splits: list[str]
    class_names: list[str]
    labels: np.ndarray
    scores: np.ndarray
    boxes: np.ndarray


def score_held_out(runs: Sequence[Path], folder: Path, splits: Sequence[str] = SPLITS) -> HeldOut:
    """Score training photos with the model of their fold, and all other photos with the mean of the models.

    A box is that of the model with the highest score for the class.

    Args:
        runs: folders of complete trainings with ``dataset.leave_out=i/K``, i = 0..K-1, of T-WDet or of S-Cls.
        folder: for the scores; parts that it has of the same weights are not computed again.
        splits: of the photos.

    Raises:
        FileNotFoundError: a run is not complete.
        ValueError: a run was trained on other photos than those of its place, or a fold has no photo.
    """
    found: dict[str, list[tuple[np.ndarray, np.ndarray, np.ndarray]]] = {split: [] for split in splits}
    records: dict[str, Sequence[DatasetDict]] = {}
    names: list[str] = []
    for fold, run in enumerate(runs):
        cfg, model = load_trained_run(run)
        names = model.class_names
        datasets = {**cfg.dataset, "train": get_whole_dataset(cfg.dataset.train, cfg.dataset.leave_out)}
        if not fold:
            check_folds([str(run / "model_final.pth") for run in runs], datasets["train"])
            records = {split: get_dataset_dicts(datasets[split]) for split in splits}
        digest = hash_state(model.state_dict())
        for split in splits:
            of_fold = [split != "train" or get_fold(x["image_id"], len(runs)) == fold for x in records[split]]
            rows = np.flatnonzero(of_fold)
            if not len(rows):
                raise ValueError(f"no photo of {split} is in fold {fold} of {len(runs)}: an audit needs more photos")
            photos = _photos(cfg, datasets[split], split)
            ids = [records[split][int(row)]["image_id"] for row in rows]
            bar = tqdm(total=len(rows), desc=f"scores of {split}, {fold + 1} of {len(runs)}", unit=" photos")
            parts = []
            with bar:
                for start in range(0, len(rows), PART):
                    path = folder / f"{split}_{fold}_{start:07d}.npz"
                    chosen = slice(start, start + PART)
                    parts.append(_read_or_score(path, digest, ids[chosen], model, photos, rows[chosen], bar))
            scores, boxes = (np.concatenate(column) for column in zip(*parts))
            found[split].append((rows, scores, boxes))
    merged = [_merge(found[split], len(records[split])) for split in splits]
    return HeldOut(
        [record["image_id"] for split in splits for record in records[split]],
        [split for split in splits for _ in records[split]],
        names,
        np.concatenate([label_matrix(records[split], len(names), split) for split in splits]),
        *(np.concatenate(column) for column in zip(*merged)),
    )


def _photos(cfg: DictConfig, dataset: str, split: str) -> torch.utils.data.DataLoader:
    """Return a loader of the test views of all photos of a split, with the proposals of the config if it has any."""
    config = copy.deepcopy(cfg.dataloader.test.val.loader)  # keeps its parent, which interpolations refer to
    config.dataset = dataset
    if config.proposals is not None:
        config.proposals = cfg.proposals[split]
    return instantiate(config)


def _read_or_score(
    path: Path,
    digest: str,
    ids: list,
    model: nn.Module,
    photos: torch.utils.data.DataLoader,
    rows: np.ndarray,
    bar: tqdm,
) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (n, K) and boxes (n, K, 4) of some photos, from ``path`` if it has them from the same weights."""
    if path.exists():
        with np.load(path) as arrays:
            if str(arrays["weights_digest"]) == digest and arrays["image_ids"].tolist() == ids:
                bar.update(len(ids))
                return arrays["scores"], arrays["boxes"]
    part = torch.utils.data.DataLoader(
        torch.utils.data.Subset(photos.dataset, rows.tolist()),
        batch_size=photos.batch_size,
        num_workers=photos.num_workers,
        collate_fn=collate,
    )
    results = []
    with torch.no_grad():
        for batch in part:
            results += [_read_output(output) for output in model(batch)]
            bar.update(len(batch))
    scores, boxes = (np.stack(column) for column in zip(*results))
    arrays = {"scores": scores, "boxes": boxes, "image_ids": np.array(ids), "weights_digest": np.array(digest)}
    with atomic_write(path) as tmp_path, open(tmp_path, "wb") as file:
        np.savez(file, **arrays)
    return scores, boxes


def _read_output(output: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return scores (K,) and the best box of each class (K, 4) of a photo."""
    scores = output["image_scores"].float().cpu().numpy()
    boxes = np.full((len(scores), 4), np.nan, np.float32)
    if "instances" in output:
        found = output["instances"].to("cpu")
        columns = found.pred_boxes.tensor.numpy(), found.scores.numpy(), found.pred_classes.numpy()
        best = ImageDetections.best(*columns, len(scores))
        has_box = np.diff(best.starts) > 0
        boxes[has_box] = best.boxes[best.starts[:-1][has_box]]
    return scores, boxes


def _merge(parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return mean scores (N, K), and the boxes (N, K, 4) that belong to the highest scores."""
    num_classes = parts[0][1].shape[1]
    total, times = np.zeros((count, num_classes)), np.zeros((count, 1))
    best, boxes = np.full((count, num_classes), -1.0), np.full((count, num_classes, 4), np.nan, np.float32)
    for rows, scores, found in parts:
        total[rows] += scores
        times[rows] += 1
        higher = scores > best[rows]
        best[rows] = np.where(higher, scores, best[rows])
        boxes[rows] = np.where(higher[..., None], found, boxes[rows])
    return (total / times).astype(np.float32), boxes
