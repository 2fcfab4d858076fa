"""Frozen-teacher outputs for the training images, on disk: written once, read in all epochs and stages.

The folder has one NumPy file for the logits of both branches and one for each feature map used by an objective. A row
is a view of an image: rows 2i and 2i + 1 are image i as it is and mirrored. A second file has a checksum of each row's
view; 0 marks a row not written yet.
"""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.data
from detectron2.utils import comm
from torch import Tensor, nn
from tqdm import tqdm

from wsd_distill.data.build import build_test_loader, get_dataset_dicts
from wsd_distill.data.image import ImageError
from wsd_distill.io import atomic_write, file_lock
from wsd_distill.modeling import WSDDN, WSDDNOutput

logger = logging.getLogger(__name__)

LOGITS = "logits"
HINT = "Delete the folder or set distiller.cache.folder."


class StaleCacheError(RuntimeError):
    """The cache was built with another teacher or from other views."""


class TeacherCache:
    """Writes and reads a folder of T-WDet outputs for a dataset.

    Logits are stored in float32, feature maps in half precision.

    Args:
        folder: created if missing; belongs to one teacher.
        dataset: registered name of the training dataset.
        proposals: file of its proposal store.
        mapper: MultiLabelMapper with ``tta=True`` and a single size, that of the teacher.
        batch_size: images per batch of the teacher, each with all its views.
        num_workers: workers of the loader.
    """

    def __init__(
        self, folder: str, *, dataset: str, proposals: str, mapper: Callable, batch_size: int = 8, num_workers: int = 0
    ):
        self.folder, self.dataset, self.proposals = Path(folder), dataset, proposals
        self.mapper, self.batch_size, self.num_workers = mapper, batch_size, num_workers
        self._files: dict[str, tuple[np.ndarray, np.ndarray]] = {}  # name -> data, checksums

    @cached_property
    def _rows(self) -> dict[Any, int]:
        """image_id -> row of the image as it is; the mirrored image is in the next row."""
        return {record["image_id"]: 2 * i for i, record in enumerate(get_dataset_dicts(self.dataset))}

    def fill(self, teacher: WSDDN, features: Sequence[str] = ()) -> None:
        """Write missing logits and feature maps for the views of all images.

        Ranks share the work. A second process that fills the same folder waits. Images that cannot be read are skipped,
        as in training.

        Args:
            teacher: T-WDet in eval mode.
            features: names of the feature maps.

        Raises:
            StaleCacheError: The folder was built with another teacher or other settings.
            ValueError: The mapper has several sizes, or no image can be read.
            OSError: The disk is full.
        """
        if len(self.mapper.sides) > 1:
            raise ValueError(
                f"the teacher cache supports one size, got {list(self.mapper.sides)}: set a single "
                "mapper.teacher_sizes or distiller.use_cache=False"
            )
        names = [LOGITS, *features]
        self.folder.mkdir(parents=True, exist_ok=True)
        logger.info("Teacher cache: %s (one process fills it at a time)", self.folder)
        if comm.is_main_process():
            with file_lock(self.folder / "lock", wait=True):
                self._check_key(self._key(teacher))
                self._preallocate(teacher, names)
        comm.synchronize()
        self._files = {name: tuple(np.load(path, mmap_mode="r+") for path in self._paths(name)) for name in names}
        with file_lock(self.folder / f"rank{comm.get_rank()}.lock", wait=True):
            self._write_missing(teacher, names)
        comm.synchronize()

    def read(self, views: list[dict], features: Sequence[str], device: torch.device) -> WSDDNOutput:
        """Return teacher outputs for N views of the mapper, as ``WSDDN.compute_outputs`` does.

        Args:
            views: dicts with ``image_id``, ``flip`` and ``proposals``.
            features: names of the feature maps.
            device: device of the outputs.

        Raises:
            StaleCacheError: An image is missing, or was cached at another size or with other proposals.
            RuntimeError: The cache has not been filled.
        """
        if not self._files:
            raise RuntimeError("the teacher cache is not filled: call Distiller.fill_cache before the first step")
        names = [LOGITS, *features]
        rows = [self._row(view) for view in views]
        for view, row in zip(views, rows):
            checksum = _checksum(view)
            if any(self._files[name][1][row] != checksum for name in names):
                raise StaleCacheError(
                    f"{self.folder}: built without image {view['image_id']!r}, with different proposals for it or at "
                    f"another size. {HINT}"
                )
        logits, *maps = (torch.from_numpy(self._files[name][0][rows]).to(device).float() for name in names)
        boxes = [view["proposals"].proposal_boxes.to(device) for view in views]
        return WSDDNOutput(dict(zip(features, maps)), boxes, list(logits[:, 0]), list(logits[:, 1]))

    def _row(self, view: dict) -> int:
        if view["image_id"] not in self._rows:
            raise StaleCacheError(f"{self.folder}: image {view['image_id']!r} is not in dataset {self.dataset!r}")
        return self._rows[view["image_id"]] + view["flip"]

    def _key(self, teacher: WSDDN) -> dict:
        ids = hashlib.sha256(repr(list(self._rows)).encode()).hexdigest()
        scale = f"{teacher.score_scale} * s + {teacher.score_shift}"
        return {
            "teacher": _digest(teacher),
            "pooling": f"{teacher.in_feature}, {scale}, {teacher.box_pooler}",
            "images": f"{len(self._rows)}, {ids}",
            "side": self.mapper.sides,
            "proposals": self.mapper.num_proposals,
            "fast": self.mapper.fast,
        }

    def _check_key(self, key: dict) -> None:
        path = self.folder / "key.json"
        if not path.exists():
            with atomic_write(path) as tmp_path:
                tmp_path.write_text(json.dumps(key, indent=1))
        found = json.loads(path.read_text())
        different = [name for name in key if found.get(name) != key[name]]
        if different:
            raise StaleCacheError(
                f"{self.folder}: built with another {', another '.join(different)} (key.json). {HINT}"
            )

    def _paths(self, name: str) -> tuple[Path, Path]:
        return self.folder / f"{name}.npy", self.folder / f"{name}.checksums.npy"

    def _preallocate(self, teacher: WSDDN, names: list[str]) -> None:
        """Create missing files and reserve disk space for all rows still to be written.

        The files are memory-mapped: writing to one on a full disk kills the process without an error.
        """
        new = [name for name in names if not self._paths(name)[1].exists()]
        example = self._example_rows(teacher, new) if new else {}
        size = sum(row.nbytes for row in example.values()) * len(self._rows) * self._views_per_image
        if size > shutil.disk_usage(self.folder).free:
            raise self._disk_full(size)
        for name in names:
            data, checksums = self._paths(name)
            if name not in example:
                self._reserve(data, np.load(checksums))
                continue
            empty = np.zeros(2 * len(self._rows), np.uint32)
            with atomic_write(data) as tmp_path:
                shape = (len(empty), *example[name].shape[1:])
                np.lib.format.open_memmap(tmp_path, "w+", example[name].dtype, shape)
                self._reserve(tmp_path, empty)
            with atomic_write(checksums) as tmp_path, open(tmp_path, "wb") as file:  # last: it marks a complete file
                np.save(file, empty)

    def _reserve(self, path: Path, checksums: np.ndarray) -> None:
        """Reserve disk space for the missing rows of a data file."""
        data, rows = np.load(path, mmap_mode="r"), np.flatnonzero(self._missing(checksums))
        row_size = data.strides[0]
        try:
            with open(path, "r+b") as file:
                for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                    if len(run):
                        os.posix_fallocate(file.fileno(), data.offset + int(run[0]) * row_size, len(run) * row_size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._disk_full(len(rows) * row_size) from error

    def _disk_full(self, size: int) -> OSError:
        free = shutil.disk_usage(self.folder).free
        return OSError(
            f"{self.folder}: the teacher cache needs {size:,} bytes, the disk has {free:,}. Set distiller.cache.folder "
            "to a disk with more space, or distiller.use_cache=False."
        )

    @property
    def _views_per_image(self) -> int:
        return 2 if self.mapper.flip_prob else 1

    def _missing(self, checksums: np.ndarray) -> np.ndarray:
        """Return (2N,) booleans: rows that are needed and not written yet."""
        missing = checksums.reshape(-1, 2) == 0
        missing[:, self._views_per_image :] = False
        return missing.reshape(-1)

    def _write_missing(self, teacher: WSDDN, names: list[str]) -> None:
        rows = np.any([self._missing(self._files[name][1]) for name in names], axis=0)
        indices = np.flatnonzero(rows.reshape(-1, 2).any(axis=1))
        # By index in the dataset, not among the missing images: other ranks may be writing already.
        indices = indices[indices % comm.get_world_size() == comm.get_rank()]
        if not len(indices):
            return
        loader = torch.utils.data.DataLoader(
            self._views(indices), batch_size=self.batch_size, num_workers=self.num_workers, collate_fn=_flatten
        )
        for views in tqdm(loader, "teacher cache", unit="batch", disable=not comm.is_main_process()):
            if views:
                self._write(views, self._compute_rows(teacher, views, names))

    def _write(self, views: list[dict], output: dict[str, np.ndarray]) -> None:
        rows = np.array([self._row(view) for view in views])
        new_checksums = np.array([_checksum(view) for view in views], dtype=np.uint32)
        for name, array in output.items():
            data, checksums = self._files[name]
            new = checksums[rows] != new_checksums  # another process may be reading the rows that are there
            data[rows[new]] = array[new]
            checksums[rows[new]] = new_checksums[new]  # after the data: a row with a checksum is complete

    def _views(self, indices: Sequence[int]) -> _Views:
        images = build_test_loader(self.dataset, mapper=self.mapper, proposals=self.proposals).dataset
        return _Views(images, indices)

    def _example_rows(self, teacher: WSDDN, names: list[str]) -> dict[str, np.ndarray]:
        """Compute the rows of one view of the first readable image."""
        views = next((views for views in self._views(range(len(self._rows))) if views), None)
        if views is None:
            raise ValueError(f"{self.folder}: no image of dataset {self.dataset!r} can be read")
        return self._compute_rows(teacher, views[:1], names)

    @torch.no_grad()
    def _compute_rows(self, teacher: WSDDN, views: list[dict], names: list[str]) -> dict[str, np.ndarray]:
        """Return name -> array with one row per view, as stored on disk."""
        output = teacher.compute_outputs(views)
        logits = torch.stack([torch.stack(output.cls_logits), torch.stack(output.det_logits)], dim=1).float()
        rows = {LOGITS: logits, **{name: _to_half(output.features[name], name) for name in names if name != LOGITS}}
        return {name: rows[name].cpu().numpy() for name in names}


class _Views(torch.utils.data.Dataset):
    """Views of the given images, with their image_id; an empty list for an image that cannot be read."""

    def __init__(self, images: torch.utils.data.Dataset, indices: Sequence[int]):
        self.images, self.indices = images, indices

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, i: int) -> list[dict]:
        if i >= len(self):
            raise IndexError(i)
        try:
            image = self.images[int(self.indices[i])]
        except ImageError as error:
            logger.warning("skipped in the teacher cache: %s", error)
            return []
        return [{**view, "image_id": image["image_id"]} for view in image["views"]]


def _flatten(images: list[list[dict]]) -> list[dict]:
    return [view for views in images for view in views]


def _to_half(x: Tensor, name: str) -> Tensor:
    half = x.half()
    if not torch.isfinite(half).all():
        raise ValueError(f"teacher feature map {name}: values exceed half precision. Set distiller.use_cache=False.")
    return half


def _checksum(view: dict) -> int:
    """Return a checksum of the teacher's input: image_id, flip, size and proposals; never 0."""
    proposals = view["proposals"]
    checksum = zlib.crc32(repr((view["image_id"], view["flip"], proposals.image_size)).encode())
    checksum = zlib.crc32(proposals.proposal_boxes.tensor.numpy(), checksum)
    return zlib.crc32(proposals.scores.numpy(), checksum) or 1


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def default_cache_dir(checkpoint: str) -> str:
    """Return the cache folder of a teacher's checkpoint, ``teacher_cache`` next to the file."""
    return os.path.join(os.path.dirname(checkpoint), "teacher_cache")
