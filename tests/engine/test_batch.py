import pytest

from wsd_distill.engine import micro_batch, scale_to_batch


def test_portions_of_a_batch():
    assert [micro_batch(32, accumulate) for accumulate in (1, 4, 32)] == [32, 8, 1]
    with pytest.raises(ValueError, match="32 images cannot be split into 5 equal portions"):
        micro_batch(32, 5)


def schedule(cfg):
    scale_to_batch(cfg)
    train = cfg.train
    return pytest.approx(cfg.optimizer.lr), train.max_iter, train.eval_period, train.checkpointer.period


def test_nothing_is_scaled_unless_asked_for(load_config):
    cfg = load_config("coco/stage2_vgg16_edgeboxes.py", "train.batch_size=64")
    assert schedule(cfg) == (1e-4, 75_000, 0, 2_500)


@pytest.mark.parametrize(
    "overrides, expected",
    [
        (["train.batch_size=64"], (2e-4, 37_500, 500, 1_250)),
        (["train.batch_size=8"], (0.25e-4, 300_000, 4_000, 10_000)),
        (["trainer.accumulate=4"], (1e-4, 75_000, 1_000, 2_500)),  # still 32
        (["dataloader.train.total_batch_size=32", "trainer.accumulate=2"], (2e-4, 37_500, 500, 1_250)),
        (["train.batch_size=28"], (0.875e-4, 85_714, 1_143, 2_857)),
    ],
)
def test_linear_scaling(load_config, overrides, expected):
    overrides = ["train.reference_batch=32", "train.eval_period=1000", *overrides]
    cfg = load_config("coco/stage2_vgg16_edgeboxes.py", *overrides)
    assert schedule(cfg) == expected
    assert cfg.lr_multiplier.period == expected[3]  # the plateau is looked for once an epoch
    assert schedule(cfg) == expected  # a saved config is not scaled again
