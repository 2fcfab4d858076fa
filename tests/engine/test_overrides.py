import pytest

NAME = "digit_scenes/student.py"


def test_sets_nested_keys_of_every_kind(load_config):
    cfg = load_config(
        NAME,
        "train.max_iter=7",
        "dataloader.train.mapper.sides=[32, 64]",
        "train.channels_last=False",
        "optimizer.lr=0.5",
    )
    assert (cfg.train.max_iter, cfg.train.channels_last, cfg.optimizer.lr) == (7, False, 0.5)
    assert list(cfg.dataloader.train.mapper.sides) == [32, 64]
    assert list(cfg.dataloader.test.val.loader.mapper.sides) == [32, 64]  # follows by interpolation


@pytest.mark.parametrize(
    "typo, meant",
    [
        ("train.max_iters=7", "train.max_iter"),
        ("optimiser.lr=1", "optimizer.lr"),
        ("model.num_clases=3", "num_classes"),
    ],
)
def test_a_mistyped_key_is_an_error_that_names_the_nearest(load_config, typo, meant):
    with pytest.raises(KeyError, match=f"no key '{typo.split('=')[0]}'; did you mean .*{meant}"):
        load_config(NAME, typo)


def test_a_key_below_a_value_is_an_error(load_config):
    with pytest.raises(KeyError, match="no key 'train.max_iter.x'"):
        load_config(NAME, "train.max_iter.x=1")


def test_not_key_value(load_config):
    with pytest.raises(ValueError, match="write key=value"):
        load_config(NAME, "train.max_iter")


@pytest.mark.parametrize("value", ["1,2", "lr=0.1", "[1,2"])
def test_a_value_that_cannot_be_read_is_no_unknown_key(load_config, value):
    with pytest.raises(ValueError, match="the value of 'train.output_dir=.* cannot be read. Quote"):
        load_config(NAME, f"train.output_dir={value}")


def test_quoted_text_is_taken_as_it_is(load_config):
    assert load_config(NAME, 'train.output_dir="a=b, c"').train.output_dir == "a=b, c"
