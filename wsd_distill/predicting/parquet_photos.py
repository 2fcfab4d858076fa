"""Photos of Parquet files: a column of paths, of bytes, or of Hugging Face's struct of both."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from .sources import PATH_COLUMNS, Photo, make_photo, raise_error

BATCH_ROWS = 64  # read at once: few, because bytes of photos are large


def find_column(path: str, column: str | None = None) -> tuple[str, str]:
    """Return the name and the kind ("struct", "bytes" or "path") of the column with the photos.

    Args:
        column: its name; None: the only struct with ``bytes`` and ``path``, else the only binary column, else the first
            string column with a name of ``PATH_COLUMNS``.

    Raises:
        ValueError: there is no such column, or several.
    """
    try:
        schema = pq.read_schema(path)
    except pa.ArrowInvalid as error:
        raise ValueError(f"{path} is not a Parquet file ({error}): write it again") from None
    kinds = {field.name: kind for field in schema if (kind := _kind(field.type))}
    if column is not None:
        if column not in kinds:
            raise ValueError(f"{path} has no column '{column}' of paths or bytes: its columns are {schema.names}")
        return column, kinds[column]
    for wanted in ("struct", "bytes", "path"):
        found = [name for name, kind in kinds.items() if kind == wanted]
        if wanted == "path":
            found = [name for name in PATH_COLUMNS if name in found][:1]
        if len(found) > 1:
            raise ValueError(f"{path} has several columns of {wanted} values, {found}: choose one with --column")
        if found:
            return found[0], wanted
    raise ValueError(f"{path} has no column of photos among {schema.names}: choose one with --column")


def read_parquet(path: str, column: str, kind: str) -> Iterator[Photo]:
    """Yield the photos of a column; memory is that of one row group. Paths are relative to the folder of the file."""
    row = 0
    with pq.ParquetFile(path) as file:
        for batch in file.iter_batches(BATCH_ROWS, columns=[column]):
            for value in batch.column(0).to_pylist():
                yield _photo(path, column, kind, value, row)
                row += 1


def _kind(kind: pa.DataType) -> str | None:
    if pa.types.is_struct(kind):
        names = {kind.field(i).name for i in range(kind.num_fields)}
        return "struct" if {"bytes", "path"} <= names else None
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return "bytes"
    return "path" if pa.types.is_string(kind) or pa.types.is_large_string(kind) else None


def _photo(path: str, column: str, kind: str, value, row: int) -> Photo:
    entry = value or {} if kind == "struct" else {kind: value}
    data, file = entry.get("bytes"), entry.get("path")
    if data is not None:
        return make_photo(f"{path}/{file or row}", partial(bytes, data))
    if file:
        found = os.path.join(os.path.dirname(path), file)
        return make_photo(found, partial(os.fspath, found))
    text = f"{path}, row {row}: column '{column}' is empty: remove the row"
    return make_photo(f"{path}/{row}", partial(raise_error, text))
