"""Loaders for LazyConfigs: the dicts of a registered data set, with proposals where a store is named, mapped."""

from __future__ import annotations

from collections.abc import Callable

import torch.utils.data
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, build_detection_train_loader
from detectron2.data.samplers import InferenceSampler

from .datasets.catalog import source_of
from .proposal_store import ProposalStore


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


def build_train_loader(
    dataset: str,
    *,
    mapper: Callable,
    total_batch_size: int,
    proposals: str | None = None,
    num_workers: int = 0,
):
    """Detectron2's endless, shuffled training loader.

    Args:
        dataset: a registered name. mapper: dataset dict -> what a model takes.
        total_batch_size: images of a step, over all ranks.
        proposals: file of a proposal store of this data set; None gives the mapper no proposals.
    """
    return build_detection_train_loader(
        _records(get_dataset_dicts(dataset), dataset, proposals),
        mapper=mapper,
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=False,
        num_workers=num_workers,
    )


def build_test_loader(
    dataset: str,
    *,
    mapper: Callable,
    batch_size: int = 1,
    proposals: str | None = None,
    num_workers: int = 0,
    first: int | None = None,
):
    """Every image once, split over ranks, in batches (Detectron2 0.6's own test loader knows batches of one only).

    Args:
        first: only so many images. Others as in build_train_loader.
    """
    records = _records(get_dataset_dicts(dataset, first), dataset, proposals)
    return torch.utils.data.DataLoader(
        MapDataset(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        num_workers=num_workers,
        collate_fn=_as_list,
    )


def _records(dicts: list[dict], name: str, proposals: str | None) -> torch.utils.data.Dataset:
    records = DatasetFromList(dicts, copy=False)
    if proposals is None:
        return records
    return MapDataset(records, ProposalStore(proposals, dataset_name=source_of(name)).attach)


def _as_list(batch: list[dict]) -> list[dict]:
    return batch
