"""Frozen-teacher outputs for the training images, on disk: written once, read in all epochs and stages.

The folder has a RowFile for each feature map used by an objective and, if one uses the teacher's scores, one for the
logits of both branches. Row i is the whole image i, not mirrored, in few bits (``distillation.compact``);
``distillation.views`` moves it into the student's view. ``key.json`` has what all rows depend on (format, weights,
settings, image ids, sizes of image files). Each row has a checksum of its view, with the bytes of the image file and
the proposals, and one of its content. Each rank writes the images i with i mod ranks = rank to files of its own.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import itertools
import json
import logging
import os
import shutil
import zlib
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
import torch.utils.data
from detectron2.utils import comm
from torch import Tensor, nn
from tqdm import tqdm

from wsd_distill.data.build import build_test_loader, get_dataset_dicts
from wsd_distill.data.datasets import get_fold
from wsd_distill.data.image import ImageError, image_fingerprint
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.transport import collate
from wsd_distill.data.types import DatasetDict
from wsd_distill.io import atomic_write, file_lock, remove_leftovers
from wsd_distill.modeling import WSDDN, WSDDNOutput

from .compact import pack, pack_logits, unpack, unpack_logits
from .row_file import DamagedCacheError, RowFile, check_free_space, check_kind
from .views import Teacher, get_boxes, run_teacher

logger = logging.getLogger(__name__)

FORMAT = 2  # of the files; 1: logits in float32, maps in half precision
LOGITS = "logits"
HINT = "Set distiller.cache.folder to another one, or delete this folder if no other run needs it."


class StaleCacheError(RuntimeError):
    """The cache was built with another teacher or from other views."""


class TeacherCache:
    """Writes and reads a folder of teacher outputs for a dataset.

    Feature maps are stored in 8 bits and logits in 10, with a step for each channel of an image.

    Args:
        folder: created if missing; belongs to one teacher, or the teachers of all folds.
        dataset: registered name of the training dataset.
        proposals: file of its proposal store; None if the teacher needs none.
        mapper: MultiLabelMapper of the training loader: with ``teacher_sizes``, a single one.
        batch_size: images per batch of the teacher.
        num_workers: workers of the loader.
    """

    def __init__(
        self,
        folder: str,
        *,
        dataset: str,
        proposals: str | None,
        mapper: MultiLabelMapper,
        batch_size: int = 8,
        num_workers: int = 0,
    ):
        self.folder, self.dataset, self.proposals = Path(folder), dataset, proposals
        self.mapper, self.batch_size, self.num_workers = mapper, batch_size, num_workers
        self._files: dict[str, RowFile] = {}
        self._trunk: nn.Module | None = None

    def check_size(self) -> None:
        """Raise ValueError if the mapper has several sizes, or none, for the teacher."""
        if len(self.mapper.teacher_sizes or []) != 1:
            raise ValueError(
                f"the teacher cache supports one size, got {self.mapper.teacher_sizes}: set a single one in "
                "dataloader.train.mapper.teacher_sizes, or distiller.use_cache=False"
            )

    @functools.cached_property
    def _files_by_id(self) -> dict[Any, str]:
        return {record["image_id"]: record["file_name"] for record in get_dataset_dicts(self.dataset)}

    @functools.cached_property
    def _rows(self) -> dict[Any, int]:
        """image_id -> row."""
        return {image_id: i for i, image_id in enumerate(self._files_by_id)}

    def fill(
        self,
        teachers: Collection[Teacher],
        features: Sequence[str],
        logits: bool = True,
        trunk: nn.Module | None = None,
    ) -> None:
        """Write missing feature maps, and logits if ``logits``, for all images.

        Ranks share the work. A second process that fills the same folder waits. Images that cannot be read are skipped,
        as in training.

        Args:
            teachers: in eval mode: one, or the one for the images of each fold (``get_fold``). Each is used before the
                next is drawn, so that they may be one module with other weights.
            features: names of feature maps.
            logits: write logits too.
            trunk: as in ``run_teacher``.

        Raises:
            StaleCacheError: The folder was built with another teacher, other images or other settings.
            DamagedCacheError: A file in the folder is damaged or missing.
            ValueError: The mapper has several sizes, no image can be read, or teacher outputs are not finite.
            DiskFullError: The disk has too little space.
        """
        self.check_size()
        if self.folder.exists() and not self.folder.is_dir():
            raise NotADirectoryError(f"{self.folder} is a file, not a folder: delete it or set distiller.cache.folder")
        self._trunk = trunk
        keys = [self._key(teacher) for teacher in teachers]
        key = {**keys[0], "teacher": " ".join(x["teacher"] for x in keys)}
        names = [LOGITS, *features] if logits else features
        identity, rows = json.dumps(key), len(self._rows)
        files = {name: RowFile(self.folder, name, rows=rows, identity=identity) for name in names}
        self.folder.mkdir(parents=True, exist_ok=True)
        for name in ("lock", f"rank{comm.get_rank()}.lock", "key.json"):
            check_kind(self.folder / name)
        logger.info("Teacher cache: %s (one process fills it at a time)", self.folder)
        if comm.is_main_process():
            with file_lock(self.folder / "lock", wait=True):
                remove_leftovers(self.folder)
                self._check_key(key)
                self._create(next(iter(teachers)), files)
        comm.synchronize()
        for file in files.values():
            file.open()
        self._files = files
        with file_lock(self.folder / f"rank{comm.get_rank()}.lock", wait=True), ExitStack() as stack:
            for file in files.values():
                stack.enter_context(file.writing(comm.get_rank()))
            for fold, teacher in enumerate(teachers):
                self._write_missing(teacher, self._rows_of_fold(fold, len(teachers)))
        comm.synchronize()

    def read(self, views: list[dict], features: Sequence[str], device: torch.device) -> WSDDNOutput:
        """Return teacher outputs for N teacher views of the mapper, as ``run_teacher`` does.

        Views are dicts with ``image_id`` and ``proposals``; ``features`` are names of feature maps. Logits are read if
        the cache was filled with them.

        Raises:
            StaleCacheError: An image is missing, or was cached from another file, at another size or with other
                proposals.
            DamagedCacheError: Rows differ from those written.
            RuntimeError: The cache has not been filled.
        """
        if not self._files:
            raise RuntimeError("the teacher cache is not filled: call Distiller.fill_cache before the first step")
        names = [LOGITS, *features] if LOGITS in self._files else features
        rows = [self._row(view) for view in views]
        for view, row in zip(views, rows):
            checksum = _checksum(view)
            if any(self._files[name].index["input"][row] != checksum for name in names):
                raise StaleCacheError(
                    f"{self.folder}: built without image {view['image_id']!r}, from another file, with different "
                    f"proposals for it or at another size. {HINT}"
                )
        maps = {name: torch.stack([unpack(self._files[name].read(i), device) for i in rows]) for name in features}
        logits = [unpack_logits(self._files[LOGITS].read(i), device) for i in rows if LOGITS in self._files]
        return WSDDNOutput(maps, get_boxes(views, device), [c for c, _ in logits], [d for _, d in logits])

    def _row(self, view: dict) -> int:
        if view["image_id"] not in self._rows:
            raise StaleCacheError(f"{self.folder}: image {view['image_id']!r} is not in dataset {self.dataset!r}")
        return self._rows[view["image_id"]]

    def _key(self, teacher: Teacher) -> dict:
        used = teacher if isinstance(teacher, WSDDN) else teacher.backbone  # a classifier's logits are not used
        ids = hashlib.sha256(repr(list(self._rows)).encode()).hexdigest()
        pooling = f"mean {teacher.pixel_mean.tolist()}, deviation {teacher.pixel_std.tolist()}"
        if isinstance(teacher, WSDDN):
            scale = f"{teacher.score_scale} * s + {teacher.score_shift}"
            pooling = f"{teacher.in_feature}, {scale}, {teacher.box_pooler}"
        return {
            "format": FORMAT,
            "teacher": _hash_weights(used),
            "trunk": None if self._trunk is None else _hash_weights(self._trunk),
            "pooling": pooling,
            "images": f"{len(self._rows)}, {ids}, {image_fingerprint(list(self._files_by_id.values()))}",
            "side": self.mapper.teacher_sizes,
            "proposals": self.mapper.num_proposals if self.proposals else None,
            "fast": self.mapper.fast_decode,
        }

    def _check_key(self, key: dict) -> None:
        path = self.folder / "key.json"
        if not path.exists():
            with atomic_write(path) as tmp_path:
                tmp_path.write_text(json.dumps(key, indent=1))
        try:
            found = dict(json.loads(path.read_text()))
        except (ValueError, TypeError, RecursionError) as error:
            raise DamagedCacheError(path, "is not the JSON file that was written") from error
        different = [name for name in key if found.get(name) != key[name]]
        if different:
            words = {"images": "other images", "proposals": "another number of proposals"}
            names = ", ".join(words.get(name, f"another {name}") for name in different)
            raise StaleCacheError(f"{self.folder}: built with {names} (key.json). {HINT}")

    def _create(self, teacher: Teacher, files: dict[str, RowFile]) -> None:
        """Create missing files; print the bytes that missing rows will take, and compare them with the disk's."""
        new = [name for name, file in files.items() if not file.exists()]
        sizes, missing = {}, dict.fromkeys(files, len(self._rows))
        for name, file in files.items():
            if name not in new:
                file.open()
                sizes[name], missing[name] = file.mean_size, int(file.missing.sum())
        unknown = [name for name in files if not sizes.get(name)]
        sizes.update(self._estimate(teacher, unknown) if unknown else {})
        size = int(sum(sizes[name] * missing[name] for name in files))
        if size:
            free = shutil.disk_usage(self.folder).free
            parts = ", ".join(f"{name} {sizes[name] / 1e3:,.1f} kB" for name in files)
            text = "Teacher cache: about %.3g GB to write, %.4g GB free on the disk; an image has %s"
            logger.info(text, size / 1e9, free / 1e9, parts)
        check_free_space(self.folder, size)
        for name in new:
            files[name].create()

    def _estimate(self, teacher: Teacher, names: list[str]) -> dict[str, float]:
        """Return name -> mean bytes of a row, from one batch of images drawn at random."""
        images = self._images()
        order = np.random.default_rng(0).permutation(len(self._rows)).tolist()
        views = list(itertools.islice(filter(None, (images[i] for i in order)), self.batch_size))
        if not views:
            raise ValueError(f"{self.folder}: no image of dataset {self.dataset!r} can be read")
        rows = self._compute_rows(teacher, views, names)
        return {name: sum(map(len, contents)) / len(views) for name, contents in rows.items()}

    def _rows_of_fold(self, fold: int, folds: int) -> np.ndarray:
        return np.array([row for image_id, row in self._rows.items() if get_fold(image_id, folds) == fold], dtype=int)

    def _write_missing(self, teacher: Teacher, rows: np.ndarray) -> None:
        is_missing = np.any([file.missing for file in self._files.values()], axis=0)
        # By index in the dataset, not among the missing images: other ranks may be writing already. Whole batches, as
        # results may be rounded differently in a smaller one: a resumed run gets the rows of an uninterrupted one.
        own = rows[comm.get_rank() :: comm.get_world_size()]
        batches = (own[start : start + self.batch_size] for start in range(0, len(own), self.batch_size))
        indices = [i for batch in batches if is_missing[batch].any() for i in batch.tolist()]
        if not indices:
            return
        loader = torch.utils.data.DataLoader(
            torch.utils.data.Subset(self._images(), indices),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=functools.partial(collate, mix=_drop_unreadable),
        )
        for views in filter(None, tqdm(loader, "teacher cache", unit="batch", disable=not comm.is_main_process())):
            for name, contents in self._compute_rows(teacher, views, list(self._files)).items():
                for view, content in zip(views, contents):
                    self._files[name].write(self._row(view), content, _checksum(view))

    def _images(self) -> torch.utils.data.Dataset:
        """Return a dataset of the teacher's view of each image; {} where the image cannot be read."""
        mapper = functools.partial(_read_view, dataclasses.replace(self.mapper, is_train=False, teacher_cached=False))
        return build_test_loader(self.dataset, mapper=mapper, proposals=self.proposals).dataset

    @torch.no_grad()
    def _compute_rows(self, teacher: Teacher, views: list[dict], names: list[str]) -> dict[str, list[bytes]]:
        """Return name -> one row for each view, as stored on disk."""
        output = run_teacher(teacher, views, LOGITS in names, self._trunk)
        rows = {name: [pack(x) for x in _finite(output.features[name], name)] for name in names if name != LOGITS}
        if LOGITS in names:
            rows[LOGITS] = [pack_logits(c, d) for c, d in zip(output.cls_logits, output.det_logits)]
        return rows


def _hash_weights(module: nn.Module) -> str:
    weights = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        weights.update(name.encode())
        weights.update(tensor.detach().cpu().contiguous().numpy())
    return weights.hexdigest()


def _read_view(mapper: MultiLabelMapper, record: DatasetDict) -> dict:
    """Map a dataset dict to the teacher's view; {} if the image cannot be read."""
    try:
        return cast(dict, mapper(record)["teacher"])
    except ImageError as error:
        logger.warning("skipped in the teacher cache: %s", error)
        return {}  # MapDataset takes None for a sign to read another image


def _drop_unreadable(views: list[dict]) -> list[dict]:
    return [view for view in views if view]


def _finite(x: Tensor, name: str) -> Tensor:
    if not torch.isfinite(x).all():
        raise ValueError(
            f"teacher feature map {name}: values are not finite (NaN or infinite). Set distiller.teacher_checkpoint to "
            "sound weights, or with trainer.amp=True try False."
        )
    return x


def _checksum(view: dict) -> int:
    """Return a checksum of the teacher's input: image_id, image file and proposals; never 0."""
    checksum = zlib.crc32(repr((view["image_id"], view["image_digest"])).encode())
    if "proposals" in view:
        checksum = zlib.crc32(view["proposals"].proposal_boxes.tensor.numpy(), checksum)
        checksum = zlib.crc32(view["proposals"].scores.numpy(), checksum)
    return checksum or 1


def default_cache_dir(checkpoint: str | Sequence[str]) -> str:
    """Return the cache folder of a teacher's checkpoint, ``teacher_cache`` next to the file.

    For the checkpoints of K folds it is ``teacher_cache_of_<K>`` next to the first one.
    """
    if isinstance(checkpoint, str):
        return os.path.join(os.path.dirname(checkpoint), "teacher_cache")
    return os.path.join(os.path.dirname(checkpoint[0]), f"teacher_cache_of_{len(checkpoint)}")
