"""Checkpoints of a training: what is written, and what a resume or other weights may change."""

import logging

import pytest
import torch
from helpers.builders import CLASSES, OneWeight, make_student, make_teacher

from wsd_distill.class_names import class_names_state
from wsd_distill.engine.checkpointer import Checkpointer
from wsd_distill.modeling.checkpoints.load import CheckpointError


class Counter:
    """Part of a training; ``load_state_dict`` requires the same key."""

    def __init__(self, value=0, key="value"):
        self.value, self.key = value, key

    def state_dict(self):
        return {self.key: self.value}

    def load_state_dict(self, state):
        self.value = state[self.key]


def weights_of(model):
    return model.classifier.weight.detach().clone()


@pytest.fixture
def saved(tmp_path):
    """A function: save checkpoints of an S-Cls under these names -> their weights by name."""

    def save(*names):
        weights = {}
        for value, name in enumerate(names):
            model = make_student()
            Checkpointer(model, str(tmp_path), trainer=Counter(value)).save(name, iteration=value)
            weights[name] = weights_of(model)
        return weights

    return save


def resume(folder, model=None, **checkpointables):
    model = model or make_student()
    Checkpointer(model, str(folder), **checkpointables).resume_or_load("", resume=True)
    return model


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def flip(path):
    """Change one bit of a weight, which PyTorch does not notice."""
    content = bytearray(path.read_bytes())
    state = torch.load(path, weights_only=True)["model"]
    content[content.find(state["classifier.weight"].numpy().tobytes()) + 1] ^= 1
    path.write_bytes(content)


def test_the_files_are_those_of_detectron2(saved, tmp_path):
    weights = saved("model_0000004")["model_0000004"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_0000004.pth"]
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000004.pth"
    content = torch.load(tmp_path / "model_0000004.pth", weights_only=True)
    assert set(content) == {"model", "trainer", "iteration"} and content["trainer"] == {"value": 0}
    assert torch.equal(content["model"]["classifier.weight"], weights)


@pytest.mark.parametrize("value", [float("nan"), float("-inf")])
def test_weights_that_are_not_finite_do_not_replace_a_checkpoint(value, saved, tmp_path):
    saved("model_final")
    before = (tmp_path / "model_final.pth").read_bytes()
    model = make_student()
    with torch.no_grad():
        model.classifier.bias[1] = value
    message = (
        r"model_final.pth was not written: 1 of the model's weights are not finite \(classifier.bias\).*optimizer.lr"
    )
    with pytest.raises(FloatingPointError, match=message):
        Checkpointer(model, str(tmp_path), trainer=Counter()).save("model_final")
    assert (tmp_path / "model_final.pth").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["last_checkpoint", "model_final.pth"]


@pytest.mark.parametrize("damage", [cut, flip, lambda path: path.unlink()], ids=["cut", "flip", "missing"])
@pytest.mark.parametrize("last", ["model_0000008", "model_final"])
def test_a_damaged_last_checkpoint_falls_back_to_the_one_before(last, damage, saved, tmp_path, caplog):
    weights = saved("model_0000003", "model_0000005", last)
    saved("other_0000007")
    (tmp_path / "last_checkpoint").write_text(f"{last}.pth")
    damage(tmp_path / f"{last}.pth")
    counter = Counter()
    with caplog.at_level(logging.WARNING):
        model = resume(tmp_path, trainer=counter)
    assert torch.equal(weights_of(model), weights["model_0000005"]) and counter.value == 1
    (text,) = [record.getMessage() for record in caplog.records]
    assert f"{last}.pth" in text and f"Resuming from the checkpoint before it, {tmp_path}/model_0000005.pth" in text
    assert (tmp_path / "last_checkpoint").read_text() == "model_0000005.pth"


@pytest.mark.parametrize("content", [None, b"", b"\x80\xff\x00"])
def test_without_the_name_of_the_last_checkpoint_the_newest_is_taken(content, saved, tmp_path, caplog):
    weights = saved("model_0000003", "model_0000005")
    (tmp_path / "last_checkpoint").unlink()
    if content is not None:
        (tmp_path / "last_checkpoint").write_bytes(content)
    model = resume(tmp_path, trainer=Counter())
    assert torch.equal(weights_of(model), weights["model_0000005"])
    assert f"last_checkpoint is missing or damaged: taking the newest checkpoint, {tmp_path}/model_00" in caplog.text


def test_a_checkpoint_that_is_no_dict_is_damaged(saved, tmp_path):
    weights = saved("model_0000003", "model_0000005")
    torch.save([1], tmp_path / "model_0000005.pth")
    assert torch.equal(weights_of(resume(tmp_path, trainer=Counter())), weights["model_0000003"])


def test_a_later_checkpoint_is_no_fallback(saved, tmp_path):
    saved("model_0000009", "model_0000004")
    cut(tmp_path / "model_0000004.pth")
    with pytest.raises(CheckpointError, match=r"no checkpoint in .* can be read \(.*0000004.pth is truncated.*without"):
        resume(tmp_path, trainer=Counter())


@pytest.mark.parametrize(
    "model, message",
    [
        (
            make_student(class_names=["box", "ball", "wedge"]),
            r"the weights have 3 classes \(ball, box, wedge\), the model has 3 \(box, ball, wedge\)",
        ),
        (make_student(norm="BN"), r"keys missing .*backbone\.conv1\.0\.norm\.bias"),
        (make_student(channels=7), r"backbone.conv2.1.weight \(6, 4, 3, 3\) instead of \(7, 4, 3, 3\)"),
        (make_teacher(), "keys not in the model: classifier.bias"),
    ],
    ids=["classes", "layer", "width", "model"],
)
def test_a_resume_with_other_classes_or_layers_stops(model, message, saved, tmp_path):
    saved("model_0000003", "model_0000005")
    with pytest.raises(
        CheckpointError, match=f"0000005.pth does not fit the model.*{message}.*--resume continues the same"
    ):
        resume(tmp_path, model, trainer=Counter())


def test_a_resume_with_another_trainer_stops(saved, tmp_path):
    saved("model_0000003")
    with pytest.raises(
        CheckpointError, match="0000003.pth: the state of the trainer does not fit this config: 'other'"
    ):
        resume(tmp_path, trainer=Counter(key="other"))


def test_without_a_checkpoint_initial_weights_are_loaded(saved, tmp_path):
    weights = saved("start")["start"]
    (tmp_path / "last_checkpoint").unlink()
    model, counter = make_student(), Counter()
    checkpointer = Checkpointer(model, str(tmp_path), trainer=counter)
    assert checkpointer.get_checkpoint_file() == ""
    checkpointer.resume_or_load(str(tmp_path / "start.pth"), resume=True)
    assert torch.equal(weights_of(model), weights) and counter.value == 0
    with pytest.raises(FileNotFoundError, match=r"checkpoint '.*none.pth' does not exist"):
        checkpointer.load(str(tmp_path / "none.pth"))
    with pytest.raises(CheckpointError, match="start.pth does not fit the model of this config: other classes: "):
        other = make_student(class_names=[*CLASSES[:2], "cube"])
        Checkpointer(other, str(tmp_path)).resume_or_load(str(tmp_path / "start.pth"), resume=False)


def test_a_model_without_class_names_is_not_trained(tmp_path):
    with pytest.raises(ValueError, match="the model has no class names: set class_names="):
        Checkpointer(make_student(class_names=None), str(tmp_path)).resume_or_load("", resume=False)


def test_initial_weights_of_another_model_may_lack_declared_layers_only(tmp_path):
    """A model that is neither T-WDet nor S-Cls."""
    model = torch.nn.ModuleDict({"backbone": torch.nn.Linear(2, 2), "roi_heads": torch.nn.Linear(2, 3)})
    path = str(tmp_path / "start.pth")

    def load(state, new_layers=("roi_heads",)):
        torch.save(state, path)
        Checkpointer(model, str(tmp_path), new_layers=new_layers).load(path)

    state = {"backbone.weight": torch.eye(2), "backbone.bias": torch.ones(2), "head.weight": torch.ones(1)}
    load(state)
    assert torch.equal(model["backbone"].weight, torch.eye(2))
    with pytest.raises(CheckpointError, match="2 keys missing.*: roi_heads.bias, roi_heads.weight; 1 keys not in the"):
        load(state, new_layers=())
    with pytest.raises(CheckpointError, match="1 keys missing or of another shape: backbone.bias"):
        load({**state, "backbone.bias": torch.ones(3)})
    with pytest.raises(
        CheckpointError, match="1 keys missing .*: roi_heads.weight; 1 keys not in the model: head.weight"
    ):
        load({**state, "roi_heads.bias": torch.ones(3)})


def test_initial_weights_of_s_cls_may_lack_declared_layers_only(tmp_path):
    """ImageNet weights; the classification layer need not be declared."""
    state = {key: x for key, x in make_student().state_dict().items() if not key.startswith(("classifier", "class_n"))}
    state.update(class_names_state([]))
    del state["backbone.conv2.1.bias"]
    path = str(tmp_path / "start.pth")
    torch.save({"model": state}, path)
    message = "start.pth .*train.new_layers.* 1 keys missing .*: backbone.conv2.1.bias"
    with pytest.raises(CheckpointError, match=message):
        Checkpointer(make_student(), str(tmp_path)).load(path)
    model = make_student()
    Checkpointer(model, str(tmp_path), new_layers=["backbone.conv2.1"]).load(path)
    assert torch.equal(model.backbone.conv1[0].weight, state["backbone.conv1.0.weight"])


def test_a_model_without_weights_of_ours(tmp_path):
    model = OneWeight(lambda weight, batch: {"loss": weight})
    Checkpointer(model, str(tmp_path), trainer=Counter(3)).save("model_final")
    again, counter = OneWeight(None), Counter()
    with torch.no_grad():
        again.weight.zero_()
    resume(tmp_path, again, trainer=counter)
    assert again.weight.item() == 1 and counter.value == 3
