"""Proposal store: the object proposals of one dataset split in one Arrow IPC file.

The file has one row per image, sorted by ``str(image_id)``, with the columns ``image_id`` (string), ``proposals``
(list of 5 float32: a box XYXY_ABS in pixels of the original image and its score in 0..1; scores descend), ``height``,
``width``, ``num_bytes`` and ``digest`` of the image file that they belong to, and a ``checksum`` of the row.

Opening a store maps the file, reads everything but the proposals (about 110 bytes per image), and unmaps it. Proposals
are then read on demand with one system call per image: the pages of a permanent mapping would count as memory of every
worker, and the first access to a page takes longer than a read.
"""

from __future__ import annotations

import errno
import os
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import numpy as np
import pyarrow as pa

from ..io import atomic_write, check_file, datasets_root
from .image import UNKNOWN_IMAGE, ImageStamp
from .store_format import StoreMetadata, read_index, row_checksum
from .types import DatasetDict, Proposals

_SAMPLE = 100  # images checked when a training or an evaluation opens a store


def default_store_path(dataset_name: str, method: str = "edge_boxes") -> str:
    """Return the default path of a dataset's proposal store, for configs and tools."""
    return os.path.join(datasets_root(), "proposals", f"{dataset_name}_{method}.arrow")


class ProposalStore(Mapping[str, Proposals]):
    """Mapping from image ids to proposals; safe in threads and forks, pickled as a path.

    Proposals are boxes (R, 4) float32 XYXY_ABS and scores (R,) float32, descending; R may be 0. The arrays are
    writable. Integer ids are converted to strings; iteration is in their order. A missing image raises a KeyError.

    Args:
        path: file written by :class:`ProposalStoreWriter`.
        dataset_name: dataset that the store must belong to, alone or with unlabelled images; None accepts any.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is truncated, damaged or not a proposal store, or belongs to another dataset; also raised
            when a damaged row is read, naming its image.
    """

    def __init__(self, path: str | os.PathLike, dataset_name: str | None = None) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._dataset_name = dataset_name
        if not os.path.exists(self.path):
            raise FileNotFoundError(f"no proposal store {self.path}: create it with {_describe_tools(dataset_name)}")
        check_file(self.path)
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._ids, self._rows, self.metadata = read_index(self.path, self._file)
        stored = self.metadata.dataset_name
        if dataset_name not in (None, stored) and not stored.startswith(f"{dataset_name}_with_"):
            raise ValueError(
                f"{self.path} contains proposals for '{stored}', not for '{dataset_name}'. "
                f"Create a store with {_describe_tools(dataset_name)}"
            )

    def __reduce__(self) -> tuple:
        return ProposalStore, (self.path, self._dataset_name)

    def __len__(self) -> int:
        return len(self._ids)

    def __iter__(self) -> Iterator[str]:
        return iter(self._ids)

    def __getitem__(self, image_id: int | str) -> Proposals:
        return self.read_row(self.row_index(image_id))

    def row_index(self, image_id: int | str) -> int:
        """Return the row of an image; raise KeyError if it is not in the store."""
        row = bisect_left(self._ids, str(image_id))
        if row == len(self._ids) or self._ids[row] != str(image_id):
            tools = _describe_tools(self.metadata.dataset_name)
            raise KeyError(
                f"no proposals for image '{image_id}' in {self.path}: create the store again (--overwrite) with {tools}"
            )
        return row

    def image_stamp(self, row: int) -> ImageStamp:
        """Return what identifies the image file that the proposals of a row belong to."""
        return ImageStamp(*self._rows[row].item()[2:6])

    def read_row(self, row: int) -> Proposals:
        """Read the proposals of a row; raise ValueError if the row is damaged."""
        count, offset, *stamp, checksum = self._rows[row].item()
        table = np.empty((count, 5), np.float32)
        if os.preadv(self._file, [table.data], offset) != table.nbytes:
            raise ValueError(f"{self.path} was truncated while open: create it again")
        image_id = self._ids[row]
        if row_checksum(image_id, ImageStamp(*stamp), table) != checksum:
            raise ValueError(f"{self.path}: the row of image '{image_id}' is damaged, create the store again")
        boxes, scores = table[:, :4], table[:, 4]
        if not _is_valid(table):
            check_proposals(f"{self.path}: image '{image_id}'", boxes, scores)
        return boxes, scores


class ProposalStoreWriter(AbstractContextManager):
    """Context manager that writes a proposal store image by image.

    Memory holds at most ``metadata.chunk_rows`` images; ``path`` appears when the block ends without an error.
    """

    def __init__(self, path: str | os.PathLike, metadata: StoreMetadata) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.metadata = metadata
        self._rows: list[tuple[str, np.ndarray, ImageStamp]] = []
        self._last_id: str | None = None
        self._context = self._open()

    @contextmanager
    def _open(self) -> Iterator[ProposalStoreWriter]:
        self._schema = self.metadata.to_schema()
        with name_full_disk(self.path), atomic_write(self.path) as tmp_path:
            with pa.ipc.new_file(str(tmp_path), self._schema) as self._writer:
                yield self
                self._flush()

    def __enter__(self) -> ProposalStoreWriter:
        return self._context.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._context.__exit__(*error)

    def write(
        self, image_id: int | str, boxes: np.ndarray, scores: np.ndarray, stamp: ImageStamp = UNKNOWN_IMAGE
    ) -> None:
        """Add an image; images must come in ascending order of ``str(image_id)``.

        Args:
            image_id: unique id.
            boxes: (R, 4) XYXY_ABS in pixels of the original image, in any order; R may be 0.
            scores: (R,) in 0..1.
            stamp: of the image file; by default unknown.

        Raises:
            ValueError: wrong shape or order, or invalid boxes or scores; names the image.
        """
        name = str(image_id)
        if self._last_id is not None and name <= self._last_id:
            order = "ids have to be unique and ascending as strings"
            raise ValueError(f"{self.path}: image '{name}' comes after '{self._last_id}'; {order}")
        boxes, scores = np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32)
        if boxes.size == scores.size == 0:
            boxes, scores = boxes.reshape(0, 4), scores.reshape(0)
        check_proposals(f"image '{name}'", boxes, scores)
        best_first = np.argsort(-scores, kind="stable")  # equal scores keep their order
        self._rows.append((name, np.column_stack([boxes, scores])[best_first], stamp))
        self._last_id = name
        if len(self._rows) == self.metadata.chunk_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        ids, tables, stamps = zip(*self._rows)
        offsets = pa.array(np.cumsum([0] + [len(table) for table in tables]), pa.int32())
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(tables).ravel()), 5)
        checksums = [row_checksum(name, stamp, table) for name, table, stamp in self._rows]
        columns = [ids, pa.ListArray.from_arrays(offsets, flat), *zip(*stamps), checksums]
        columns = [pa.array(values, column.type) for values, column in zip(columns, self._schema)]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._rows.clear()


@contextmanager
def name_full_disk(path: str) -> Iterator[None]:
    """Name the file that is written in the error of a full disk, which has only a number otherwise."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise
        text = f"{path} cannot be written ({os.strerror(error.errno)}): free some space and start again"
        raise OSError(error.errno, text) from error


def _describe_tools(dataset_name: str | None) -> str:
    """Return the commands that create a store, for error messages."""
    config = f" (with the --config-file and the dataset keys of '{dataset_name}')" if dataset_name else ""
    return f"tools/generate_proposals.py{config} or tools/convert_proposals.py"


def check_sample(store: ProposalStore, dataset_dicts: Sequence[DatasetDict]) -> None:
    """Check some rows of a store before its first use: at most 100, evenly spaced.

    The size of their image files must be as it was when the store was created, and not all scores may be 0, because
    T-WDet multiplies by them. The mapper compares each image that it reads.

    Raises:
        KeyError: an image is not in the store.
        ValueError: an image file was replaced, a row is damaged, or all scores are 0; names the image or store.
    """
    highest = []
    for record in dataset_dicts[:: -(-len(dataset_dicts) // _SAMPLE) or 1]:
        row = store.row_index(record["image_id"])
        try:
            found = ImageStamp(num_bytes=os.path.getsize(record["file_name"]))
        except OSError:  # missing or not a local file: reported when the image is read
            found = ImageStamp()
        check_stamp(record["file_name"], store.image_stamp(row), found)
        scores = store.read_row(row)[1]
        highest += [scores[0]] if len(scores) else []
    if highest and max(highest) == 0:
        tools = _describe_tools(store.metadata.dataset_name)
        raise ValueError(f"{store.path}: all scores are 0, and T-WDet multiplies by them: create it again with {tools}")


def check_stamp(file_name: str, expected: ImageStamp, found: ImageStamp) -> None:
    """Raise ValueError if an image file is not the one that its proposals were computed for."""
    if expected.differs(found):
        names = [name.replace("num_bytes", "size in bytes") for name in ImageStamp._fields]
        changes = [f"{n} {a} before, {b} now" for n, a, b in zip(names, expected, found) if a and b and a != b]
        raise ValueError(
            f"{file_name} is not the image that its proposals were computed for ({'; '.join(changes)}): create the "
            "proposal store again with tools/generate_proposals.py --overwrite"
        )


def _is_valid(table: np.ndarray) -> bool:
    """Return what :func:`check_proposals` checks, in a third of the time, for (R, 5) float32."""
    columns = table.T.copy()  # contiguous
    ordered, scores = (columns[2:4] >= columns[:2]).all(), columns[4]
    return bool(ordered and np.isfinite(columns).all() and scores.min(initial=0) == 0 and scores.max(initial=1) == 1)


def check_finite(location: str, boxes: np.ndarray, scores: np.ndarray | None) -> None:
    """Raise ValueError unless all boxes and scores are finite."""
    for name, values in (("boxes", boxes), ("scores", scores)):
        if values is not None and not np.isfinite(values).all():
            raise ValueError(f"{location}: {name} are not finite")


def check_proposals(location: str, boxes: np.ndarray, scores: np.ndarray) -> None:
    """Raise ValueError unless boxes (R, 4) are finite and XYXY_ABS, and scores (R,) are in 0..1."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"{location}: boxes {boxes.shape} and scores {scores.shape} are not (R, 4) and (R,)")
    check_finite(location, boxes, scores)
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{location}: boxes are not (x1, y1, x2, y2) with x2 >= x1 and y2 >= y1: check the columns")
    check_scores(location, scores)


def check_scores(location: str, scores: np.ndarray) -> None:
    """Raise ValueError unless scores (R,) are in 0..1."""
    if len(scores) and not (scores.min() >= 0 and scores.max() <= 1):
        text = f"scores from {scores.min():.4g} to {scores.max():.4g} are not in 0..1"
        raise ValueError(f"{location}: {text}, by which T-WDet multiplies: scale them")


def clip_boxes(
    boxes: np.ndarray, scores: np.ndarray, height: int, width: int
) -> tuple[np.ndarray, np.ndarray, int, int]:
    """Clip boxes to their image and drop those without area.

    Args:
        boxes: (R, 4) XYXY_ABS.
        scores: (R,).
        height, width: of the image, in pixels.

    Returns:
        The remaining boxes and scores in the same order, the number of boxes clipped, and the number dropped.
    """
    inside = boxes.clip(0, np.array([width, height, width, height], dtype=boxes.dtype))
    kept = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    clipped = int((kept & (inside != boxes).any(axis=1)).sum())
    return inside[kept], scores[kept], clipped, len(boxes) - int(kept.sum())
