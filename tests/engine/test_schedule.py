import pytest

from wsd_distill.engine import micro_batch, resolve_schedule


def test_micro_batches_of_a_batch():
    assert [micro_batch(32, accumulate) for accumulate in (1, 4, 32)] == [32, 8, 1]
    with pytest.raises(ValueError, match="32 images cannot be split into 5 equal micro-batches"):
        micro_batch(32, 5)


@pytest.fixture
def schedule(load_config, monkeypatch):
    """A function: overrides of a recipe of 30 epochs and batches of 32 -> max_iter and period, for 80,000 images."""
    monkeypatch.setattr("wsd_distill.engine.training.get_dataset_dicts", lambda name: range(80_000))

    def schedule(*overrides):
        cfg = load_config("vgg16/stage2.py", "dataset.name=coco_2014", *overrides)
        resolve_schedule(cfg)
        assert cfg.lr_multiplier.period == cfg.train.checkpointer.period  # one validation an epoch
        return cfg.train.max_iter, cfg.train.checkpointer.period

    return schedule


@pytest.mark.parametrize(
    "overrides, expected",
    [
        ([], (75_000, 2_500)),
        (["train.epochs=1.5"], (3_750, 2_500)),
        (["train.batch_size=64"], (37_500, 1_250)),
        (["train.batch_size=28"], (85_714, 2_857)),
        (["trainer.accumulate=4"], (75_000, 2_500)),  # still 32 images
        (["dataloader.train.total_batch_size=32", "trainer.accumulate=2"], (37_500, 1_250)),
        (["train.max_iter=10"], (10, 2_500)),
        (["train.max_iter=10", "train.checkpointer.period=5"], (10, 5)),
        (["train.epochs=0.00001"], (1, 2_500)),
    ],
)
def test_iterations_of_the_epochs(schedule, overrides, expected):
    assert schedule(*overrides) == expected


def test_a_given_schedule_reads_no_dataset(load_config, monkeypatch):
    monkeypatch.setattr("wsd_distill.engine.training.get_dataset_dicts", lambda name: 1 / 0)
    resolve_schedule(load_config("small/student.py", "train.max_iter=10", "train.checkpointer.period=5"))
