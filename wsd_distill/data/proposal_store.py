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
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import pyarrow as pa

from ..io import atomic_write, datasets_root

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
        """Serialize for the schema of a store."""
        return json.dumps({_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> StoreMetadata:
        """Inverse of :meth:`to_json`."""
        names = {key: name for name, key in _JSON_KEYS.items()}
        return cls(**{names.get(key, key): value for key, value in json.loads(text).items()})


class ProposalStore:
    """Read access to a proposal store; safe in threads and forks, pickled as a path.

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

    def __contains__(self, image_id: object) -> bool:
        return self._find(str(image_id)) is not None

    def __iter__(self) -> Iterator[str]:
        """Iterate over the image ids in file order."""
        return iter(self._ids)

    def __getitem__(self, image_id: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Read the proposals of an image.

        Returns:
            Boxes (R, 4) float32 XYXY_ABS and scores (R,) float32, descending; R may be 0. The arrays are writable.

        Raises:
            KeyError: the image is not in the store.
        """
        return self.read_row(self.row_index(image_id))

    def row_index(self, image_id: int | str) -> int:
        """Return the row of an image; raise KeyError if it is not in the store."""
        row = self._find(str(image_id))
        if row is None:
            raise KeyError(
                f"no proposals for image '{image_id}' in {self.path}: create the store again (--overwrite) with "
                f"{_describe_tools(self.metadata.dataset_name)}"
            )
        return row

    def read_row(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Read boxes and scores of a row, as ``__getitem__`` returns them."""
        count, offset = self._rows[row].tolist()
        table = np.empty((count, 5), np.float32)
        if os.preadv(self._file, [table.data], offset) != table.nbytes:
            raise ValueError(f"{self.path} was truncated while open: create it again")
        return table[:, :4], table[:, 4]

    def items(self) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
        """Iterate over ``(image_id, (boxes, scores))`` in file order."""
        for row, image_id in enumerate(self._ids):
            yield image_id, self.read_row(row)

    def _find(self, image_id: str) -> int | None:
        row = bisect_left(self._ids, image_id)
        return row if row < len(self._ids) and self._ids[row] == image_id else None


class ProposalStoreWriter:
    """Context manager that writes a proposal store image by image.

    Memory holds at most ``metadata.chunk_rows`` images; ``path`` appears when the block ends without an error.
    """

    def __init__(self, path: str | os.PathLike, metadata: StoreMetadata) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.metadata = metadata
        self._rows: list[tuple[str, np.ndarray]] = []
        self._last_id: str | None = None

    def __enter__(self) -> ProposalStoreWriter:
        self._schema = _COLUMNS.with_metadata({_METADATA_KEY: self.metadata.to_json()})
        with ExitStack() as stack:
            file = stack.enter_context(open(stack.enter_context(atomic_write(self.path)), "wb"))
            self._writer = pa.ipc.new_file(file, self._schema)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)

    def _finish(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            self._flush()
            self._writer.close()

    def write(self, image_id: int | str, boxes: np.ndarray, scores: np.ndarray) -> None:
        """Add an image; images must come in ascending order of ``str(image_id)``.

        Args:
            image_id: unique id.
            boxes: (R, 4) XYXY_ABS in pixels of the original image, in any order; R may be 0.
            scores: (R,).

        Raises:
            ValueError: wrong shape or order, or invalid boxes or scores; names the image.
        """
        image_id = str(image_id)
        if self._last_id is not None and image_id <= self._last_id:
            raise ValueError(
                f"{self.path}: image '{image_id}' comes after '{self._last_id}'; "
                "ids have to be unique and ascending as strings"
            )
        self._rows.append((image_id, _sort_and_check(image_id, boxes, scores)))
        self._last_id = image_id
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
    """Read ids, rows (see ``_read_rows``) and metadata of an open file."""
    try:
        content = pa.py_buffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ))  # pa.memory_map would read ahead
        reader = pa.ipc.open_file(content)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (ValueError, OSError) as error:
        raise ValueError(
            f"{path} is truncated or not an Arrow file ({error}): delete it and create it again"
        ) from error
    schema_metadata: Mapping = reader.schema.metadata or {}
    if _METADATA_KEY not in schema_metadata:
        raise ValueError(f"{path} is an Arrow file but not a proposal store: create one with {_describe_tools(None)}")
    version = json.loads(schema_metadata[_METADATA_KEY])["format_version"]
    if version != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format version {version}, expected {FORMAT_VERSION}: create it again with "
            "tools/generate_proposals.py"
        )
    return *_read_rows(batches, content.address), StoreMetadata.from_json(schema_metadata[_METADATA_KEY])


def _read_rows(batches: list[pa.RecordBatch], address: int) -> tuple[list[str], np.ndarray]:
    """Return ids, and (N, 2) int64: number of proposals and byte offset in the file.

    ``address`` is the memory address of the mapped file.
    """
    ids, rows = [], [np.zeros((0, 2), np.int64)]
    for batch in batches:
        names, proposals = batch.columns
        begins = proposals.offsets.to_numpy().astype(np.int64)
        rows.append(np.stack([np.diff(begins), _byte_offset(proposals, address) + 20 * begins[:-1]], axis=1))
        ids += names.to_pylist()
    return ids, np.concatenate(rows)


def _byte_offset(proposals: pa.ListArray, address: int) -> int:
    """Return the offset of the first value in the file; 0 if there are no values."""
    floats = proposals.values.values
    return floats.buffers()[1].address - address if len(floats) else 0


def _sort_and_check(image_id: str, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """Return (R, 5) float32, box and score, best first; equal scores keep their order."""
    boxes, scores = np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32)
    if boxes.size == 0 and scores.size == 0:
        return np.zeros((0, 5), np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"image '{image_id}': boxes {boxes.shape} and scores {scores.shape} are not (R, 4) and (R,)")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"image '{image_id}': boxes or scores are not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"image '{image_id}': boxes are not (x1, y1, x2, y2) with x2 >= x1 and y2 >= y1")
    return np.column_stack([boxes, scores])[np.argsort(-scores, kind="stable")]
