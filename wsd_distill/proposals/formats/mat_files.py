""".mat files of proposals, as published for Fast R-CNN and later methods.

Either one file per split, with the cell arrays ``images`` (file names without folder and suffix) and ``boxes`` ((R, 4)
each), or a folder with one file per image, named after it, that contains ``boxes`` only. MATLAB counts pixels from 1
and boxes include their last pixel.

Scores are in ``scores`` (``boxScores`` in WSDDN's files) or in a fifth column. Files without scores list the best box
first.
"""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import numpy as np
from scipy.io import loadmat, savemat

from ...io import check_file, read_limit
from .box_formats import PIXEL_FORMATS
from .proposal_file import RANK_SCORES, ProposalFile, RawProposals, Rows, parse_name, parse_proposals

BOX_FORMAT = "y1x1y2x2"  # used by Fast R-CNN for selective search and MCG
WRITTEN_FORMATS = PIXEL_FORMATS[:3]
_SCORES = ("scores", "boxScores")


def read(path: str) -> ProposalFile:
    """Read a .mat file as a whole, or the files of a folder on access.

    Raises:
        ValueError: not a .mat file, a damaged one, a file of MATLAB's version 7.3, one without the expected variables,
            or one that has more than ``$WSD_MAX_FILE_GB`` (16) gigabytes when decompressed.
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


def _load(path: str, *required: str) -> dict:
    check_file(path)
    _check_decompressed_size(path)
    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise ValueError(f"{path} has MATLAB's format 7.3: save it again in MATLAB with save(..., '-v7')") from error
    except Exception as error:  # a damaged file can raise anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise ValueError(f"{path} is truncated, damaged or not a .mat file ({reason})") from error
    if missing := [name for name in required if name not in content]:
        variables = [name for name in content if not name.startswith("__")]
        raise ValueError(f"{path} lacks the variables {missing}, it has {variables}")
    return content


def _cells_of(path: str, content: dict, name: str) -> np.ndarray:
    cells = content[name]
    if not isinstance(cells, np.ndarray) or cells.dtype != object:
        raise ValueError(f"{path}: '{name}' is not a cell array with one cell per image")
    return cells.ravel()


def _check_decompressed_size(path: str) -> None:
    """Raise ValueError if the compressed variables of a version 5 file are larger than the limit of a file.

    loadmat decompresses whatever a file contains. A file with an invalid structure is left to it.
    """
    limit, total = read_limit("WSD_MAX_FILE_GB", 16) * 1e9, 0
    with open(path, "rb") as file:
        order = {b"IM": "little", b"MI": "big"}.get(file.read(128)[126:])
        while order and len(tag := file.read(8)) == 8:
            kind, size = (int.from_bytes(part, order) for part in (tag[:4], tag[4:]))  # type: ignore[arg-type]
            end = file.tell() + size
            decompressor = zlib.decompressobj()
            try:
                while kind == 15 and file.tell() < end and (data := file.read(min(1 << 20, end - file.tell()))):
                    while data and total <= limit:
                        total += len(decompressor.decompress(data, 1 << 24))
                        data = decompressor.unconsumed_tail
            except zlib.error:
                return
            if total > limit:
                text = f"{path} has more than {limit / 1e9:g} GB when decompressed"
                raise ValueError(f"{text}: set the environment variable WSD_MAX_FILE_GB if it is right")
            file.seek(end)


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
