"""Loaders for LazyConfigs."""

from __future__ import annotations

from collections.abc import Callable

import torch.utils.data
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset
from detectron2.data.samplers import InferenceSampler


def get_dataset_dicts(name: str, first: int | None = None) -> list[dict]:
    """Dataset dicts of a registered data set, or of its first images.

    Raises:
        KeyError: lists the registered names.
        ValueError: an image without the key ``labels`` (named).
    """
    dicts = DatasetCatalog.get(name)[:first]
    for record in dicts:
        if "labels" not in record:
            raise ValueError(f"{name}: image {record.get('image_id')!r} ({record['file_name']}) has no key 'labels'")
    return dicts


def build_test_loader(dataset: list[dict], *, mapper: Callable, batch_size: int = 1, num_workers: int = 0):
    """Every image once, split over ranks, in batches (Detectron2 0.6's own test loader knows batches of one only)."""
    return torch.utils.data.DataLoader(
        MapDataset(DatasetFromList(dataset, copy=False), mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(dataset)),
        num_workers=num_workers,
        collate_fn=_as_list,
    )


def _as_list(batch: list[dict]) -> list[dict]:
    return batch
