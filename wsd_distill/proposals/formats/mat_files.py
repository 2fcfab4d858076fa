""".mat files of proposals, as published for Fast R-CNN and later methods.

Either one file per split, with the cell arrays ``images`` (file names without folder and suffix) and ``boxes`` ((R, 4)
each), or a folder with one file per image, named after it, that contains ``boxes`` only. MATLAB counts pixels from 1
and boxes include their last pixel; Detectron2's boxes are continuous, so 1 is subtracted from the first corner only.

Scores are in ``scores`` (``boxScores`` in WSDDN's files) or in a fifth column. Files without scores list the best box
first; box i of R (from 0) gets the score 1 - i / R.
"""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from scipy.io import loadmat, savemat
from scipy.io.matlab import MatReadError

from .proposal_file import ProposalFile, Proposals, Rows

# Order of the columns; the first is used by Fast R-CNN for selective search and MCG.
BOX_FORMATS = ("y1x1y2x2", "x1y1x2y2", "xywh")
_SCORES = ("scores", "boxScores")
_RANK_SCORES = "1 - rank / number, since the file has none"  # saved in the metadata of stores


def read(path: str, box_format: str = BOX_FORMATS[0]) -> ProposalFile:
    """Read a .mat file as a whole, or the files of a folder on access.

    Raises:
        ValueError: not a .mat file, a file of MATLAB's version 7.3, or one without the expected variables.
    """
    if os.path.isdir(path):
        return _read_folder(path, box_format)
    content = _load(path, "images", "boxes")
    names = [str(np.asarray(cell).item()) for cell in content["images"].ravel()]
    boxes = content["boxes"].ravel()
    cells = next((content[name].ravel() for name in _SCORES if name in content), [None] * len(boxes))
    if not len(names) == len(boxes) == len(cells):
        raise ValueError(f"{path}: {len(names)} images, {len(boxes)} arrays of boxes, {len(cells)} of scores")
    ranked = not any(name in content for name in _SCORES) and not any(table.shape[1:] == (5,) for table in boxes)

    def proposals(position: int) -> Proposals:
        return _proposals(f"{path}: image '{names[position]}'", boxes[position], cells[position], box_format)

    return ProposalFile(path, names, proposals, key="file_name", scores=_RANK_SCORES if ranked else "of the file")


def _read_folder(path: str, box_format: str) -> ProposalFile:
    files = sorted(Path(path).rglob("*.mat"))
    if not files:
        raise ValueError(f"{path}: no .mat file in this folder or its subfolders")

    def proposals(position: int) -> Proposals:
        content = _load(str(files[position]), "boxes")
        scores = next((content[name] for name in _SCORES if name in content), None)
        return _proposals(str(files[position]), content["boxes"], scores, box_format)

    text = "of the files; where there are none, 1 - rank / number"
    return ProposalFile(path, [file.stem for file in files], proposals, key="file_name", scores=text)


def _load(path: str, *required: str) -> dict:
    try:
        content = loadmat(path)
    except NotImplementedError as error:
        raise ValueError(f"{path} has MATLAB's format 7.3: save it again in MATLAB with save(..., '-v7')") from error
    except (MatReadError, ValueError, TypeError) as error:
        raise ValueError(f"{path} is truncated or not a .mat file ({error})") from error
    if missing := [name for name in required if name not in content]:
        variables = [name for name in content if not name.startswith("__")]
        raise ValueError(f"{path} lacks the variables {missing}, it has {variables}")
    return content


def _proposals(location: str, table: np.ndarray, scores: np.ndarray | None, box_format: str) -> Proposals:
    if table.size == 0:
        return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    if table.ndim != 2 or table.shape[1] not in (4, 5):
        raise ValueError(f"{location}: boxes {table.shape} are not (R, 4) or, with scores, (R, 5)")
    if scores is None:
        scores = table[:, 4] if table.shape[1] == 5 else 1 - np.arange(len(table)) / len(table)
    boxes = table[:, [1, 0, 3, 2] if box_format == "y1x1y2x2" else [0, 1, 2, 3]].astype(np.float32)
    if box_format == "xywh":
        boxes[:, 2:] = boxes[:, :2] + boxes[:, 2:] - 1
    boxes[:, :2] -= 1
    return boxes, np.asarray(scores, dtype=np.float32).ravel()


def write(path: str, rows: Rows, box_format: str = BOX_FORMATS[0]) -> None:
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
