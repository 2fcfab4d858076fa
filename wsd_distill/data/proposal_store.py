"""Proposal store: the object proposals of one dataset split in one Arrow IPC file.

One row per image, sorted by ``str(image_id)``: ``image_id`` (string), ``proposals`` (list of 5 float32: a box, XYXY_ABS
in pixels of the original image, and its score; scores descend). To open it is to map the file, note the ids and where
the proposals of each image begin, some 80 bytes an image, and unmap it. They are then read from their place when they
are asked for, in one system call: pages of a mapping that stays would count as memory of every worker, and the first
touch of a page takes longer than a read.
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

import numpy as np
import pyarrow as pa

from ..io import atomic_write
from .root import datasets_root

FORMAT_VERSION = 2
_METADATA_KEY = b"wsd_distill.proposals"
_COLUMNS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("proposals", pa.list_(pa.list_(pa.float32(), 5)), nullable=False),
    ]
)


def default_store_path(dataset_name: str, method: str = "edge_boxes") -> str:
    """Where the proposals of a dataset live unless told otherwise; configs and tools both ask here."""
    return os.path.join(datasets_root(), "proposals", f"{dataset_name}_{method}.arrow")


@dataclass(frozen=True)
class StoreMetadata:
    """What the schema of a store says about it; all JSON.

    ``failures``: image id -> reason, of images that no proposals could be made for: they have no box, or, converted
    with ``--missing whole-image``, the whole image. ``dropped_boxes``: how many boxes, of all images, were left out
    since they had no area within their image; converted stores have 0, and their conversion logs the number.
    ``pictures``: which files the proposals were made of, by ``proposals.parts.image_fingerprint``; empty where that is not
    known.
    """

    dataset_name: str
    generator: str
    parameters: dict = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    dropped_boxes: int = 0
    pictures: str = ""
    box_mode: str = "XYXY_ABS"
    chunk_rows: int = 1024
    format_version: int = FORMAT_VERSION


class ProposalStore:
    """Read access to a proposal store, also from several threads or forked processes. Pickles as its path.

    Args:
        path: a file that :class:`ProposalStoreWriter` wrote.
        dataset_name: if given, the dataset that the store has to be for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a (whole) proposal store, or that of another dataset.
    """

    def __init__(self, path: str | os.PathLike, dataset_name: str | None = None) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._dataset_name = dataset_name
        if not os.path.isfile(self.path):
            raise FileNotFoundError(f"no proposal store {self.path}: make it with {_tools(dataset_name)}")
        self._file = os.open(self.path, os.O_RDONLY)
        weakref.finalize(self, os.close, self._file)
        self._ids, self._places, self.metadata = _contents(self.path, self._file)
        if dataset_name is not None and self.metadata.dataset_name != dataset_name:
            raise ValueError(
                f"{self.path} holds proposals of '{self.metadata.dataset_name}', not of '{dataset_name}'. "
                f"Make them with {_tools(dataset_name)}"
            )

    def __reduce__(self) -> tuple:
        return ProposalStore, (self.path, self._dataset_name)

    def __len__(self) -> int:
        return len(self._ids)

    def __contains__(self, image_id: object) -> bool:
        return self._find(str(image_id)) is not None

    def __iter__(self) -> Iterator[str]:
        """Image ids in the order of the file."""
        return iter(self._ids)

    def __getitem__(self, image_id: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (R, 4) float32, XYXY_ABS, and scores (R,) float32, descending; R may be 0. Both are views
        of one copy.

        Raises:
            KeyError: the image is not in the store.
        """
        return self.read(self.row_of(image_id))

    def row_of(self, image_id: int | str) -> int:
        """Where an image is in the file, for ``read``; raises as above."""
        row = self._find(str(image_id))
        if row is None:
            raise KeyError(
                f"no proposals for image '{image_id}' in {self.path}: make them again for the present "
                f"images, --overwrite, with {_tools(self.metadata.dataset_name)}"
            )
        return row

    def read(self, row: int) -> tuple[np.ndarray, np.ndarray]:
        """Boxes and scores of a row, as above."""
        count, place = self._places[row].tolist()
        table = np.empty((count, 5), np.float32)
        if os.preadv(self._file, [table], place) != table.nbytes:
            raise ValueError(f"{self.path} has been cut since it was opened: make it again")
        return table[:, :4], table[:, 4]

    def items(self) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
        """``(image_id, (boxes, scores))`` of every image, in one pass through the file."""
        for row, image_id in enumerate(self._ids):
            yield image_id, self.read(row)

    def _find(self, image_id: str) -> int | None:
        row = bisect_left(self._ids, image_id)
        return row if row < len(self._ids) and self._ids[row] == image_id else None


class ProposalStoreWriter:
    """Streams a proposal store to ``path``; the file appears when the ``with`` block ends without an error.

    Memory holds ``metadata.chunk_rows`` images at most.
    """

    def __init__(self, path: str | os.PathLike, metadata: StoreMetadata) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.metadata = metadata
        self._rows: list[tuple[str, np.ndarray]] = []
        self._last_id: str | None = None

    def __enter__(self) -> ProposalStoreWriter:
        self._schema = _COLUMNS.with_metadata({_METADATA_KEY: json.dumps(asdict(self.metadata))})
        with ExitStack() as stack:
            file = stack.enter_context(open(stack.enter_context(atomic_write(self.path)), "wb"))
            self._writer = pa.ipc.new_file(file, self._schema)
            stack.push(self._finish)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.__exit__(*error)

    def _finish(self, error_type: type | None, *_: object) -> None:
        if error_type is None:
            self._flush()
            self._writer.close()

    def write(self, image_id: int | str, boxes: np.ndarray, scores: np.ndarray) -> None:
        """Add an image; images come in ascending order of ``str(image_id)``, boxes of an image in any order.

        Args:
            boxes: (R, 4) XYXY_ABS in pixels of the original image; R may be 0.
            scores: (R,).

        Raises:
            ValueError: wrong shape, order, or a value that is no box; the message names the image.
        """
        image_id = str(image_id)
        if self._last_id is not None and image_id <= self._last_id:
            raise ValueError(
                f"{self.path}: image '{image_id}' comes after '{self._last_id}'; "
                "ids have to be unique and ascend as strings"
            )
        self._rows.append((image_id, _checked(image_id, boxes, scores)))
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


def _tools(dataset_name: str | None) -> str:
    """What makes a store, for messages."""
    config = f" (with the --config-file that registers '{dataset_name}', if one does)" if dataset_name else ""
    return f"tools/generate_proposals.py{config} or tools/convert_proposals.py"


def _contents(path: str, file: int) -> tuple[list[str], np.ndarray, StoreMetadata]:
    """Ids and places of the rows, and what the schema says, of an open file."""
    try:
        whole = pa.py_buffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ))  # pa.memory_map would read ahead
        reader = pa.ipc.open_file(whole)
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} is no whole Arrow file ({error}): delete it and make it again") from error
    content: Mapping = reader.schema.metadata or {}
    if _METADATA_KEY not in content:
        raise ValueError(f"{path} is an Arrow file but no proposal store; tools/generate_proposals.py makes those")
    metadata = json.loads(content[_METADATA_KEY])
    if metadata["format_version"] != FORMAT_VERSION:
        raise ValueError(
            f"{path} has format {metadata['format_version']}, this program reads {FORMAT_VERSION}: "
            "make it again with tools/generate_proposals.py"
        )
    return *_ids_and_places(batches, whole.address), StoreMetadata(**metadata)


def _ids_and_places(batches: list[pa.RecordBatch], address: int) -> tuple[list[str], np.ndarray]:
    """Ids, and (N, 2) int64: number of proposals, and where they begin, in bytes of the file.

    ``address``: of the first byte of the mapped file.
    """
    ids, places = [], [np.zeros((0, 2), np.int64)]
    for batch in batches:
        names, proposals = batch.columns
        begins = proposals.offsets.to_numpy().astype(np.int64)
        places.append(np.stack([np.diff(begins), _position(proposals, address) + 20 * begins[:-1]], axis=1))
        ids += names.to_pylist()
    return ids, np.concatenate(places)


def _position(proposals: pa.ListArray, address: int) -> int:
    """Of the first value in the file; an array without values may lie anywhere, and nothing is read from it."""
    floats = proposals.values.values
    return floats.buffers()[1].address - address if len(floats) else 0


def _checked(image_id: str, boxes: np.ndarray, scores: np.ndarray) -> np.ndarray:
    """(R, 5) float32, box and score, the best first (equal scores keep their order)."""
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
