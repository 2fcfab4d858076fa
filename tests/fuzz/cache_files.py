"""A teacher cache of three noise images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.builders import CLASSES, K, make_teacher
from PIL import Image

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata
from wsd_distill.distillation import TeacherCache

DATASET = "fuzzed_cache"
IMAGES = 3


def write_cache(path: Path) -> None:
    """Write images, proposals and weights beside the folder of ``path``, and fill that folder."""
    folder, rng = path.parent.parent, np.random.default_rng(0)
    with ProposalStoreWriter(str(folder / "p.arrow"), StoreMetadata(DATASET, "fuzz")) as writer:
        for i in range(IMAGES):
            Image.fromarray(rng.integers(0, 256, (20, 30, 3), np.uint8)).save(folder / f"{i}.png")
            corner = rng.random((4, 2), dtype=np.float32) * 8
            writer.write(i, np.hstack([corner, corner + 8]), np.linspace(1, 0.2, 4, dtype=np.float32))
    torch.manual_seed(0)
    torch.save(make_teacher().state_dict(), folder / "teacher.pth")


def read_cache(path: Path) -> Any:
    """Fill the cache of the folder of ``path``, and return all that it has, rounded."""
    folder = path.parent.parent
    records = [{"file_name": str(folder / f"{i}.png"), "image_id": str(i), "labels": [i % K]} for i in range(IMAGES)]
    if DATASET in DatasetCatalog.list():
        DatasetCatalog.remove(DATASET)
        MetadataCatalog.remove(DATASET)
    DatasetCatalog.register(DATASET, lambda: records)
    MetadataCatalog.get(DATASET).thing_classes = CLASSES
    proposals = str(folder / "p.arrow")
    mapper = MultiLabelMapper(
        num_classes=K, sizes=[16], teacher_sizes=[16], num_proposals=4, fast_decode=False, is_train=False
    )
    cache = TeacherCache(str(path.parent), dataset=DATASET, proposals=proposals, mapper=mapper, batch_size=2)
    teacher = make_teacher().eval()
    teacher.load_state_dict(torch.load(folder / "teacher.pth", weights_only=True))
    cache.fill([teacher], ["conv2"])
    images = build_test_loader(DATASET, mapper=mapper, proposals=proposals).dataset
    views = [images[i]["teacher"] for i in range(IMAGES)]
    found = cache.read(views, ["conv2"], torch.device("cpu"))
    tensors = [*found.cls_logits, *found.det_logits, *found.features["conv2"]]
    return [[round(value, 2) for value in tensor.flatten().tolist()] for tensor in tensors]
