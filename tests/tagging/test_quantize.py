import numpy as np
import pytest
from helpers.taggers import save_tagger
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.tagging.model_config import INT8, ONNX, ModelConfig
from wsd_distill.tagging.onnx_export import example_pixels
from wsd_distill.tagging.quantize import LossError, quantize


@pytest.fixture
def photos(tmp_path):
    """Photos, and as labels what the tagger predicts for them: its mAP is 100."""
    folder = tmp_path / "model"
    save_tagger(folder)
    paths = [str(tmp_path / f"{i}.png") for i in range(20)]
    for path, pixels in zip(paths, example_pixels(64, 10)):
        Image.fromarray(pixels).save(path)
    tagger = Tagger.load(folder)
    scores = tagger.probabilities(np.stack([tagger.read(path) for path in paths]))
    return folder, paths, (scores > np.median(scores, axis=0)).astype(np.int8)


def test_int8_is_written_if_it_loses_little(photos, capsys):
    folder, paths, labels = photos
    found = quantize(folder, paths, labels, max_map_drop=50)
    assert found[ONNX].mean_ap == 100 and 50 <= found[INT8].mean_ap <= 100
    assert found[INT8].megabytes == (folder / INT8).stat().st_size / 1e6
    assert capsys.readouterr().out == ""
    graphs = ModelConfig.read(folder).graphs
    assert graphs == {name: found[name].as_dict() for name in (ONNX, INT8)} and graphs[ONNX]["mAP"] == 100
    speed = f"{graphs[INT8]['images_per_second']:.0f}"
    row = f"| `{INT8}` | {found[INT8].megabytes:.1f} | {speed} | {found[INT8].mean_ap:.2f} |"
    assert row in (folder / "README.md").read_text()
    first, second = (Tagger.load(folder, backend) for backend in ("onnx", "int8"))
    pixels = np.stack([first.read(path) for path in paths])
    difference = np.abs(first.probabilities(pixels) - second.probabilities(pixels))
    assert difference.max() > 0 and difference.mean() < 0.05


def test_int8_that_loses_more_is_not_written(photos):
    folder, paths, labels = photos
    with pytest.raises(LossError, match=r"more than --max-map-drop -1: .*model_int8.onnx was not written"):
        quantize(folder, paths, labels, max_map_drop=-1)
    assert not list(folder.glob("*int8*")) and ModelConfig.read(folder).graphs == {}


def test_photos_without_labels_are_an_error(photos):
    folder, paths, labels = photos
    with pytest.raises(ValueError, match="no photo has a label: give labelled photos"):
        quantize(folder, paths, 0 * labels, max_map_drop=1)
