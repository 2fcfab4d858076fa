"""Loaders for LazyConfigs: the dicts of a registered dataset, with proposals where a store is named, mapped."""

from __future__ import annotations

import logging
from collections.abc import Callable

import numpy as np
import torch.utils.data
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, build_detection_train_loader
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import BoxMode

from .datasets.catalog import get_source_dataset
from .image import ImageError
from .proposal_store import ProposalStore

logger = logging.getLogger(__name__)


class DatasetWithProposals(torch.utils.data.Dataset):
    """Dataset dicts with their image's proposals, the best first, under Detectron2's keys.

    Raises:
        KeyError: the store lacks an image.
    """

    def __init__(self, dicts: list[dict], store: ProposalStore) -> None:
        self._records, self._store = DatasetFromList(dicts, copy=False), store
        self._rows = np.array([store.row_of(record["image_id"]) for record in dicts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> dict:
        record = self._records[index]  # a copy
        record["proposal_boxes"], record["proposal_objectness_logits"] = self._store.read(self._rows.item(index))
        record["proposal_bbox_mode"] = BoxMode.XYXY_ABS
        return record


def get_dataset_dicts(name: str, subsample: int | None = None) -> list[dict]:
    """Dataset dicts of a registered dataset, or of so many of its images, evenly spaced over it.

    Raises:
        KeyError: lists the registered names.
        ValueError: an image without the key ``labels`` (named).
    """
    dicts = DatasetCatalog.get(name)
    if subsample is not None and subsample < len(dicts):
        dicts = [dicts[i * len(dicts) // subsample] for i in range(subsample)]
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
    max_corrupt_images: int = 20,
):
    """Detectron2's endless, shuffled training loader.

    An image that cannot be read is skipped: a warning names and counts it, and another image takes its place.

    Args:
        dataset: a registered name. mapper: dataset dict -> what a model takes.
        total_batch_size: images of a step, over all ranks.
        proposals: file of a proposal store of this dataset; None gives the mapper no proposals.
        max_corrupt_images: more such images than this, in one worker, are an ImageError; 0 makes the first one an error.
    """
    records = _records(get_dataset_dicts(dataset), dataset, proposals)
    return build_detection_train_loader(
        SkipUnreadable(records, mapper, max_corrupt_images),
        mapper=None,
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
    subsample: int | None = None,
):
    """Every image once, split over ranks, in batches (Detectron2 0.6's own test loader knows batches of one only).

    An image that cannot be read is an ImageError here: results over other images would be other results.

    Args:
        subsample: only so many images, from all over a dataset, for its list may be sorted by label. Others as in
            build_train_loader.
    """
    records = _records(get_dataset_dicts(dataset, subsample), dataset, proposals)
    return torch.utils.data.DataLoader(
        MapDataset(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        num_workers=num_workers,
        collate_fn=_as_list,
    )


class SkipUnreadable(torch.utils.data.Dataset):
    """Mapped records; one whose image is an ImageError is replaced by another, drawn at random.

    Not left to Detectron2's MapDataset, whose draw for a mapper that returns None fails from Python 3.11 on.
    """

    def __init__(self, records: torch.utils.data.Dataset, mapper: Callable, max_corrupt_images: int):
        self.records = records
        self.mapper = mapper
        self.max_corrupt_images = max_corrupt_images
        self.unreadable = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> dict:
        while True:
            try:
                return self.mapper(self.records[index])
            except ImageError as error:
                self._skip(error)
                index = np.random.randint(len(self))

    def _skip(self, error: ImageError) -> None:
        if error.file_name in self.unreadable:
            return
        self.unreadable.add(error.file_name)
        if len(self.unreadable) > min(self.max_corrupt_images, len(self) - 1):
            raise error
        count = f"{len(self.unreadable)} of at most {self.max_corrupt_images} in this process"
        logger.warning("skipped in training, %s: %s", count, error)


def _records(dicts: list[dict], name: str, proposals: str | None) -> torch.utils.data.Dataset:
    if proposals is None:
        return DatasetFromList(dicts, copy=False)
    return DatasetWithProposals(dicts, ProposalStore(proposals, dataset_name=get_source_dataset(name)))


def _as_list(batch: list[dict]) -> list[dict]:
    return batch
