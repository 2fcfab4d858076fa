"""The code of docs/extending.md: each example does its part of a training."""

import pickle

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog
from helpers.builders import CLASSES, K, make_batch, make_student, make_teacher
from helpers.documents import EXTENDING, load_config_of, read_command_blocks, read_commands
from PIL import Image

from wsd_distill.data.datasets import get_splits
from wsd_distill.distillation import Distiller
from wsd_distill.engine import load_config


@pytest.fixture
def load(extending, restore_catalogs):
    """A function: config below configs/ and overrides -> config."""
    return lambda name, *overrides: load_config(str(extending / "configs" / name), list(overrides))


def get_commands(config):
    """Commands of the page for a config."""
    commands = [words for block in read_command_blocks(EXTENDING) for words in read_commands(block)]
    return [words for words in commands if config in words]


def save(model, path):
    torch.save({"model": model.state_dict()}, path)
    return str(path)


def step(distiller):
    """Losses of one step, and the gradients of the student by name."""
    losses = distiller.train()(make_batch())
    sum(losses.values()).backward()
    return losses, {name: p.grad for name, p in distiller.student.named_parameters() if p.grad is not None}


def test_objective(extending, restore_catalogs, tmp_path):
    (command,) = get_commands("configs/small/score_matching.py")
    cfg = load_config_of(command, extending)
    assert cfg.train.output_dir == "output/digit_scenes/small_edge_boxes/score_matching"
    teacher = make_teacher()
    distiller = Distiller(
        student=make_student(),
        teacher=make_teacher(),
        teacher_checkpoint=save(teacher, tmp_path / "teacher.pth"),
        objectives=instantiate(cfg.distiller.objectives),
    )
    losses, gradients = step(distiller)
    assert set(losses) == {"loss_hard", "loss_scores"}
    batch = make_batch()
    with torch.no_grad():
        target = teacher.eval().compute_outputs([x["teacher"] for x in batch]).image_scores
        scores = distiller.student.logits(distiller.student.features(batch)).sigmoid()
    assert losses["loss_scores"].item() == pytest.approx(5 * ((scores - target) ** 2).mean().item(), rel=1e-5)
    assert all(gradient.abs().sum() > 0 for gradient in gradients.values()) and len(gradients) == 6


def test_dataset(extending, restore_catalogs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for split, classes in (("train", ("cat", "dog", "dog")), ("val", ("dog",)), ("test", ("cat",))):
        for i, name in enumerate(classes):
            path = tmp_path / "photos" / split / name / f"{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.new("RGB", (30, 20)).save(path)
    check, train = get_commands("configs/efficientnet_lite0/student.py")
    assert [word for word in check if "=" in word] == [word for word in train if "=" in word]
    cfg = load_config_of(train, extending)
    assert get_splits(cfg) == ["pets_train", "pets_val", "pets_test"]
    assert (cfg.dataset.num_classes, cfg.dataset.flip_prob) == (2, 0.5)
    records = DatasetCatalog.get("pets_train")
    assert [record["labels"] for record in records] == [[0], [1], [1]]
    assert instantiate(cfg.dataloader.train.mapper)(records[1])["labels"].tolist() == [0, 1]


def test_backbone(load, tmp_path):
    classes = {"num_classes": K, "class_names": CLASSES}
    cfg = load("strided/teacher.py")
    cfg.dataset.update(classes)
    teacher = instantiate(cfg.model).train()
    losses = teacher([x["teacher"] for x in make_batch()])
    sum(losses.values()).backward()
    assert all(p.grad is not None for p in teacher.parameters())
    checkpoint = save(teacher, tmp_path / "teacher.pth")
    expected = {"stage1": {"loss_roi"}, "stage2": {"loss_hard", "loss_class_aware"}}
    for run in ("stage1", "stage2"):
        (command,) = get_commands(f"configs/strided/{run}.py")
        overrides = [word for word in command if "=" in word]
        cfg = load(f"strided/{run}.py", *overrides)
        cfg.dataset.update(classes)
        assert cfg.train.output_dir == f"output/digit_scenes/strided_edge_boxes/{run}"
        cfg.distiller.update(student=instantiate(cfg.model), teacher_checkpoint=checkpoint, use_cache=False, cache=None)
        losses, gradients = step(instantiate(cfg.distiller))
        assert set(losses) == expected[run]
        assert {"backbone.conv1.0.weight", "backbone.conv2.0.weight"} <= set(gradients)


def test_proposal_generator(extending, restore_catalogs):
    (generate, train) = [words for words in get_commands("configs/small/teacher.py") if "grid" in " ".join(words)]
    cfg = load_config_of(generate, extending)
    assert instantiate(cfg.proposals.train).endswith("proposals/digit_scenes_train_grid.arrow")
    proposer = pickle.loads(pickle.dumps(instantiate(cfg.image_proposals.proposer)))  # copied to workers
    assert (proposer.name, proposer.parameters, proposer.in_workers) == ("grid", {"cells": 4}, True)
    boxes, scores = proposer(np.zeros((40, 80, 3), np.uint8))
    assert (boxes.dtype, boxes.shape, scores.tolist()) == (np.float32, (16, 4), [1] * 16)
    assert boxes[0].tolist() == [0, 0, 20, 10] and boxes[-1].tolist() == [60, 30, 80, 40]
    cfg = load_config_of(train, extending)
    assert cfg.train.output_dir == "output/digit_scenes/small_grid/teacher"
    model = instantiate(cfg.model)
    assert model.score_scale == 1 and cfg.dataloader.train.mapper.num_proposals == 16
    found = model.proposer({"image": torch.zeros(3, 128, 128), "height": 64, "width": 64})
    assert found.proposal_boxes.tensor[-1].tolist() == [96, 96, 128, 128]
