import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from helpers.running import ENVIRONMENT
from helpers.taggers import CLASSES, make_tagger, save_tagger
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.tagging.model_config import ModelConfigError
from wsd_distill.tagging.onnx_export import ParityError, example_pixels
from wsd_distill.tagging.save import save_model_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tagger") / "model"
    save_tagger(folder, thresholds=[0.1, 0.9, 0.5, 0.5, 0.5, 0.5], calibration=(2.0, -1.0))
    return folder


@pytest.fixture
def copied(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def test_probabilities_are_calibrated(folder):
    tagger, pixels = Tagger.load(folder), example_pixels(64)
    logits = tagger.logits(pixels).astype(float)
    assert tagger.backend == "onnx" and logits.shape == (8, 6)
    found = tagger.probabilities(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, 1 / (1 + np.exp(1 - 2 * logits)), atol=1e-6)
    assert tagger.probabilities(pixels[:0]).shape == (0, 6)


def test_labels_from_their_thresholds_on_best_first(folder):
    tagger = Tagger.load(folder)
    found = tagger.select(np.array([0.1, 0.89, 0.5, 0.7, 0.2, 0.49]))
    assert list(found.items()) == [("vögel", 0.7), ("a|b", 0.5), ("cat", 0.1)]
    image = Image.fromarray(example_pixels(64)[5])
    expected = tagger.select(tagger.probabilities(np.asarray(image)[None])[0])
    assert tagger([image]) == tagger(image) == tagger(np.asarray(image)) == [expected]


def test_wrong_inputs_are_errors(folder):
    tagger = Tagger.load(folder)
    with pytest.raises(ValueError, match=r"an image is float64 \(4, 4, 3\): give a path"):
        tagger.read(np.zeros((4, 4, 3)))
    with pytest.raises(ValueError, match=r"pixels are uint8 \(1, 4, 4, 3\), expected uint8 \(N, 64, 64, 3\)"):
        tagger.probabilities(np.zeros((1, 4, 4, 3), np.uint8))
    with pytest.raises(ValueError, match="backend='tf': choose from onnx, int8, torch"):
        Tagger.load(folder, "tf")
    with pytest.raises(FileNotFoundError, match="model_int8.onnx does not exist: wsd export --int8 writes it"):
        Tagger.load(folder, "int8")


@pytest.mark.parametrize("backend, name", [("onnx", "model.onnx"), ("torch", "model.safetensors")])
def test_damaged_files_are_errors_that_name_them(copied, backend, name):
    (copied / name).write_bytes((copied / name).read_bytes()[:1000])
    with pytest.raises(ValueError, match=f"{name} .*export the model again"):
        Tagger.load(copied, backend)


def test_a_file_of_other_classes_is_an_error(copied):
    content = json.loads((copied / "config.json").read_text())
    content.update(classes=CLASSES[:5], thresholds=[0.5] * 5)
    (copied / "config.json").write_text(json.dumps(content))
    for backend in ("onnx", "torch"):
        with pytest.raises(ValueError, match="config.json"):
            Tagger.load(copied, backend)


def test_only_modules_of_networks_are_built(copied):
    content = json.loads((copied / "config.json").read_text())
    content["backbone"]["backbone"] = {"_target_": "os.system", "command": "true"}
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(ModelConfigError, match="os.system cannot be part of a model folder"):
        Tagger.load(copied, "torch")


def test_a_folder_appears_whole_or_not_at_all(tmp_path, monkeypatch):
    model, config = make_tagger()
    monkeypatch.setattr("wsd_distill.tagging.onnx_export.TOLERANCE", -1.0)
    with pytest.raises(ParityError, match="differ from PyTorch's by .* nothing was written"):
        save_model_folder(model, config, tmp_path / "model")
    assert not list(tmp_path.iterdir())


def test_a_folder_is_replaced_only_on_request(copied):
    model, config = make_tagger()
    with pytest.raises(FileExistsError, match="exists: delete it, or give another folder"):
        save_model_folder(model, config, copied)
    save_model_folder(model, config, copied, replace=True)
    assert Tagger.load(copied).thresholds.tolist() == [0.5] * 6
    (copied / "notes.txt").touch()
    with pytest.raises(FileExistsError, match="exists"):
        save_model_folder(model, config, copied, replace=True)


def test_the_model_card_has_front_matter_and_a_table(tmp_path):
    metrics = {"test": {"mAP": 41.237, "mAP_interval": [39.0, 43.5]}}
    save_tagger(tmp_path / "model", metrics=metrics, data_hash="abc")
    text = (tmp_path / "model" / "README.md").read_text()
    assert text.startswith("---\nlicense: other\n") and 'metrics:\n- "mAP"\n---\n' in text
    assert "| test | mAP | 41.24 | 39.00 to 43.50 |" in text and "| a\\|b | 0.500 |" in text


def test_it_runs_without_pytorch_and_detectron2(folder, tmp_path):
    Image.fromarray(example_pixels(64)[5]).save(tmp_path / "a.png")
    code = (
        "import sys\n"
        "for name in ('torch', 'detectron2', 'timm', 'omegaconf', 'fvcore', 'sklearn'):\n"
        "    sys.modules[name] = None\n"
        "from wsd_distill import Tagger\n"
        f"print(Tagger.load({str(folder)!r})([{str(tmp_path / 'a.png')!r}]))\n"
        f"try:\n    Tagger.load({str(folder)!r}, 'torch')\nexcept ImportError as error:\n    print(error)\n"
    )
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    labels, error = done.stdout.splitlines()
    assert labels == str(Tagger.load(folder)([str(tmp_path / "a.png")]))
    assert "model.safetensors needs PyTorch, Detectron2 and safetensors" in error and "INSTALL.md" in error
