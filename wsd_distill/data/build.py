"""Data loaders for LazyConfigs, optionally with proposals."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import numpy as np
import torch.utils.data
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset, build_detection_train_loader
from detectron2.data.build import trivial_batch_collator
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import BoxMode

from .datasets.catalog import get_source_dataset
from .image import ImageError
from .proposal_store import ProposalStore, check_sample
from .types import DatasetDict

logger = logging.getLogger(__name__)


class DatasetWithProposals(torch.utils.data.Dataset):
    """Dataset dicts with their proposals, best first, under Detectron2's keys.

    An image that is not in the store raises a KeyError.
    """

    def __init__(self, dicts: list[DatasetDict], store: ProposalStore) -> None:
        self._dicts, self._store = DatasetFromList(dicts, copy=False), store
        self._rows = np.array([store.row_index(record["image_id"]) for record in dicts], dtype=np.int64)

    def __len__(self) -> int:
        return len(self._dicts)

    def __getitem__(self, index: int) -> DatasetDict:
        record = self._dicts[index]  # unpickled, hence a copy
        row = self._rows.item(index)
        record["proposal_boxes"], record["proposal_objectness_logits"] = self._store.read_row(row)
        record["proposal_bbox_mode"] = BoxMode.XYXY_ABS
        record["proposal_image"] = self._store.image_stamp(row)
        return record


def get_dataset_dicts(name: str, subsample: int | None = None) -> list[DatasetDict]:
    """Load a registered dataset, or ``subsample`` of its images, evenly spaced.

    Raises:
        KeyError: unknown name; lists the registered ones.
        ValueError: an image lacks a required key of :class:`DatasetDict`.
    """
    dicts = DatasetCatalog.get(name)
    if subsample is not None and subsample < len(dicts):
        dicts = [dicts[i * len(dicts) // subsample] for i in range(subsample)]
    for record in dicts:
        missing = sorted(DatasetDict.__required_keys__ - record.keys())
        if missing:
            image = f"{record.get('image_id')!r} ({record.get('file_name')})"
            raise ValueError(f"{name}: image {image} has no key {missing[0]!r}")
    return dicts


def build_train_loader(
    dataset: str,
    *,
    mapper: Callable[[DatasetDict], Any],
    total_batch_size: int,
    proposals: str | None = None,
    num_workers: int = 0,
    max_corrupt_images: int = 20,
) -> torch.utils.data.DataLoader:
    """Build Detectron2's infinite, shuffled training loader.

    Images that cannot be read are skipped with a warning and replaced by random ones.

    Args:
        dataset: registered name.
        mapper: maps a dataset dict to a model input.
        total_batch_size: images per step over all ranks.
        proposals: path of the dataset's proposal store; None loads no proposals.
        num_workers: loader processes per rank.
        max_corrupt_images: number of unreadable images tolerated per worker; one more raises ImageError.
    """
    return build_detection_train_loader(
        SkipCorruptImages(_load_records(dataset, proposals), mapper, max_corrupt_images),
        mapper=None,
        total_batch_size=total_batch_size,
        aspect_ratio_grouping=False,
        num_workers=num_workers,
    )


def build_test_loader(
    dataset: str,
    *,
    mapper: Callable[[DatasetDict], Any],
    batch_size: int = 1,
    proposals: str | None = None,
    num_workers: int = 0,
    subsample: int | None = None,
) -> torch.utils.data.DataLoader:
    """Build a loader that reads every image once, split over ranks.

    Adds batches to Detectron2 0.6's own test loader, which has a batch size of 1. An image that cannot be read raises
    ImageError: skipping it would change the results.

    Args:
        batch_size: images per batch and rank.
        subsample: as in :func:`get_dataset_dicts`; other arguments as in :func:`build_train_loader`.
    """
    records = _load_records(dataset, proposals, subsample)
    return torch.utils.data.DataLoader(
        MapDataset(records, mapper),
        batch_size=batch_size,
        sampler=InferenceSampler(len(records)),
        num_workers=num_workers,
        collate_fn=trivial_batch_collator,
    )


class SkipCorruptImages(torch.utils.data.Dataset):
    """Apply a mapper; replace images that cannot be read by random ones.

    Detectron2's MapDataset has this too, for mappers that return None, but fails from Python 3.11 on. More than
    ``max_corrupt_images`` such files raise an ImageError.
    """

    def __init__(self, records: DatasetFromList | DatasetWithProposals, mapper: Callable, max_corrupt_images: int):
        self.records, self.mapper, self.max_corrupt_images = records, mapper, max_corrupt_images
        self.corrupt_files: set[str] = set()

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Any:
        while True:
            try:
                return self.mapper(self.records[index])
            except ImageError as error:
                if error.file_name not in self.corrupt_files:
                    self.corrupt_files.add(error.file_name)
                    if len(self.corrupt_files) > min(self.max_corrupt_images, len(self) - 1):
                        raise
                    count = f"{len(self.corrupt_files)} of at most {self.max_corrupt_images} in this process"
                    logger.warning("skipped in training, %s: %s", count, error)
                index = np.random.randint(len(self))


def _load_records(
    name: str, proposals: str | None, subsample: int | None = None
) -> DatasetFromList | DatasetWithProposals:
    dicts = get_dataset_dicts(name, subsample)
    if proposals is None:
        return DatasetFromList(dicts, copy=False)
    store = ProposalStore(proposals, dataset_name=get_source_dataset(name))
    check_sample(store, dicts)
    return DatasetWithProposals(dicts, store)
