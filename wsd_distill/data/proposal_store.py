"""Proposal store: the object proposals of one dataset split in one Arrow IPC file.

The file has one row per image, sorted by ``str(image_id)``, with the columns ``image_id`` (string) and ``proposals``
(list of 5 float32: a box XYXY_ABS in pixels of the original image and its score; scores descend).

Opening a store maps the file, reads the ids and the byte offset of each row (about 80 bytes per image), and unmaps it.
Proposals are then read on demand with one system call per image: the pages of a permanent mapping would count as
memory of every worker, and the first access to a page takes longer than a read.
"""

from __future__ import annotations

import json
import mmap
import os
import weakref
from bisect import bisect_left
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..io import atomic_write, datasets_root
from .types import Proposals

FORMAT_VERSION = 2
_METADATA_KEY = b"wsd_distill.proposals"
_JSON_KEYS = {"image_fingerprint": "pictures"}  # fields of StoreMetadata with another name in the file format
_COLUMNS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("proposals", pa.list_(pa.list_(pa.float32(), 5)), nullable=False),
    ]
)


def default_store_path(dataset_name: str, method: str = "edge_boxes") -> str:
    """Return the default path of a dataset's proposal store, for configs and tools."""
    return os.path.join(datasets_root(), "proposals", f"{dataset_name}_{method}.arrow")


@dataclass(frozen=True)
class StoreMetadata:
    """Description of a store, saved as JSON in its schema.

    ``failures`` are images whose proposals could not be computed; they have no box or, converted with
    ``--missing whole-image``, the whole image.
    """

    dataset_name: str
    generator: str  # name of the proposer, or "converted"
    parameters: dict = field(default_factory=dict)  # everything the proposals depend on
    failures: dict[str, str] = field(default_factory=dict)  # image id -> reason
    dropped_boxes: int = 0  # without area inside their image; 0 in converted stores, whose conversion logs the number
    image_fingerprint: str = ""  # proposals.sharding.image_fingerprint; empty if unknown
    box_mode: str = "XYXY_ABS"
    chunk_rows: int = 1024  # images per Arrow record batch
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        return json.dumps({_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> StoreMetadata:
        names = {key: name for name, key in _JSON_KEYS.items()}
        return cls(**{names.get(key, key): value for key, value in json.loads(text).items()})


class ProposalStore(Mapping[str, Proposals]):
    """Mapping from image ids to proposals; safe in threads and forks, pickled as a path.

    Proposals are boxes (R, 4) float32 XYXY_ABS and scores (R,) float32, descending; R may be 0. The arrays are
    writable. Integer ids are converted to strings; iteration is in their order. A missing image raises a KeyError.

    Args:
        path: file written by :class:`ProposalStoreWriter`.
        dataset_name: dataset that the store must belong to; None accepts any.

    Raises:
        FileNotFoundError: the file is missing.
        ValueError: the file is truncated or not a proposal store, or belongs to another dataset.
    """

    def __init__(self, path: str | os.PathLike, dataset_name: str | None = None) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._dataset_name = dataset_name
        if not os.path.isfile(self.path):
            raise FileNotFoundError(f"no proposal store {self.path}: create it with {_describe_tools(dataset_name)}")
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._ids, self._rows, self.metadata = _read_index(self.path, self._file)
        if dataset_name is not None and self.metadata.dataset_name != dataset_name:
            raise ValueError(
                f"{self.path} contains proposals for '{self.metadata.dataset_name}', not for '{dataset_name}'. "
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

    def read_row(self, row: int) -> Proposals:
        """Read the proposals of a row."""
        count, offset = self._rows[row].tolist()
        table = np.empty((count, 5), np.float32)
        if os.preadv(self._file, [table.data], offset) != table.nbytes:
            raise ValueError(f"{self.path} was truncated while open: create it again")
        return table[:, :4], table[:, 4]


class ProposalStoreWriter(AbstractContextManager):
    """Context manager that writes a proposal store image by image.

    Memory holds at most ``metadata.chunk_rows`` images; ``path`` appears when the block ends without an error.
    """

    def __init__(self, path: str | os.PathLike, metadata: StoreMetadata) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.metadata = metadata
        self._rows: list[tuple[str, np.ndarray]] = []
        self._last_id: str | None = None
        self._context = self._open()

    @contextmanager
    def _open(self) -> Iterator[ProposalStoreWriter]:
        self._schema = _COLUMNS.with_metadata({_METADATA_KEY: self.metadata.to_json()})
        with atomic_write(self.path) as tmp_path, pa.ipc.new_file(str(tmp_path), self._schema) as self._writer:
            yield self
            self._flush()

    def __enter__(self) -> ProposalStoreWriter:
        return self._context.__enter__()

    def __exit__(self, *error: Any) -> bool | None:
        return self._context.__exit__(*error)

    def write(self, image_id: int | str, boxes: np.ndarray, scores: np.ndarray) -> None:
        """Add an image; images must come in ascending order of ``str(image_id)``.

        Args:
            image_id: unique id.
            boxes: (R, 4) XYXY_ABS in pixels of the original image, in any order; R may be 0.
            scores: (R,).

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
        check_boxes(f"image '{name}'", boxes, scores)
        best_first = np.argsort(-scores, kind="stable")  # equal scores keep their order
        self._rows.append((name, np.column_stack([boxes, scores])[best_first]))
        self._last_id = name
        if len(self._rows) == self.metadata.chunk_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        ids, tables = zip(*self._rows)
        offsets = pa.array(np.cumsum([0] + [len(table) for table in tables]), pa.int32())
        flat = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(tables).ravel()), 5)
        columns = [pa.array(ids, pa.string()), pa.ListArray.from_arrays(offsets, flat)]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._rows.clear()


def _describe_tools(dataset_name: str | None) -> str:
    """Return the commands that create a store, for error messages."""
    config = f" (with the --config-file that registers '{dataset_name}', if needed)" if dataset_name else ""
    return f"tools/generate_proposals.py{config} or tools/convert_proposals.py"


def _read_index(path: str, file: int) -> tuple[list[str], np.ndarray, StoreMetadata]:
    """Read an open file.

    Returns:
        Ids (N), number of proposals and byte offset of each row, (N, 2) int64, and metadata.
    """
    try:
        content = pa.py_buffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ))  # pa.memory_map would read ahead
        reader = pa.ipc.open_file(content)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is truncated or not an Arrow file ({error}): delete and create it again") from error
    schema_metadata: Mapping = reader.schema.metadata or {}
    if _METADATA_KEY not in schema_metadata:
        raise ValueError(f"{path} is an Arrow file but not a proposal store: create one with {_describe_tools(None)}")
    version = json.loads(schema_metadata[_METADATA_KEY])["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(f"{path} has format version {version}, expected {FORMAT_VERSION}: create it again")
    ids: list[str] = []
    rows = [np.zeros((0, 2), np.int64)]
    for batch in batches:
        names, proposals = batch.columns
        begins = proposals.offsets.to_numpy().astype(np.int64)
        values = proposals.values.values  # all floats of the batch; without a buffer if there are none
        first = values.buffers()[1].address - content.address if len(values) else 0
        rows.append(np.stack([np.diff(begins), first + 20 * begins[:-1]], axis=1))
        ids += names.to_pylist()
    return ids, np.concatenate(rows), StoreMetadata.from_json(schema_metadata[_METADATA_KEY])


def check_boxes(location: str, boxes: np.ndarray, scores: np.ndarray) -> None:
    """Raise ValueError unless boxes (R, 4) are XYXY_ABS, and they and scores (R,) are finite."""
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"{location}: boxes {boxes.shape} and scores {scores.shape} are not (R, 4) and (R,)")
    for name, values in (("boxes", boxes), ("scores", scores)):
        if not np.isfinite(values).all():
            raise ValueError(f"{location}: {name} are not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"{location}: boxes are not (x1, y1, x2, y2) with x2 >= x1 and y2 >= y1: check the columns")


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
