"""Every format that the project reads: how to write a sound file of it, and how to read one."""

from __future__ import annotations

import wsd_distill  # noqa: F401

# isort: split
import csv
import io
import json
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from helpers.caffe_files import write_caffemodel
from helpers.proposal_files import BOXES, RECORDS, content, rows
from scipy.io import savemat

from wsd_distill.data.datasets.coco import load_coco
from wsd_distill.data.datasets.image_list import load_image_list
from wsd_distill.data.datasets.nus_wide import load_nus_wide_csv, load_nus_wide_official
from wsd_distill.data.datasets.readers import read_class_names
from wsd_distill.data.datasets.voc import load_voc
from wsd_distill.data.image import ImageFile
from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from wsd_distill.evaluation.scores import read_scores
from wsd_distill.modeling.checkpoints.caffemodel import read_caffemodel
from wsd_distill.modeling.checkpoints.load import read_weights
from wsd_distill.proposals.convert import Converter, read_proposals

from .cache_files import read_cache, write_cache
from .damage import damaged_bytes, damaged_json, damaged_text
from .nus_wide_files import csv_list, write_tree

CLASSES = ["ball", "box", "wedge"]
LABELS = "Groundtruth/TrainTestLabels/Labels_sky_Train.txt"
CACHE_FILES = ("key.json", "logits.0.rows", "logits.index.npy", "conv2.0.rows")


@dataclass(frozen=True)
class Format:
    """A file format.

    Attributes:
        name: unique.
        file: path of the file below the folder of a test.
        write: sound content of the file.
        read: path -> what was read, comparable by ``==`` of its ``repr``.
        damages: strategies, sound content -> damaged content.
        checked: the file has checksums: what is read from a damaged file must be what was written.
        named: what an error has to name; default: the file.
    """

    name: str
    file: str
    write: Callable[[Path], None]
    read: Callable[[Path], Any]
    damages: tuple[Callable, ...] = (damaged_bytes,)
    checked: bool = False
    named: str = ""


def _write_bytes(data: bytes, path: Path) -> None:
    path.write_bytes(data)


def _text(name: str, file: str, data: str, read: Callable, *damages: Callable) -> Format:
    return Format(name, file, partial(_write_bytes, data.encode()), read, (damaged_bytes, *(damages or [damaged_text])))


def _image(suffix: str, *options: int) -> Format:
    pixels = np.random.default_rng(0).integers(0, 255, (24, 33, 3), dtype=np.uint8)
    done, data = cv2.imencode(suffix, cv2.resize(pixels, (66, 48)), options)
    assert done
    write = partial(_write_bytes, data.tobytes())
    return Format(f"image {suffix}", f"image{suffix}", write, lambda path: ImageFile(str(path)).pixels(16).shape)


def _csv_list() -> str:
    file = io.StringIO()
    csv.writer(file).writerows([["file", "labels"], *([f"{i}.jpg", ";".join(CLASSES[: i % 4])] for i in range(6))])
    return file.getvalue()


def _coco() -> str:
    return json.dumps(
        {
            "images": [{"id": i, "file_name": f"{i}.jpg", "height": 30, "width": 40} for i in range(3)],
            "annotations": [
                {"id": i, "image_id": i, "category_id": 1 + i, "bbox": [1, 2, 10, 12], "iscrowd": 0} for i in range(3)
            ],
            "categories": [{"id": 1 + k, "name": name} for k, name in enumerate(CLASSES)],
        }
    )


VOC_XML = """<annotation><filename>000001.jpg</filename>
<size><width>40</width><height>30</height><depth>3</depth></size>
<object><name>dog</name><difficult>0</difficult>
<bndbox><xmin>3</xmin><ymin>4</ymin><xmax>20</xmax><ymax>21</ymax></bndbox></object>
<object><name>cat</name><difficult>1</difficult>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>9</xmax><ymax>8</ymax></bndbox></object></annotation>
"""


def _read_voc(path: Path) -> Any:
    folder = path.parent.parent
    for part in ("ImageSets/Main", "JPEGImages"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "ImageSets" / "Main" / "test.txt").write_text("000001\n")
    return load_voc(2007, "test")


def _nus_wide(file: str) -> Format:
    return Format(
        f"nus {Path(file).stem}",
        f"nuswide/{file}",
        write_tree,
        lambda path: load_nus_wide_official("train"),
        (damaged_bytes, damaged_text),
    )


def _write_pickle(path: Path) -> None:
    boxes = [np.array(boxes, np.float32) for boxes, _ in BOXES.values()]
    scores = [np.array(scores, np.float32) for _, scores in BOXES.values()]
    content = {"ids": list(BOXES), "boxes": boxes, "objectness_logits": scores, "bbox_mode": 0}
    path.write_bytes(pickle.dumps(content, protocol=2))


def _write_mat(path: Path) -> None:
    names = np.array([Path(record["file_name"]).stem for record in RECORDS], dtype=object)
    tables, scores = np.empty((2, len(RECORDS)), dtype=object)
    for i, record in enumerate(RECORDS):
        tables[i], scores[i] = _mat_arrays(record)
    content = {"images": names[:, None], "boxes": tables[None], "scores": scores[None]}
    savemat(path, content, do_compression=False)


def _mat_arrays(record: dict) -> tuple[np.ndarray, np.ndarray]:
    """Return boxes (R, 4) as y1x1y2x2 from 1, the last pixel included, and scores (R, 1)."""
    boxes, scores = BOXES[str(record["image_id"])]
    return np.array(boxes)[:, [1, 0, 3, 2]] + [1, 1, 0, 0], np.array(scores)[:, None]


def _write_results(path: Path) -> None:
    path.write_text(
        json.dumps(
            [
                {"image_id": int(i), "category_id": 1, "score": s, "bbox": [b[0], b[1], b[2] - b[0], b[3] - b[1]]}
                for i, (boxes, scores) in BOXES.items()
                for b, s in zip(boxes, scores)
            ]
        )
    )


def _write_predictions(path: Path) -> None:
    torch.save(
        [
            {"image_id": int(i), "instances": [{"bbox": [b[0], b[1], 2.0, 2.0], "score": s} for b, s in zip(*found)]}
            for i, found in BOXES.items()
        ],
        path,
    )


def _write_store(path: Path) -> None:
    with ProposalStoreWriter(path, StoreMetadata("fuzz", "converted", chunk_rows=2)) as writer:
        for record, boxes, scores in rows():
            writer.write(record["image_id"], boxes, scores)


def _read_store(path: Path) -> Any:
    store = ProposalStore(path)
    return [(name, store[name][0].tolist(), store[name][1].tolist()) for name in store]


def _read_proposals(path: Path) -> Any:
    source = read_proposals(str(path), "fuzz")
    try:
        return content(source)
    except KeyError:  # fewer or other images: a converter reports it
        return sorted(source)


def _convert(path: Path) -> Any:
    converter = Converter(read_proposals(str(path), "fuzz"), RECORDS, missing="empty")
    return [(record["image_id"], boxes.tolist(), scores.tolist()) for record, boxes, scores in converter.rows()]


def _write_mats(path: Path) -> None:
    for record in RECORDS:
        table, scores = _mat_arrays(record)
        file = path.parent / f"{Path(record['file_name']).stem}.mat"
        savemat(file, {"boxes": table, "scores": scores}, do_compression=False)


def _read_folder(path: Path) -> Any:
    return _read_proposals(path.parent)


def _write_scores(path: Path) -> None:
    scores = np.random.default_rng(0).random((4, 3)).astype(np.float32)
    ids = np.arange(4).astype(str)
    np.savez(path, image_ids=ids, scores=scores, labels=(scores > 0.5).astype(np.int8), class_names=np.array(CLASSES))


def _write_weights(path: Path) -> None:
    torch.save({"model": {"a.weight": torch.arange(12.0).view(3, 4), "a.bias": torch.zeros(3)}, "iteration": 3}, path)


def _write_pickled_weights(path: Path) -> None:
    weights = {"a.weight": np.arange(12, dtype=np.float32).reshape(3, 4), "a.bias": np.zeros(3, np.float32)}
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "someone"}, protocol=2))


def _shapes(content: Any) -> Any:
    return sorted(content) if isinstance(content, dict) else type(content)


FORMATS = {
    found.name: found
    for found in [
        _text("list .csv", "list.csv", _csv_list(), lambda path: load_image_list(str(path), "", CLASSES)),
        _text(
            "list .json",
            "list.json",
            json.dumps([{"file": f"{i}.jpg", "labels": CLASSES[:i]} for i in range(3)]),
            lambda path: load_image_list(str(path), "", CLASSES),
            damaged_json,
        ),
        _text("classes .txt", "classes.txt", "\n".join(CLASSES), lambda path: read_class_names(str(path))),
        _text("coco", "coco.json", _coco(), lambda path: load_coco(str(path), "", CLASSES), damaged_json),
        _text("voc", "VOC2007/Annotations/000001.xml", VOC_XML, _read_voc),
        _text("nus csv", "nuswide/nus_wid_data.csv", csv_list(), lambda path: load_nus_wide_csv("train")),
        *(_nus_wide(file) for file in ("ConceptsList/Concepts81.txt", "ImageList/TrainImagelist.txt", LABELS)),
        _image(".jpg", cv2.IMWRITE_JPEG_QUALITY, 90),
        _image(".png"),
        _image(".bmp"),
        _image(".tiff"),
        _image(".webp"),
        Format("proposals .pkl", "p.pkl", _write_pickle, _read_proposals),
        Format("proposals .mat", "p.mat", _write_mat, _read_proposals),
        Format("proposals .json", "p.json", _write_results, _read_proposals, (damaged_bytes, damaged_json)),
        Format("proposals .pth", "p.pth", _write_predictions, _read_proposals),
        Format("proposals folder", "mats/ten.mat", _write_mats, _read_folder),
        Format("converted .pkl", "p.pkl", _write_pickle, _convert),
        Format("converted .mat", "p.mat", _write_mat, _convert),
        Format("converted .json", "p.json", _write_results, _convert, (damaged_bytes, damaged_json)),
        Format("converted .pth", "p.pth", _write_predictions, _convert),
        Format("converted store", "p.arrow", _write_store, _convert, checked=True),
        *(
            Format(f"cache {name}", f"cache/{name}", write_cache, read_cache, checked=True, named="/cache")
            for name in CACHE_FILES
        ),
        Format("proposal store", "p.arrow", _write_store, _read_store, checked=True),
        Format("scores .npz", "scores.npz", _write_scores, lambda path: [x for x in read_scores(path)]),
        Format("weights .pth", "model.pth", _write_weights, lambda path: _shapes(read_weights(path))),
        Format("weights .pkl", "model.pkl", _write_pickled_weights, lambda path: _shapes(read_weights(path))),
        Format(
            "weights .caffemodel",
            "net.caffemodel",
            partial(write_caffemodel, layers={"conv": [np.ones((2, 3), np.float32)]}, old=False),
            lambda path: sorted(read_caffemodel(path)),
        ),
    ]
}
