import json

import pytest
from helpers.taggers import make_tagger

from wsd_distill.tagging import ModelConfig
from wsd_distill.tagging.model_config import CONFIG, ModelConfigError


@pytest.fixture
def folder(tmp_path):
    make_tagger(thresholds=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6], calibration=(1.5, -0.25))[1].write(tmp_path / CONFIG)
    return tmp_path


def test_reads_what_was_written(folder):
    config = ModelConfig.read(folder)
    assert config.classes == ["cat", "dog", "a|b", "vögel", "car", "bus"]
    assert config.thresholds == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
    assert config.calibration == {"scale": 1.5, "offset": -0.25}
    assert (config.image_size, config.image_format, config.format) == (64, "RGB", 1)
    assert config.backbone["backbone"]["_target_"] == "wsd_distill.modeling.SmallConvNet"


@pytest.mark.parametrize(
    "key, value, expected",
    [
        ("classes", ["a", "a"], "classes is .* expected a list of different names"),
        ("thresholds", [0.5], r"thresholds is \[0.5\], expected 6 numbers from 0 to 1"),
        ("thresholds", [0.5] * 5 + [2], "thresholds is .*expected 6 numbers from 0 to 1"),
        ("calibration", {"scale": 1}, "calibration is .*expected"),
        ("calibration", {"scale": 0, "offset": 1}, "calibration is .*a number above 0"),
        ("image_size", 64.5, "image_size is 64.5, expected a whole number above 0"),
        ("fast_decode", 1, "fast_decode is 1, expected true or false"),
        ("pixel_std", [1, 1, 0], "pixel_std is"),
        ("image_format", "GBR", "image_format is 'GBR'"),
        ("format", 9, "format is 9, and this version reads 1"),
    ],
)
def test_a_wrong_value_is_an_error_that_names_file_and_key(folder, key, value, expected):
    path = folder / CONFIG
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(ModelConfigError, match=f"config.json: {expected}"):
        ModelConfig.read(folder)


def test_missing_and_unknown_keys_are_errors(folder):
    path = folder / CONFIG
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "title": 1}))
    with pytest.raises(ModelConfigError, match="config.json: title is not a known key"):
        ModelConfig.read(folder)
    del content["thresholds"]
    path.write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match="config.json: thresholds is missing"):
        ModelConfig.read(folder)
    path.write_text("{")
    with pytest.raises(ModelConfigError, match="config.json is not valid JSON"):
        ModelConfig.read(folder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="has no config.json: give a model folder"):
        ModelConfig.read(folder)


def test_the_model_folder_inside_a_training_is_named(folder):
    folder.rename(folder.with_name("model"))
    with pytest.raises(FileNotFoundError, match=f"give {folder.parent}/model, its model folder"):
        ModelConfig.read(folder.parent)
