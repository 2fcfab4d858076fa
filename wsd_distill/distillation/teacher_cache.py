"""What the frozen teacher says of every training image, on disk: written once, read in every later epoch and stage.

A folder with one NumPy file for the logits of both branches and one for each feature map that an objective wants. A
row is a view of an image: as it is, and, where training mirrors, mirrored. Beside each file lies another with a
checksum for each row, of the view that the row was made for; 0 is a row that is still to come.
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


class StaleCacheError(RuntimeError):
    """A cache is that of another teacher, or of other views."""


class TeacherCache:
    """Reads and writes a folder of what T-WDet says of a dataset.

    What was made by another teacher, another pooling, or from other images, sides or proposals is an error. Logits are
    kept as they are (float32), feature maps in half precision.

    Args:
        folder: made where it is not there; belongs to one teacher.
        dataset: a registered name, as the training loader's. proposals: file of its store.
        mapper: a MultiLabelMapper that gives ``views`` at the one side of the teacher (``tta=True``).
        batch_size: images that the teacher looks at together, each in all its views. num_workers: of the loader.
    """

    def __init__(
        self, folder: str, *, dataset: str, proposals: str, mapper: Callable, batch_size: int = 8, num_workers: int = 0
    ):
        self.folder, self.dataset, self.proposals = Path(folder), dataset, proposals
        self.mapper, self.batch_size, self.num_workers = mapper, batch_size, num_workers
        self._files: dict[str, tuple[np.ndarray, np.ndarray]] = {}

    @cached_property
    def _rows(self) -> dict[Any, int]:
        """image_id -> row of the image as it is; the next one is of the mirrored image."""
        return {record["image_id"]: 2 * i for i, record in enumerate(get_dataset_dicts(self.dataset))}

    def fill(self, teacher: WSDDN, features: Sequence[str] = ()) -> None:
        """Write what is missing: logits and the named feature maps, for the views of all images.

        Ranks share the work; another process that fills the same folder is waited for. An image that cannot be read
        is left out, as training leaves it out.

        Raises:
            StaleCacheError: the folder is that of another teacher, or of other views.
            ValueError: the teacher has several sides, or no image can be read. OSError: the disk has too little room.
        """
        if len(self.mapper.sizes) > 1:
            raise ValueError("a teacher cache holds one side of the teacher: set one in mapper.teacher_sizes")
        names = [LOGITS, *features]
        self.folder.mkdir(parents=True, exist_ok=True)
        logger.info("Teacher cache: %s (one process at a time fills it)", self.folder)
        if comm.is_main_process():
            with file_lock(self.folder / "lock", wait=True):
                self._agree(self._key(teacher))
                self._create(names, teacher)
        comm.synchronize()
        self._files = {name: self._open(name) for name in names}
        with file_lock(self.folder / f"rank{comm.get_rank()}.lock", wait=True):
            self._write_missing(teacher, names)
        comm.synchronize()

    def read(self, views: list[dict], features: Sequence[str], device: torch.device) -> WSDDNOutput:
        """What the teacher says of views that the mapper has made, without the teacher.

        Raises:
            StaleCacheError: a view's side or proposals are not those that the cache was made for (names the image).
            RuntimeError: it has not been filled.
        """
        if not self._files:
            raise RuntimeError("the teacher cache is not open: call Distiller.fill_cache before the first step")
        rows = [self._row(view["image_id"], view["flip"]) for view in views]
        for view, row in zip(views, rows):
            mark = _checksum(view)
            for name in [LOGITS, *features]:
                if self._files[name][1][row] != mark:
                    raise StaleCacheError(
                        f"{self.folder} knows other proposals of image {view['image_id']!r}, or it at another side, or "
                        "does not know it: delete the folder, or name another one in distiller.cache.folder"
                    )
        logits, *maps = (torch.from_numpy(self._files[n][0][rows]).to(device).float() for n in [LOGITS, *features])
        boxes = [view["proposals"].proposal_boxes.to(device) for view in views]
        return WSDDNOutput(dict(zip(features, maps)), boxes, list(logits[:, 0]), list(logits[:, 1]))

    def _row(self, image_id, flip: bool) -> int:
        if image_id not in self._rows:
            raise StaleCacheError(f"image {image_id!r} is not in the dataset that {self.folder} is of")
        return self._rows[image_id] + flip

    def _key(self, teacher: WSDDN) -> dict:
        ids = hashlib.sha256(repr(list(self._rows)).encode()).hexdigest()
        scale = f"{teacher.score_scale} * s + {teacher.score_shift}"
        return {
            "teacher": _digest(teacher),
            "pooling": f"{teacher.in_feature}, {scale}, {teacher.box_pooler}",
            "images": f"{len(self._rows)}, {ids}",
            "side": self.mapper.sizes,
            "proposals": self.mapper.num_proposals,
            "fast": self.mapper.fast_decode,
        }

    def _agree(self, key: dict) -> None:
        path = self.folder / "key.json"
        if not path.exists():
            with atomic_write(path) as tmp_path:
                tmp_path.write_text(json.dumps(key, indent=1))
        found = json.loads(path.read_text())
        other = [name for name in key if found.get(name) != key[name]]
        if other:
            raise StaleCacheError(
                f"{self.folder} was made with another {', another '.join(other)} (key.json): delete it, or name another"
                " folder in distiller.cache.folder"
            )

    def _create(self, names: list[str], teacher: WSDDN) -> None:
        """Files, where there are none, and on the disk room for every row that is still to come.

        Files are mapped: who writes where a full disk has no room for them is killed, without an error.
        """
        missing = [name for name in names if not self._checksums(name).exists()]
        output = self._probe_output(teacher, missing) if missing else {}
        room = sum(array.nbytes for array in output.values()) * len(self._rows) * self._views_per_image
        if room > shutil.disk_usage(self.folder).free:
            raise self._disk_full(room)
        for name in names:
            if name in output:
                self._make_files(name, output[name])
            else:
                self._reserve(self._data(name), np.load(self._checksums(name)))

    def _make_files(self, name: str, row: np.ndarray) -> None:
        """Of rows such as this one, (1, ...); the data first: where there are checksums, there is all."""
        checksums = np.zeros(2 * len(self._rows), np.uint32)
        with atomic_write(self._data(name)) as tmp_path:
            np.lib.format.open_memmap(tmp_path, "w+", row.dtype, (len(checksums), *row.shape[1:]))
            self._reserve(tmp_path, checksums)
        with atomic_write(self._checksums(name)) as tmp_path, open(tmp_path, "wb") as file:
            np.save(file, checksums)

    def _reserve(self, path: Path, checksums: np.ndarray) -> None:
        """Room on the disk for those rows that have no checksum yet; where they have it already, nothing happens."""
        data = np.load(path, mmap_mode="r")
        rows = np.flatnonzero(self._missing(checksums))
        size = data.strides[0]
        try:
            with open(path, "r+b") as file:
                for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
                    if len(run):
                        os.posix_fallocate(file.fileno(), data.offset + int(run[0]) * size, len(run) * size)
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise self._disk_full(len(rows) * size) from error

    def _missing(self, checksums: np.ndarray) -> np.ndarray:
        """(N, 2) booleans: rows that are still to come, of an image as it is and mirrored."""
        missing = checksums.reshape(-1, 2) == 0
        missing[:, self._views_per_image :] = False
        return missing

    def _disk_full(self, room: int) -> OSError:
        free = shutil.disk_usage(self.folder).free
        return OSError(
            f"{self.folder} would take {room:,} bytes and the disk has {free:,}: name a folder with more room in "
            "distiller.cache.folder, or set distiller.use_cache=False"
        )

    def _probe_output(self, teacher: WSDDN, names: list[str]) -> dict[str, np.ndarray]:
        """As ``_of``, of the first image that can be read."""
        views = next((views for views in self._views(range(len(self._rows))) if views), None)
        if views is None:
            raise ValueError(f"not one image of {self.dataset} can be read")
        return self._of(teacher, views[:1], names)

    @property
    def _views_per_image(self) -> int:
        return 2 if self.mapper.flip_prob else 1

    def _data(self, name: str) -> Path:
        return self.folder / f"{name}.npy"

    def _checksums(self, name: str) -> Path:
        return self.folder / f"{name}.checksums.npy"

    def _open(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.load(path, mmap_mode="r+") for path in (self._data(name), self._checksums(name)))

    def _write_missing(self, teacher: WSDDN, names: list[str]) -> None:
        missing = [self._missing(self._files[name][1]).any(axis=1) for name in names]
        indices = np.flatnonzero(np.any(missing, axis=0))
        # By the image, not by the place among those that are missing, for other ranks may be at work already.
        indices = indices[indices % comm.get_world_size() == comm.get_rank()]
        if not len(indices):
            return
        loader = torch.utils.data.DataLoader(
            self._views(indices),
            batch_size=self.batch_size,
            num_workers=self.num_workers,
            collate_fn=_flatten,
        )
        for views in tqdm(loader, "teacher cache", unit="batch", disable=not comm.is_main_process()):
            if views:
                self._write(views, self._of(teacher, views, names))

    def _views(self, indices: Sequence[int]) -> _Views:
        images = build_test_loader(self.dataset, mapper=self.mapper, proposals=self.proposals).dataset
        return _Views(images, indices)

    def _write(self, views: list[dict], output: dict[str, np.ndarray]) -> None:
        rows = np.array([self._row(view["image_id"], view["flip"]) for view in views])
        marks = np.array([_checksum(view) for view in views], dtype=np.uint32)
        for name, array in output.items():
            data, checksums = self._files[name]
            new = checksums[rows] != marks  # what is there may be read by another process at this moment
            data[rows[new]] = array[new]
            checksums[rows[new]] = marks[new]  # after the data: a row that is marked is whole

    @torch.no_grad()
    def _of(self, teacher: WSDDN, views: list[dict], names: list[str]) -> dict[str, np.ndarray]:
        """Name -> array with a row for each view, as it goes to the disk."""
        output = teacher.compute_outputs(views)
        logits = torch.stack([torch.stack(output.cls_logits), torch.stack(output.det_logits)], dim=1).float()
        found = {LOGITS: logits, **{name: _to_half(output.features[name], name) for name in names if name != LOGITS}}
        return {name: found[name].cpu().numpy() for name in names}


class _Views(torch.utils.data.Dataset):
    """Views of some images, each with its image_id; none of an image that cannot be read."""

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
            logger.warning("left out of the teacher cache: %s", error)
            return []
        return [{**view, "image_id": image["image_id"]} for view in image["views"]]


def _flatten(images: list[list[dict]]) -> list[dict]:
    return [view for views in images for view in views]


def _to_half(x: Tensor, name: str) -> Tensor:
    half = x.half()
    if not torch.isfinite(half).all():
        raise ValueError(f"the teacher's map {name} has values beyond half precision: set distiller.use_cache=False")
    return half


def _checksum(view: dict) -> int:
    """Of what the teacher is shown: which image, mirrored or not, at which side, with which proposals; never 0."""
    proposals = view["proposals"]
    mark = zlib.crc32(repr((view["image_id"], view["flip"], proposals.image_size)).encode())
    mark = zlib.crc32(proposals.proposal_boxes.tensor.numpy(), mark)
    return zlib.crc32(proposals.scores.numpy(), mark) or 1


def _digest(model: nn.Module) -> str:
    digest = hashlib.sha256()
    for name, tensor in model.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy())
    return digest.hexdigest()


def default_cache_dir(checkpoint: str) -> str:
    """Folder of the cache of a teacher's checkpoint, for configs: a teacher and what it says stay together."""
    return os.path.join(os.path.dirname(checkpoint), "teacher_cache")
