"""Overrides of a wrong type or out of range name the key, the value and what to give."""

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
        ("student", "dataset.files=list.csv", "give key: value pairs in braces or null"),
        ("student", "dataset.classes=[[1]]", "give null or text or a list"),
        ("student", "model.num_classes=[3]", "give an integer"),
        ("teacher", "image_proposals.proposer.sides=96", LIST),
        ("teacher", "image_proposals.num_proposals=0", "give a value of at least 1"),
        ("stage2", "distiller.use_cache=yes", "give True or False"),
        ("stage2", "distiller.frozen=head", "give a list"),
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
