import copy
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from helpers.builders import K, make_batch, make_pair, make_student, make_teacher
from PIL import Image

from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.training_data import TrainingData
from wsd_distill.distillation import (
    AttentionTransfer,
    ClassAware,
    Distiller,
    DistillTrainer,
    FeatureDistillation,
    FitNetsHint,
    HardLabels,
    LabelWiseEmbeddings,
    LayerPair,
    MultiLabelLogits,
    Objectives,
    RegionConsistent,
    RoIAwareTransfer,
    SoftLabels,
)
from wsd_distill.engine.checkpointer import Checkpointer
from wsd_distill.modeling.checkpoints.load import CheckpointError
from wsd_distill.modeling.freezing import freeze_submodules
from wsd_distill.modeling.multilabel_losses import build_loss


@pytest.fixture
def checkpoint(tmp_path):
    """Checkpoint of a teacher with BatchNorm and dropout after one training step."""
    teacher = make_teacher(norm="BN", dropout=0.5).train()
    teacher([x["teacher"] for x in make_batch()])
    path = tmp_path / "teacher.pth"
    torch.save({"model": teacher.state_dict(), "iteration": 1}, path)
    return str(path)


def build(checkpoint, stage=2, frozen=(), **options):
    if stage == 1:
        objectives = Objectives(loss_roi=RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3))
        frozen = frozen or ["head", "classifier"]
    elif stage == "hint":
        objectives = Objectives(loss_hint=FitNetsHint(layer=LayerPair(teacher="conv2", student="conv1")))
        frozen = frozen or ["backbone.conv2", "head", "classifier"]
    elif stage == "attention":
        soft, attention = SoftLabels(t_teacher=1, t_student=5), AttentionTransfer(layers=[make_pair()])
        objectives = Objectives(loss_hard=HardLabels(), loss_soft_labels=soft, loss_attention=attention)
    elif stage == "l2d":
        embeddings = LabelWiseEmbeddings(layer=make_pair(), num_classes=K, dim=8, num_heads=2)
        objectives = Objectives(loss_hard=HardLabels(), loss_logits=MultiLabelLogits(), loss_embeddings=embeddings)
    elif stage == "features":
        pair = LayerPair(teacher="conv2", student="conv1")
        objectives = Objectives(loss_hard=HardLabels(), loss_features=FeatureDistillation(layer=pair))
    else:
        objectives = Objectives(loss_hard=HardLabels(), loss_class_aware=ClassAware(num_classes=K, num_proposals=7))
    teacher = options.pop("teacher", None) or make_teacher(norm="BN", dropout=0.5)
    student = make_student(norm="BN")
    freeze_submodules(student, frozen)
    return Distiller(
        student=student,
        teacher=teacher,
        teacher_checkpoint=checkpoint,
        objectives=objectives,
        **options,
    )


def train(distiller, steps=4):
    optimizer = torch.optim.SGD([p for p in distiller.parameters() if p.requires_grad], lr=0.1, weight_decay=0.1)
    distiller.train()
    for seed in range(steps):
        optimizer.zero_grad()
        sum(distiller(make_batch(seed=seed)).values()).backward()
        optimizer.step()


@pytest.mark.parametrize("stage", [1, 2, "hint", "attention", "l2d", "features"])
def test_every_trained_parameter_has_a_gradient(checkpoint, stage):
    """DistributedDataParallel fails otherwise."""
    distiller = build(checkpoint, stage).train()
    sum(distiller(make_batch()).values()).backward()
    named = {name: p for name, p in distiller.named_parameters() if p.requires_grad}
    assert named and all(p.grad is not None for p in named.values())
    assert all(torch.isfinite(p.grad).all() for p in named.values())


@pytest.mark.parametrize("stage", [1, 2, "hint", "attention", "l2d", "features"])
def test_the_teacher_is_bit_identical_after_training(checkpoint, stage):
    distiller = build(checkpoint, stage)
    expected = torch.load(checkpoint, weights_only=True)["model"]
    train(distiller)
    state = distiller.teacher.state_dict()
    assert "backbone.conv1.0.norm.running_mean" in state  # BatchNorm statistics are compared, too
    assert state.keys() == expected.keys() and all(torch.equal(state[key], expected[key]) for key in expected)
    assert not any(module.training for module in distiller.teacher.modules())
    assert not any(p.requires_grad or p.grad is not None for p in distiller.teacher.parameters())


def test_the_teacher_has_no_dropout_while_the_student_trains(checkpoint):
    distiller = build(checkpoint).train()
    batch = [x["teacher"] for x in make_batch()]
    first, second = distiller.run_teacher(batch), distiller.run_teacher(batch)
    assert torch.equal(first.image_scores, second.image_scores)


def test_state_dict_and_parameters_exclude_the_teacher(checkpoint):
    distiller = build(checkpoint)
    assert {key.split(".")[0] for key in distiller.state_dict()} == {"student", "objectives"}
    expected = sum(p.numel() for p in distiller.student.parameters()) + 2 * K + 7  # with the temperatures
    assert sum(p.numel() for p in distiller.parameters()) == expected


def test_stage_1_trains_convolutions_only(checkpoint):
    distiller = build(checkpoint, stage=1)
    before = copy.deepcopy(distiller.student.state_dict())
    train(distiller)
    changed = {key for key, value in distiller.student.state_dict().items() if not torch.equal(value, before[key])}
    assert {key.split(".")[0] for key in changed} == {"backbone"}
    assert "backbone.conv1.0.weight" in changed


def test_a_frozen_batchnorm_stays_frozen_after_an_evaluation(checkpoint):
    """An evaluation switches the student, not the Distiller, back to training mode."""
    distiller = build(checkpoint, stage=1, frozen=["backbone.conv1"])
    before = copy.deepcopy(distiller.student.state_dict())
    distiller.student.eval()
    distiller.student.train()
    train(distiller)
    changed = {key for key, value in distiller.student.state_dict().items() if not torch.equal(value, before[key])}
    assert "backbone.conv1.0.norm.running_mean" in before
    assert changed == {key for key in before if key.startswith("backbone.conv2.")}


def test_stage_2_trains_all_parameters_and_the_temperatures(checkpoint):
    distiller = build(checkpoint)
    before = copy.deepcopy(distiller.state_dict())
    train(distiller)
    changed = {key for key, value in distiller.state_dict().items() if not torch.equal(value, before[key])}
    constant = {key for key in before if key.startswith(("student.pixel", "student.channel", "student.class_names"))}
    assert changed == set(before) - constant


def test_losses_by_name_in_training_and_the_student_at_test_time(checkpoint):
    distiller, batch = build(checkpoint), make_batch()
    assert set(distiller.train()(batch)) == {"loss_hard", "loss_class_aware"}
    for found, expected in zip(distiller.eval()(batch), distiller.student(batch)):
        assert torch.equal(found["image_scores"], expected["image_scores"])


def test_the_loss_decreases_in_a_short_training(checkpoint):
    distiller, batch = build(checkpoint, stage=1), make_batch()
    optimizer = torch.optim.Adam(distiller.student.backbone.parameters(), lr=0.01)
    values = []
    for _ in range(30):
        optimizer.zero_grad()
        loss = distiller.train()(batch)["loss_roi"]
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[-1] < 0.7 * values[0]


def trainer_for(distiller, batches):
    optimizer = torch.optim.SGD(distiller.parameters(), lr=0.1, momentum=0.9)
    return DistillTrainer(distiller, batches, optimizer, teacher_check=lambda teacher: None)


def test_a_checkpoint_excludes_the_teacher_and_resumes_temperatures_and_optimizer(checkpoint, tmp_path):
    """As in train_net: the student is the checkpoint's model, the trainer has the rest."""
    trainer = trainer_for(build(checkpoint), [make_batch(seed=seed) for seed in range(3)])
    trainer.train(0, 3)
    Checkpointer(trainer.unwrapped_model.student, str(tmp_path), trainer=trainer).save("last")

    content = torch.load(tmp_path / "last.pth", weights_only=True)
    assert set(content["model"]) == set(make_student(norm="BN").state_dict())
    assert set(content["trainer"]) == {"iteration", "optimizer", "grad_scaler", "objectives"}
    assert set(content["trainer"]["objectives"]) == {
        f"loss_class_aware.temperatures.log_t_{name}" for name in ("cls", "det", "student")
    }
    parameters = len(list(trainer.unwrapped_model.student.parameters()))
    assert len(content["trainer"]["optimizer"]["state"]) == parameters + 3

    again = trainer_for(build(checkpoint), [make_batch(seed=3)])
    Checkpointer(again.unwrapped_model.student, str(tmp_path), trainer=again).resume_or_load("", resume=True)
    assert again.iter == 3
    trainer.data_loader, trainer._batches = [make_batch(seed=3)], None
    for each in (trainer, again):  # equal only if momentum and temperatures were restored
        each.train(3, 4)
    ours, theirs = trainer.unwrapped_model.state_dict(), again.unwrapped_model.state_dict()
    assert all(torch.equal(ours[key], theirs[key]) for key in ours)


def test_results_have_the_temperatures_that_were_reached(checkpoint, caplog):
    trainer = trainer_for(build(checkpoint), [make_batch(seed=seed) for seed in range(3)])
    with caplog.at_level("INFO", logger="wsd_distill"):
        trainer.train(0, 3)
    found = trainer.results()["objectives"]
    t_cls = trainer.distiller.objectives["loss_class_aware"].temperatures.t_cls
    reached = [t_cls.mean().item(), t_cls.min().item(), t_cls.max().item()]
    assert [found[f"temperature/t_cls{x}"] for x in ("", "_min", "_max")] == pytest.approx(reached)
    assert f"temperature/t_cls_max is {reached[2]:.4g}" in caplog.text
    assert trainer_for(build(checkpoint, stage=1), []).results() == {}


def step(checkpoint, record):
    """Losses and gradients of a step on two images read by the mapper."""
    torch.manual_seed(0)
    np.random.seed(0)
    options = {"num_proposals": 7, "sizes": [16], "teacher_sizes": [24, 32]}
    mapper = MultiLabelMapper(is_train=True, num_classes=K, **options)
    distiller = build(checkpoint)
    roi = distiller.objectives["loss_roi"] = RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3)
    roi.build(distiller.student.backbone.output_shape(), distiller.teacher.backbone.output_shape())
    losses = distiller.train()([mapper(record), mapper(record)])
    sum(losses.values()).backward()
    return [*losses.values(), *(p.grad for p in distiller.parameters())]


def test_boxes_of_the_ground_truth_do_not_affect_losses_and_gradients(checkpoint, tmp_path):
    rng = np.random.default_rng(0)
    path = tmp_path / "image.png"
    Image.fromarray(rng.integers(0, 256, (40, 60, 3), dtype=np.uint8)).save(path)
    corner = rng.random((5, 2), dtype=np.float32) * 20
    record = {
        **{"file_name": str(path), "image_id": 5, "height": 40, "width": 60, "labels": [1]},
        "proposal_boxes": np.hstack([corner, corner + 15]),
        "proposal_objectness_logits": np.linspace(1, 0.2, 5, dtype=np.float32),
        "proposal_bbox_mode": 0,
    }
    plain = step(checkpoint, record)
    for category in (0, 2):
        annotation = {"bbox": rng.integers(0, 20, 4).tolist(), "bbox_mode": 1, "category_id": category}
        scrambled = step(checkpoint, {**record, "annotations": [annotation] * (category + 1)})
        assert len(scrambled) == len(plain) and all(map(torch.equal, scrambled, plain))


def test_a_missing_checkpoint_is_an_error(tmp_path):
    for path in ("", str(tmp_path / "none.pth")):
        with pytest.raises(FileNotFoundError, match="distiller.teacher_checkpoint"):
            build(path)


def test_a_checkpoint_of_another_model_is_an_error_that_lists_all_keys(checkpoint, tmp_path):
    content = torch.load(checkpoint, weights_only=True)
    del content["model"]["cls_branch.bias"]
    content["model"]["extra"] = torch.zeros(1)
    content["model"]["det_branch.bias"] = torch.zeros(K + 1)
    path = str(tmp_path / "other.pth")
    torch.save(content, path)
    with pytest.raises(CheckpointError) as error:
        build(path)
    text = str(error.value)
    assert "2 keys missing or of another shape: cls_branch.bias, det_branch.bias (4,) instead of (3,)" in text
    assert "1 keys not in the model: extra" in text


def test_a_broken_checkpoint_is_an_error_that_names_the_file(checkpoint):
    content = Path(checkpoint).read_bytes()
    for part in (content[: len(content) // 2], b"", b"not a checkpoint"):
        Path(checkpoint).write_bytes(part)
        with pytest.raises(
            CheckpointError,
            match=r"teacher.pth is truncated or not a file of PyTorch tensors and plain values \(\w+\)",
        ):
            build(checkpoint)


SEVERAL = "images have several sizes: set a single one in dataloader.train.mapper.sizes"
MOSAIC = "features of proposals cannot be compared in a mosaic, .*: set dataloader.train.mix.mosaic=False"
RANKING = "labels of mixed images are between 0 and 1"


@pytest.mark.parametrize(
    "stage, options, message",
    [
        (2, {"mix": ["mosaic"], "sizes": [16, 24]}, None),
        (2, {"mix": ["mosaic", "cutmix"]}, RANKING),
        (1, {"mix": ["mixup"], "sizes": [16, 24]}, None),  # without the hard loss
        ("attention", {"sizes": [16, 24]}, SEVERAL),
        ("hint", {"sizes": [16, 24]}, SEVERAL),
        ("features", {"sizes": [16, 24]}, SEVERAL),
        ("l2d", {"sizes": [16, 24]}, SEVERAL),
        ("l2d", {"mix": ["mosaic"]}, "label-wise embeddings of mixed images are not defined"),
        (1, {"mix": ["mosaic"]}, MOSAIC),
        ("proposals", {"mix": ["mosaic"], "proposals": "a.arrow"}, MOSAIC),
        ("both", {"mix": ["cutmix", "mosaic"], "proposals": "a.arrow"}, MOSAIC),
        ("view", {"sizes": [16, 24]}, SEVERAL),
        ("both", {"sizes": [16, 24], "proposals": "a.arrow"}, SEVERAL),
        ("both", {"sizes": [16]}, "regions is not view, and there are no proposals: set dataloader.train.proposals="),
        ("proposals", {"sizes": [16, 24], "proposals": "a.arrow"}, SEVERAL),
        ("proposals", {"sizes": [16], "proposals": "a.arrow"}, None),
    ],
)
def test_batches_that_an_objective_cannot_use_are_errors(checkpoint, stage, options, message, restore_catalogs):
    """Without any batch; the student's loss compares positives with negatives."""
    DatasetCatalog.register("pets", lambda: [{"image_id": 0}])
    distiller = build(checkpoint, stage if stage in (1, 2, "attention", "hint", "features", "l2d") else 2)
    if stage in ("view", "both", "proposals"):
        distiller.objectives = Objectives(loss_regions=RegionConsistent(layer=make_pair(), regions=stage))
    distiller.student.loss = build_loss("zlpr")
    with pytest.raises(ValueError, match=message) if message else nullcontext():
        distiller.check_data(TrainingData("pets", **options))
