""".mat files of proposals, as published for Fast R-CNN and later methods.

Either one file per split, with the cell arrays ``images`` (file names without folder and suffix) and ``boxes`` ((R, 4)
each), or a folder with one file per image, named after it, that contains ``boxes`` only. MATLAB counts pixels from 1
and boxes include their last pixel.

Scores are in ``scores`` (``boxScores`` in WSDDN's files) or in a fifth column. Files without scores list the best box
first.
"""

from __future__ import annotations

import math
import os
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import numpy as np
from scipy.io import savemat

from ...io import check_file, read_limit
from .box_formats import PIXEL_FORMATS
from .proposal_file import RANK_SCORES, ProposalFile, RawProposals, Rows, parse_name, parse_proposals

BOX_FORMAT = "y1x1y2x2"  # used by Fast R-CNN for selective search and MCG
WRITTEN_FORMATS = PIXEL_FORMATS[:3]
_SCORES = ("scores", "boxScores")
_MATRIX, _COMPRESSED = 14, 15  # types of elements
_CELL, _TEXT, _NUMBERS = 1, 4, range(6, 16)  # classes of arrays
_TYPES = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8", 18: "u4"}
_UNICODE = {16: "utf-8", 17: "utf-16-le"}  # types of text
Order = Literal["little", "big"]


def read(path: str) -> ProposalFile:
    """Read a .mat file as a whole, or the files of a folder on access.

    Raises:
        ValueError: not a .mat file, a damaged one, a file of MATLAB's version 7.3, one without the expected variables,
            or a variable of more than ``$WSD_MAX_UNPACKED_GB`` (4) gigabytes when decompressed.
    """
    if os.path.isdir(path):
        return _read_folder(path)
    content = _load(path, "images", "boxes")
    names = [parse_name(path, cell).strip() for cell in np.ravel(content["images"])]
    boxes = _cells_of(path, content, "boxes")
    found = next((name for name in _SCORES if name in content), None)
    cells = _cells_of(path, content, found) if found else np.full(len(boxes), None)
    if not len(names) == len(boxes) == len(cells):
        raise ValueError(f"{path}: {len(names)} images, {len(boxes)} arrays of boxes, {len(cells)} of scores")
    ranked = not found and not any(getattr(table, "shape", ())[1:] == (5,) for table in boxes)
    text = f"{RANK_SCORES}, since the file has none" if ranked else "of the file"

    def proposals(position: int) -> RawProposals:
        return parse_proposals(f"{path}: image '{names[position]}'", boxes[position], cells[position])

    return ProposalFile(path, names, proposals, box_format=BOX_FORMAT, one_based=True, key="file_name", scores=text)


def _read_folder(path: str) -> ProposalFile:
    files = sorted(Path(path).rglob("*.mat"))
    if not files:
        raise ValueError(f"{path}: no .mat file in this folder or its subfolders")

    def proposals(position: int) -> RawProposals:
        content = _load(str(files[position]), "boxes")
        scores = next((content[name] for name in _SCORES if name in content), None)
        return parse_proposals(str(files[position]), content["boxes"], scores)

    text = f"of the files; where there are none, {RANK_SCORES}"
    names = [file.stem for file in files]
    return ProposalFile(path, names, proposals, box_format=BOX_FORMAT, one_based=True, key="file_name", scores=text)


def _load(path: str, *required: str) -> dict[str, np.ndarray]:
    """Read the variables of a version 5 file.

    SciPy's loadmat crashes on some damaged files, allocates whatever size a file declares, and decompresses without a
    limit.
    """
    check_file(path)
    content = {}
    with open(path, "rb") as file:
        header = file.read(128)
        order: Order = "big" if header[126:] == b"MI" else "little"
        if header[126:] not in (b"IM", b"MI"):
            raise ValueError(f"{path} is truncated, damaged or not a .mat file (no version 5 header)")
        if int.from_bytes(header[124:126], order) >> 8 == 2:
            raise ValueError(f"{path} has MATLAB's format 7.3: save it again in MATLAB with save(..., '-v7')")
        try:
            while tag := file.read(8):
                kind, data = int.from_bytes(tag[:4], order), file.read(int.from_bytes(tag[4:], order))
                if kind == _COMPRESSED:
                    data = _decompress(path, data)
                    kind, data = int.from_bytes(data[:4], order), data[8 : 8 + int.from_bytes(data[4:8], order)]
                if kind != _MATRIX:
                    raise ValueError(f"an element of type {kind}")
                name, value = _read_array(memoryview(data), order)
                content[name] = value
        except _TooLargeError:
            raise
        except Exception as error:  # a damaged file can raise anything
            raise ValueError(f"{path} is truncated, damaged or not a .mat file ({error})") from error
    if missing := [name for name in required if name not in content]:
        raise ValueError(f"{path} lacks the variables {missing}, it has {list(content)}")
    return content


def _cells_of(path: str, content: dict, name: str) -> np.ndarray:
    cells = content[name]
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise ValueError(f"{path}: '{name}' is not a cell array with one cell per image")
    return cells.ravel()


class _TooLargeError(ValueError):
    """A file that would fill the memory."""


def _decompress(path: str, data: bytes) -> bytes:
    limit = read_limit("WSD_MAX_UNPACKED_GB", 4)
    decompressor = zlib.decompressobj()
    content = decompressor.decompress(data, int(limit * 1e9))
    if decompressor.unconsumed_tail:
        text = f"{path} has more than {limit:g} GB when decompressed"
        raise _TooLargeError(f"{text}: set the environment variable WSD_MAX_UNPACKED_GB if it is right")
    return content


def _read_array(data: memoryview, order: Order, depth: int = 0) -> tuple[str, np.ndarray]:
    """Read an array from the content of its element.

    Returns:
        Name and values: numbers, text (one string per row), or cells. Other classes, as structs, are empty.
    """
    if not len(data):
        return "", np.zeros(0)
    elements = _elements(data, order)
    (_, flags), (_, sizes), (_, name) = (next(elements) for _ in range(3))
    kind = int.from_bytes(flags[:4], order) & 255
    shape = np.frombuffer(sizes, np.dtype("i4").newbyteorder(">" if order == "big" else "<")).tolist()
    values: np.ndarray = np.zeros(0)
    if kind == _CELL:
        cells = [part for part_kind, part in elements if part_kind == _MATRIX]
        if math.prod(shape) != len(cells) or min(shape) < 0 or depth > 1:
            raise ValueError(f"{len(cells)} cells instead of {math.prod(shape)}")
        values = _cells([_read_array(cell, order, depth + 1)[1] for cell in cells]).reshape(shape, order="F")
    elif kind in (_TEXT, *_NUMBERS):
        part_kind, part = next(elements)
        if part_kind in _UNICODE:
            part_kind, part = 18, memoryview(bytes(part).decode(_UNICODE[part_kind]).encode("utf-32-le"))
        dtype = np.dtype(_TYPES[part_kind])
        if order == "big" and part_kind != 18:
            dtype = dtype.newbyteorder(">")
        values = np.frombuffer(part, dtype).reshape(shape, order="F")
        if next(elements, None) is not None:
            raise ValueError("complex numbers")
        if kind == _TEXT:
            values = np.array(["".join(map(chr, row)) for row in np.atleast_2d(values).tolist()])
    return bytes(name).decode("latin1"), values


def _elements(data: memoryview, order: Order) -> Iterator[tuple[int, memoryview]]:
    """Yield type and content of the elements that follow each other."""
    position = 0
    while position + 8 <= len(data):
        word = int.from_bytes(data[position : position + 4], order)
        if word >> 16:  # up to four bytes, in the tag
            yield word & 0xFFFF, data[position + 4 : position + 4 + (word >> 16)]
            position += 8
            continue
        size = int.from_bytes(data[position + 4 : position + 8], order)
        if position + 8 + size > len(data):
            raise ValueError(f"an element of {size} bytes where {len(data) - position - 8} are left")
        yield word, data[position + 8 : position + 8 + size]
        position += 8 + size + -size % 8


def write(path: str, rows: Rows, box_format: str = BOX_FORMAT) -> None:
    """Write one file per split, with ``scores``, after collecting all in memory."""
    names, tables, scores = [], [], []
    for record, boxes, image_scores in rows:
        table = boxes + np.array([1.0, 1.0, 0.0, 0.0])
        if box_format == "y1x1y2x2":
            table = table[:, [1, 0, 3, 2]]
        elif box_format == "xywh":
            table[:, 2:] = table[:, 2:] - table[:, :2] + 1
        tables.append(table)
        names.append(Path(record["file_name"]).stem)
        scores.append(image_scores[:, None])
    content = {"images": _cells(names)[:, None], "boxes": _cells(tables)[None], "scores": _cells(scores)[None]}
    with open(path, "wb") as file:
        savemat(file, content, do_compression=True)


def _cells(values: list) -> np.ndarray:
    cells = np.empty(len(values), dtype=object)
    for position, value in enumerate(values):
        cells[position] = value
    return cells
