"""A wheel of the checkout, photos with tags, and a model folder."""

import shutil

import numpy as np
import pytest
from helpers.model_folder import write_model_folder
from helpers.web_runtime import unpack_runtime
from helpers.wheel import build_wheel
from PIL import Image


@pytest.fixture(scope="session")
def wheel(tmp_path_factory):
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    return unpack_runtime(tmp_path_factory.mktemp("onnxruntime-web"))


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """A folder with photos, tags.csv and pets/model."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "photos").mkdir()
    lines = ["file,labels"]
    for i in range(24):
        noise = np.random.default_rng(i).integers(0, 256, (6, 8, 3)).astype(np.uint8)
        Image.fromarray(noise).resize((80, 60)).save(folder / "photos" / f"{i}.jpg")
        lines.append(f"{i}.jpg,{'cat' if i % 2 else 'dog'}")
    (folder / "tags.csv").write_text("\n".join([*lines, ""]))
    write_model_folder(folder / "pets" / "model")
    return folder


@pytest.fixture
def work(files, tmp_path):
    """A copy of the files that a test may change."""
    return shutil.copytree(files, tmp_path / "work")
