"""File format of proposal stores: columns, metadata and the index of rows."""

from __future__ import annotations

import json
import mmap
import struct
import zlib
from dataclasses import asdict, dataclass, field, fields

import numpy as np
import pyarrow as pa

from .image import ImageStamp

FORMAT_VERSION = 3
METADATA_KEY, METADATA_CHECKSUM_KEY = b"wsd_distill.proposals", b"wsd_distill.proposals.crc32"
_JSON_KEYS = {"image_fingerprint": "pictures"}  # fields of StoreMetadata with another name in the file format
_NUMBERS = {"height": pa.int32(), "width": pa.int32(), "num_bytes": pa.int64(), "digest": pa.uint64()}
COLUMNS = pa.schema(
    [
        pa.field("image_id", pa.string(), nullable=False),
        pa.field("proposals", pa.list_(pa.list_(pa.float32(), 5)), nullable=False),
        *(pa.field(name, kind, nullable=False) for name, kind in _NUMBERS.items()),  # of the image, see ImageStamp
        pa.field("checksum", pa.uint32(), nullable=False),  # row_checksum
    ]
)
INDEX_TYPE = np.dtype(  # a row in memory: number of proposals, their byte offset in the file, and the other columns
    {
        "names": ["count", "offset", "height", "width", "num_bytes", "digest", "checksum"],
        "formats": ["i8", "i8", "i4", "i4", "i8", "u8", "u4"],
    }
)
_ROW_BYTES = 20  # of a proposal


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
    image_fingerprint: str = ""  # data.image.image_fingerprint; empty if unknown
    box_mode: str = "XYXY_ABS"
    chunk_rows: int = 1024  # images per Arrow record batch
    format_version: int = FORMAT_VERSION

    def to_json(self) -> str:
        return json.dumps({_JSON_KEYS.get(name, name): value for name, value in asdict(self).items()})

    @classmethod
    def from_json(cls, text: str | bytes) -> StoreMetadata:
        names = {key: name for name, key in _JSON_KEYS.items()}
        return cls(**{names.get(key, key): value for key, value in json.loads(text).items()})

    def to_schema(self) -> pa.Schema:
        """Return the schema of a file with this metadata."""
        text = self.to_json().encode()
        return COLUMNS.with_metadata({METADATA_KEY: text, METADATA_CHECKSUM_KEY: str(zlib.crc32(text))})


def row_checksum(image_id: str, stamp: ImageStamp, table: np.ndarray) -> int:
    """Compute the CRC-32 of a row: id, stamp and proposals (R, 5) float32."""
    return zlib.crc32(table.data, zlib.crc32(f"{image_id}\n{tuple(stamp)}".encode()))


def read_index(path: str, file: int) -> tuple[list[str], np.ndarray, StoreMetadata]:
    """Read the ids, rows and metadata of an open file, without its proposals.

    Every length and offset is checked before it is used, because a damaged one would crash the process.

    Returns:
        Ids (N), rows (N,) of ``INDEX_TYPE``, and metadata.

    Raises:
        ValueError: the file is damaged or not a proposal store; names it.
    """
    try:
        content = pa.py_buffer(mmap.mmap(file, 0, access=mmap.ACCESS_READ))  # pa.memory_map would read ahead
        reader = pa.ipc.open_file(content)
        num_batches, schema = reader.num_record_batches, reader.schema
        metadata = _read_metadata(path, schema)
        if not schema.equals(COLUMNS):
            found = {column.name: str(column.type) for column in schema}
            expected = {column.name: str(column.type) for column in COLUMNS}
            raise _InvalidStore(f"{path} has the columns {found}, expected {expected}: create it again")
        parts = [_read_batch(content, batch) for batch in _read_batches(content, schema, num_batches)]
    except _InvalidStore:
        raise
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated, damaged or not an Arrow file ({reason}): create it again") from error
    ids = [name for names, _ in parts for name in names]
    for previous, name in zip(ids, ids[1:]):
        if previous >= name:
            raise ValueError(f"{path} is damaged: image '{name}' comes after '{previous}'; create it again")
    return ids, np.concatenate([np.zeros(0, INDEX_TYPE), *(rows for _, rows in parts)]), metadata


class _InvalidStore(ValueError):
    """An Arrow file that is not a valid proposal store."""


def _read_metadata(path: str, schema: pa.Schema) -> StoreMetadata:
    found = schema.metadata or {}
    if METADATA_KEY not in found:
        text = "create one with tools/generate_proposals.py or tools/convert_proposals.py"
        raise _InvalidStore(f"{path} is an Arrow file but not a proposal store: {text}")
    text = found[METADATA_KEY]
    version = json.loads(text)["format_version"]
    if version != FORMAT_VERSION:
        raise _InvalidStore(f"{path} has format version {version}, expected {FORMAT_VERSION}: create it again")
    names = {_JSON_KEYS.get(each.name, each.name) for each in fields(StoreMetadata)}
    if int(found[METADATA_CHECKSUM_KEY]) != zlib.crc32(text) or set(json.loads(text)) != names:
        raise _InvalidStore(f"{path} has damaged metadata: create it again")
    return StoreMetadata.from_json(text)


def _read_batches(content: pa.Buffer, schema: pa.Schema, num_batches: int) -> list[pa.RecordBatch]:
    """Read the record batches, which point into ``content``."""
    messages = pa.ipc.MessageReader.open_stream(content.slice(8))  # after the magic number and its padding
    messages.read_next_message()  # the schema
    batches = []
    for _ in range(num_batches):
        message = messages.read_next_message()
        if message.type != "record batch" or _is_compressed(message.metadata.to_pybytes()):
            raise ValueError("it has a compressed or unexpected block")  # a compressed one could fill the memory
        batches.append(pa.ipc.read_record_batch(message, schema))
    if next(iter(messages), None) is not None:
        raise ValueError("it has more blocks than its footer")
    return batches


def _is_compressed(message: bytes) -> bool:
    """Return whether the flatbuffer of a record batch has its fourth field, the compression of the buffers."""

    def find_field(table: int, number: int) -> int:
        vtable = table - struct.unpack_from("<i", message, table)[0]
        if 4 + 2 * number >= struct.unpack_from("<H", message, vtable)[0]:
            return 0
        offset = struct.unpack_from("<H", message, vtable + 4 + 2 * number)[0]
        return table + offset if offset else 0

    root = struct.unpack_from("<I", message)[0]
    header = find_field(root, 2)
    return find_field(header + struct.unpack_from("<I", message, header)[0], 3) != 0


def _read_batch(content: pa.Buffer, batch: pa.RecordBatch) -> tuple[list[str], np.ndarray]:
    batch.validate(full=True)
    names, proposals, *numbers, checksums = batch.columns
    begins = proposals.offsets.to_numpy().astype(np.int64)
    values = proposals.values.values  # all floats of the batch; without a buffer if there are none
    if any(array.null_count for array in (*batch.columns, proposals.values, values)):
        raise ValueError("it has empty cells")
    first = values.buffers()[1].address - content.address if len(values) else 0
    rows = np.empty(len(batch), INDEX_TYPE)
    rows["count"], rows["offset"] = np.diff(begins), first + _ROW_BYTES * begins[:-1]
    if len(rows) and (rows["offset"].min() < 0 or rows["offset"][-1] + _ROW_BYTES * rows["count"][-1] > content.size):
        raise ValueError("its proposals are not in the file")
    for name, column in zip(_NUMBERS, numbers):
        rows[name] = column.to_numpy()
    rows["checksum"] = checksums.to_numpy()
    return names.to_pylist(), rows
