"""Overrides of a wrong type or out of range name the key, the value and what to give."""

from collections.abc import Sequence
from typing import Any, Literal, Optional, Union, get_origin

import pytest

LIST = "give a list of integers, for example [96]"


@pytest.mark.parametrize(
    "config, override, wanted",
    [
        ("student", "train.epochs=abc", "give a number"),
        ("student", "train.epochs=True", "give a number"),
        ("student", "train.epochs=[1]", "give a number"),
        ("student", "train.epochs=0", "give a value above 0"),
        ("student", "train.epochs=null", "give a number"),
        ("student", "train.max_iter=0", "give a value of at least 1"),
        ("student", "train.max_iter=1.5", "give an integer or null"),
        ("student", "train.max_iter=ten", "give an integer or null"),
        ("student", "train.batch_size=0", "give a value of at least 1"),
        ("student", "train.batch_size=null", "give an integer"),
        ("student", "train.checkpointer.period=0", "give a value of at least 1"),
        ("student", "train.checkpointer.max_to_keep=0", "give a value of at least 1"),
        ("student", "train.log_period=0", "give a value of at least 1"),
        ("student", "train.eval_period=-1", "give a value of at least 0"),
        ("student", "train.channels_last=maybe", "give True or False"),
        ("student", "train.seed=x", "give an integer"),
        ("student", "train.output_dir=[a]", "give text"),
        ("student", "optimizer.lr=fast", "give a number"),
        ("student", "optimizer.lr=nan", "give a number"),
        ("student", "optimizer.lr=-1", "give a value of at least 0"),
        ("student", "trainer.accumulate=0", "give a value of at least 1"),
        ("student", "trainer.clip_norm=0", "give a value above 0"),
        ("student", "trainer.clip_norm=big", "give a number or null"),
        ("stage2", "trainer.ema=yes", "give a number or null"),
        ("student", "model.loss_options=2", "give key: value pairs in braces or null"),
        ("student", "trainer.amp=1", "give True or False"),
        ("student", "dataloader.train.mapper.sizes=96", LIST),
        ("student", "dataloader.train.mapper.sizes=[0]", "give a value of at least 1"),
        ("student", "dataloader.train.mapper.sizes=[a]", "give a list of integers"),
        ("student", "dataloader.train.mapper.flip_prob=2", "give a value from 0 to 1"),
        ("student", "dataloader.train.num_workers=-1", "give a value of at least 0"),
        ("student", "dataloader.train.total_batch_size=0", "give a value of at least 1"),
        ("student", "dataset.flip_prob=50", "give a value from 0 to 1"),
        ("student", "dataset.num_classes=ten", "give an integer or null"),
        ("student", "dataset.boxes=2", "give True or False or null"),
        ("student", "dataset.files=list.csv", "give key: value pairs in braces or null, or set dataset.files.train"),
        ("student", "dataset.classes=[[1]]", "give null or text or a list"),
        ("student", "model.num_classes=[3]", "give an integer"),
        ("teacher", "image_proposals.proposer.sides=96", LIST),
        ("teacher", "image_proposals.num_proposals=0", "give a value of at least 1"),
        ("student", "dataset.split_names.val=True", "give text or null, in quotes"),
        ("student", "train.run=false", "give text, in quotes"),
        ("student", "train.new_layers=[3]", "give a list of names"),
        ("student", "dataloader.train.mapper.crop_scale=0.5", "give a list of numbers or null, for example [0.5,1.0]"),
        ("student", "train.new_layers=head", "give a list of names, for example [head]"),
        ("student", "model=3", "give key: value pairs in braces"),
        ("student", "model=null", "give key: value pairs in braces"),
        ("student", "model.backbone=3", "give key: value pairs in braces"),
        ("student", "model.backbone=null", "give key: value pairs in braces"),
        ("student", "model.head=[1]", "give key: value pairs in braces"),
        ("student", "lr_multiplier=3", "give key: value pairs in braces"),
        ("student", "dataloader.train=x", "give key: value pairs in braces"),
        ("student", "dataloader.train.mapper.sizes=[]", "give a list of integers with at least one item"),
        ("student", "model.pixel_mean=[]", "give a list of numbers with at least one item"),
        ("teacher", "image_proposals.proposer.sides=[]", "give a list of integers with at least one item"),
        ("stage2", "train.frozen=[3]", "give a list of names"),
        ("stage2", "distiller.use_cache=yes", "give True or False"),
        ("stage2", "train.frozen=head", "give a list"),
        ("stage2", "distiller.objectives.loss_class_aware.weight=heavy", "give a number"),
    ],
)
def test_wrong_values(load_config, config, override, wanted):
    with pytest.raises(ValueError) as error:
        load_config(f"small/{config}.py", override)
    assert str(error.value).startswith(f"{override}: {wanted}"), error.value


@pytest.mark.parametrize(
    "override, expected",
    [
        ("train.max_iter=1e1", 10),
        ("train.max_iter=null", None),
        ("train.epochs=2", 2),
        ("train.epochs='1e1'", 10.0),
        ("optimizer.lr=1e1", 10.0),
        ("optimizer.lr=1", 1),
        ("train.seed=-1", -1),
        ("train.run=2024", "2024"),
        ("dataset.split_names.train=0", "0"),  # a column "split" is read as text
        ("dataset.split_names.train=01", "01"),
        ("dataset.classes=[cat,7]", ["cat", "7"]),
        ("dataset.classes=null", None),
        ("dataloader.train.mapper.sizes=[96,1.28e2]", [96, 128]),
        ("dataloader.train.mapper.teacher_sizes=null", None),
        ("dataloader.test=null", None),
        ("trainer.clip_norm=5", 5),
        ("optimizer.betas=[0.9,0.99]", [0.9, 0.99]),
        ("train.device=cpu", "cpu"),
        ('dataset.split_names.val="True"', "True"),
        ("train.new_layers=[head]", ["head"]),
        ("train.new_layers=[]", []),
    ],
)
def test_values_that_fit(load_config, override, expected):
    from wsd_distill.engine import apply_overrides

    cfg = load_config("small/student.py")
    apply_overrides(cfg, [override])
    node = cfg
    for name in override.partition("=")[0].split("."):
        node = node[name]
    assert node == expected and type(node) in (type(expected), type(cfg.dataloader.train.mapper.sizes))


@pytest.mark.parametrize("call", ["abc", "3", "{a: 1}"])
def test_registrations_are_calls(load_config, call):
    with pytest.raises(ValueError, match=r"dataset\.register has .*: give calls, for example \[{_target_: "):
        load_config("small/student.py", f"dataset.register=[{call}]")


def test_a_node_may_be_replaced_by_a_reference(load_config):
    cfg = load_config("small/student.py", "image_proposals.proposer=${proposals.methods.selective_search.generator}")
    assert cfg.image_proposals.proposer == cfg.proposals.methods.selective_search.generator


@pytest.mark.parametrize(
    "hint, expected",
    [
        ("int | None", Optional[int]),
        ("Sequence[int | float] | None", Optional[Sequence[Union[int, float]]]),
        ('Literal["a|b", "c"]', Literal["a|b", "c"]),
        ("Unknown | None", Any),
    ],
)
def test_annotations_of_a_newer_python_are_read(hint, expected):
    """As Union, since Python 3.9 has no ``|`` between types."""
    from wsd_distill.engine.override_types import evaluate_hint

    names = {"Sequence": Sequence, "Literal": Literal}
    assert evaluate_hint(hint, names) == expected
    if expected is not Any:
        assert get_origin(evaluate_hint(hint, names)) in (Union, Literal)  # not types.UnionType


def test_an_annotation_that_cannot_be_evaluated_hides_no_other():
    from omegaconf import DictConfig

    from wsd_distill.engine.override_types import convert

    node = DictConfig({"_target_": f"{__name__}.Partial", "count": None})
    with pytest.raises(ValueError, match="give an integer or null"):
        convert("x.count", "a", "a", node, "count")


class Partial:
    def __init__(self, unknown: "Missing", count: "int | None" = None):  # noqa: F821
        pass
