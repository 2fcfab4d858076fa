"""Proposal store: the object proposals of one data set split in one memory-mapped Arrow IPC file.

One row per image, sorted by ``str(image_id)``: ``image_id`` (string), ``boxes`` (list of 4 float32, XYXY_ABS
in pixels of the original image), ``scores`` (list of float32, descending). Each record batch but the last has
``chunk_rows`` rows, so that row i is in batch ``i // chunk_rows`` and an image is found by bisection, without
an index in memory.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field

import numpy as np
import pyarrow as pa
from detectron2.structures import BoxMode

from .root import datasets_root

FORMAT_VERSION = 1
_METADATA_KEY = b"wsd_distill.proposals"
_COLUMNS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("boxes", pa.list_(pa.list_(pa.float32(), 4)), nullable=False),
        pa.field("scores", pa.list_(pa.float32()), nullable=False),
    ]
)


def default_store_path(dataset_name: str, method: str = "edge_boxes") -> str:
    """Where the proposals of a data set live unless told otherwise; configs and tools both ask here."""
    return os.path.join(datasets_root(), "proposals", f"{dataset_name}_{method}.arrow")


@dataclass(frozen=True)
class StoreMetadata:
    """What the schema of a store says about it; all JSON.

    ``failures``: image id -> reason, of images that got the whole image as their only box since no proposals
    could be made for them. ``dropped_boxes``: how many boxes, of all images, were left out since they had no area
    within their image.
    """

    dataset_name: str
    generator: str
    parameters: dict = field(default_factory=dict)
    failures: dict[str, str] = field(default_factory=dict)
    dropped_boxes: int = 0
    box_mode: str = "XYXY_ABS"
    chunk_rows: int = 1024
    format_version: int = FORMAT_VERSION


class ProposalStore:
    """Read access to a proposal store. Pickles as its path, so that workers map the same pages.

    Args:
        path: a file that :class:`ProposalStoreWriter` wrote.
        dataset_name: if given, the data set that the store has to be for.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a (whole) proposal store, or that of another data set.
    """

    def __init__(self, path: str | os.PathLike, dataset_name: str | None = None) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self._dataset_name = dataset_name
        self._batches, self.metadata = _open(self.path)
        if dataset_name is not None and self.metadata.dataset_name != dataset_name:
            raise ValueError(
                f"{self.path} holds proposals of '{self.metadata.dataset_name}', not of '{dataset_name}'. "
                f"Make them with: python tools/generate_proposals.py --dataset {dataset_name}"
            )
        self._length = sum(batch.num_rows for batch in self._batches)

    def __reduce__(self) -> tuple:
        return ProposalStore, (self.path, self._dataset_name)

    def __len__(self) -> int:
        return self._length

    def __contains__(self, image_id: object) -> bool:
        return self._find(str(image_id)) is not None

    def __iter__(self) -> Iterator[str]:
        """Image ids in the order of the file."""
        for batch in self._batches:
            yield from batch.column(0).to_pylist()

    def __getitem__(self, image_id: int | str) -> tuple[np.ndarray, np.ndarray]:
        """Boxes (R, 4) float32, XYXY_ABS, and scores (R,) float32, descending; R may be 0. Both are copies.

        Raises:
            KeyError: the image is not in the store.
        """
        row = self._find(str(image_id))
        if row is None:
            raise KeyError(
                f"no proposals for image '{image_id}' in {self.path}: make them again for the present "
                "images with python tools/generate_proposals.py "
                f"--dataset {self.metadata.dataset_name} --overwrite"
            )
        return _arrays(*self._locate(row))

    def attach(self, record: dict) -> dict:
        """A dataset dict with its image's proposals under Detectron2's keys, the best first; raises as above."""
        boxes, scores = self[record["image_id"]]
        return {
            **record,
            "proposal_boxes": boxes,
            "proposal_objectness_logits": scores,
            "proposal_bbox_mode": BoxMode.XYXY_ABS,
        }

    def items(self) -> Iterator[tuple[str, tuple[np.ndarray, np.ndarray]]]:
        """``(image_id, (boxes, scores))`` of every image, in one pass through the file."""
        for batch in self._batches:
            for row, image_id in enumerate(batch.column(0).to_pylist()):
                yield image_id, _arrays(batch, row)

    def _locate(self, row: int) -> tuple[pa.RecordBatch, int]:
        index, row_in_batch = divmod(row, self.metadata.chunk_rows)
        return self._batches[index], row_in_batch

    def _find(self, image_id: str) -> int | None:
        """Row of an image, by bisection on the mapped column."""
        low, high = 0, self._length
        while low < high:
            middle = (low + high) // 2
            batch, row = self._locate(middle)
            found = batch.column(0)[row].as_py()
            if found == image_id:
                return middle
            low, high = (middle + 1, high) if found < image_id else (low, middle)
        return None


class ProposalStoreWriter:
    """Streams a proposal store to ``path``; the file appears when the ``with`` block ends without an error.

    Memory holds ``metadata.chunk_rows`` images at most.
    """

    def __init__(self, path: str | os.PathLike, metadata: StoreMetadata) -> None:
        self.path = os.path.abspath(os.fspath(path))
        self.metadata = metadata
        self._unfinished = f"{self.path}.{os.getpid()}.unfinished"
        self._rows: list[tuple[str, np.ndarray, np.ndarray]] = []
        self._last_id: str | None = None

    def __enter__(self) -> ProposalStoreWriter:
        os.makedirs(os.path.dirname(self.path), exist_ok=True)
        self._schema = _COLUMNS.with_metadata({_METADATA_KEY: json.dumps(asdict(self.metadata))})
        self._file = open(self._unfinished, "wb")
        self._writer = pa.ipc.new_file(self._file, self._schema)
        return self

    def __exit__(self, error_type: type | None, *_: object) -> None:
        try:
            if error_type is None:
                self._flush()
                self._writer.close()
                self._file.close()
                os.replace(self._unfinished, self.path)
        finally:
            self._file.close()
            if os.path.exists(self._unfinished):
                os.remove(self._unfinished)

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
        self._rows.append((image_id, *_checked(image_id, boxes, scores)))
        self._last_id = image_id
        if len(self._rows) == self.metadata.chunk_rows:
            self._flush()

    def _flush(self) -> None:
        if not self._rows:
            return
        ids, boxes, scores = zip(*self._rows)
        offsets = pa.array(np.cumsum([0] + [len(s) for s in scores]), pa.int32())
        flat_boxes = pa.FixedSizeListArray.from_arrays(pa.array(np.concatenate(boxes).ravel()), 4)
        columns = [
            pa.array(ids, pa.string()),
            pa.ListArray.from_arrays(offsets, flat_boxes),
            pa.ListArray.from_arrays(offsets, pa.array(np.concatenate(scores))),
        ]
        self._writer.write_batch(pa.record_batch(columns, schema=self._schema))
        self._rows.clear()


def _open(path: str) -> tuple[list[pa.RecordBatch], StoreMetadata]:
    """Batches point into the mapped file: their columns are pages of it, not memory of this process."""
    if not os.path.isfile(path):
        raise FileNotFoundError(f"no proposal store {path}: make it with tools/generate_proposals.py")
    try:
        reader = pa.ipc.open_file(pa.memory_map(path))
        batches = [reader.get_batch(index) for index in range(reader.num_record_batches)]
    except (pa.ArrowInvalid, OSError) as error:
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
    return batches, StoreMetadata(**metadata)


def _arrays(batch: pa.RecordBatch, row: int) -> tuple[np.ndarray, np.ndarray]:
    boxes = batch.column(1)[row].values.flatten().to_numpy()
    return boxes.reshape(-1, 4).copy(), batch.column(2)[row].values.to_numpy().copy()


def _checked(image_id: str, boxes: np.ndarray, scores: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The two as float32, the best first (equal scores keep their order)."""
    boxes, scores = np.asarray(boxes, dtype=np.float32), np.asarray(scores, dtype=np.float32)
    if boxes.size == 0 and scores.size == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if boxes.ndim != 2 or boxes.shape[1] != 4 or scores.shape != boxes.shape[:1]:
        raise ValueError(f"image '{image_id}': boxes {boxes.shape} and scores {scores.shape} are not (R, 4) and (R,)")
    if not (np.isfinite(boxes).all() and np.isfinite(scores).all()):
        raise ValueError(f"image '{image_id}': boxes or scores are not finite")
    if (boxes[:, 2:] < boxes[:, :2]).any():
        raise ValueError(f"image '{image_id}': boxes are not (x1, y1, x2, y2) with x2 >= x1 and y2 >= y1")
    order = np.argsort(-scores, kind="stable")
    return boxes[order], scores[order]
