"""Data loaders for LazyConfigs, optionally with proposals."""

from __future__ import annotations

import logging
import random
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Union

import numpy as np
import torch.utils.data
from detectron2.data import DatasetCatalog, DatasetFromList, MapDataset
from detectron2.data.samplers import InferenceSampler
from detectron2.structures import BoxMode
from detectron2.utils import comm

from .datasets.arrow_records import ArrowRecords, list_ids, select_records
from .datasets.catalog import get_source_dataset
from .image import ImageError
from .proposal_store import ProposalStore, check_sample
from .transport import collate
from .types import DatasetDict

logger = logging.getLogger(__name__)


Records = Union[DatasetFromList, ArrowRecords, "DatasetWithProposals"]


class DatasetWithProposals(torch.utils.data.Dataset):
    """Dataset dicts with their proposals, best first, under Detectron2's keys.

    An image that is not in the store raises a KeyError, one whose proposals are not finite a ValueError.
    """

    def __init__(self, dicts: Sequence[DatasetDict], store: ProposalStore) -> None:
        self._dicts, self._store = _serialize(dicts), store
        self._rows = np.fromiter((store.row_index(image_id) for image_id in list_ids(dicts)), np.int64, len(dicts))

    def __len__(self) -> int:
        return len(self._dicts)

    def __getitem__(self, index: int) -> DatasetDict:
        record = self._dicts[index]  # unpickled or made anew, hence a copy
        row = self._rows.item(index)
        record["proposal_boxes"], record["proposal_objectness_logits"] = self._store.read_row(row)
        record["proposal_bbox_mode"] = BoxMode.XYXY_ABS
        record["proposal_image"] = self._store.image_stamp(row)
        return record


def get_dataset_dicts(name: str, subsample: int | None = None) -> Sequence[DatasetDict]:
    """Load a registered dataset, or ``subsample`` of its images, evenly spaced: a list or ArrowRecords.

    Raises:
        KeyError: unknown name; lists the registered ones.
        ValueError: an image lacks a required key of :class:`DatasetDict`.
    """
    dicts = DatasetCatalog.get(name)
    if subsample is not None and subsample < len(dicts):
        dicts = select_records(dicts, [i * len(dicts) // subsample for i in range(subsample)])
    for record in () if isinstance(dicts, ArrowRecords) else dicts:
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
    seed: int = 0,
    start_batch: int = 0,
    mix: Callable[[list], list] | None = None,
) -> torch.utils.data.DataLoader:
    """Build an infinite, shuffled training loader.

    Unlike Detectron2's, the images and their random numbers depend only on ``seed`` and on the position in the stream
    of images, not on ``num_workers`` or on what was read before, so that a resumed training continues with the same
    inputs. Images that cannot be read are skipped with a warning and replaced by random ones.

    Args:
        dataset: registered name.
        mapper: maps a dataset dict to a model input, with random numbers of NumPy or Python. Those of PyTorch belong to
            the model, because without workers a thread of its process runs the mapper.
        total_batch_size: images per step over all ranks.
        proposals: path of the dataset's proposal store; None loads no proposals.
        num_workers: loader processes per rank.
        max_corrupt_images: number of unreadable images tolerated per worker; one more raises ImageError.
        seed: of the order and of the random numbers.
        start_batch: number of batches to skip.
        mix: applied to each batch (:class:`~wsd_distill.data.mix.MixImages`).

    Raises:
        ValueError: ``total_batch_size`` is not a multiple of the number of ranks, or the dataset is empty.
    """
    world_size = comm.get_world_size()
    if total_batch_size % world_size or total_batch_size < 1:
        raise ValueError(
            f"{total_batch_size} images of a batch cannot be split over {world_size} processes: set train.batch_size "
            "divided by trainer.accumulate to a multiple of their number"
        )
    images = SkipCorruptImages(_load_records(dataset, proposals), mapper, max_corrupt_images)
    if not len(images):
        raise ValueError(f"dataset {dataset} has no image: training needs at least one")
    return torch.utils.data.DataLoader(
        SeededDataset(images, seed),
        batch_size=total_batch_size // world_size,
        sampler=ResumableSampler(len(images), seed, start_batch * total_batch_size),
        num_workers=num_workers,
        collate_fn=partial(collate, mix=mix),
        drop_last=True,
    )


class ResumableSampler(torch.utils.data.Sampler):
    """Endless stream of (position, index) of this rank; each ``size`` positions are a permutation of the indices.

    As in Detectron2's TrainingSampler ranks take turns, but the stream can begin anywhere: the permutation of an epoch
    depends only on ``seed`` and the number of the epoch.

    Args:
        size: number of images.
        seed: the same on all ranks.
        start: first position, over all ranks.
    """

    def __init__(self, size: int, seed: int, start: int = 0):
        self.size, self.seed, self.start = size, seed, start

    def __iter__(self) -> Iterator[tuple[int, int]]:
        position, last_epoch = self.start + comm.get_rank(), -1
        while True:
            epoch, offset = divmod(position, self.size)
            if epoch != last_epoch:
                indices = np.arange(self.size, dtype=np.int32)  # half the memory of 64 bits, in the same order
                order, last_epoch = np.random.default_rng((self.seed, epoch)).permutation(indices), epoch
            yield position, int(order[offset])
            position += comm.get_world_size()


class SeededDataset(torch.utils.data.Dataset):
    """Read items by (position, index), each with random numbers that depend only on ``seed`` and the position.

    Seeds Python's and NumPy's generators; PyTorch's only in a loader process (see :func:`build_train_loader`).
    """

    def __init__(self, dataset: torch.utils.data.Dataset, seed: int):
        self.dataset, self.seed = dataset, seed

    def __getitem__(self, key: tuple[int, int]) -> Any:
        position, index = key
        state = np.random.SeedSequence((self.seed, position)).generate_state(4)
        np.random.seed(state)
        random.seed(state.tobytes())
        if torch.utils.data.get_worker_info() is not None:
            torch.manual_seed(int(state[0]))
        return self.dataset[index]


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
        collate_fn=collate,
    )


class SkipCorruptImages(torch.utils.data.Dataset):
    """Apply a mapper; replace images that cannot be read by random ones.

    Detectron2's MapDataset has this too, for mappers that return None, but fails from Python 3.11 on. More than
    ``max_corrupt_images`` such files raise an ImageError.
    """

    def __init__(self, records: Records, mapper: Callable, max_corrupt_images: int):
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


def _serialize(dicts: Sequence[DatasetDict]) -> DatasetFromList | ArrowRecords:
    """Return dataset dicts in a form that worker processes share."""
    return dicts if isinstance(dicts, ArrowRecords) else DatasetFromList(dicts, copy=False)


def _load_records(name: str, proposals: str | None, subsample: int | None = None) -> Records:
    dicts = get_dataset_dicts(name, subsample)
    if proposals is None:
        return _serialize(dicts)
    store = ProposalStore(proposals, dataset_name=get_source_dataset(name))
    check_sample(store, dicts)
    return DatasetWithProposals(dicts, store)
