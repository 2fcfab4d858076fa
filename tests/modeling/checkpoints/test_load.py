"""Weights files: what is read, and damaged or hostile files."""

import os
import pickle
import zipfile

import numpy as np
import pytest
import torch
from helpers.builders import CLASSES, make_student, make_teacher

from wsd_distill.class_names import class_names_state, read_class_names
from wsd_distill.modeling.checkpoints.load import CheckpointError, load_weights, read_state, read_weights


@pytest.fixture
def weights(tmp_path):
    torch.save({"model": make_student().state_dict()}, tmp_path / "student.pth")
    return tmp_path / "student.pth"


class Attack:
    def __reduce__(self):
        return os.mkdir, ("attacked",)


@pytest.mark.parametrize("suffix", ["pth", "pkl"])
def test_no_code_from_a_file_is_run(suffix, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = {"model": {"weight": Attack()}}
    if suffix == "pth":
        torch.save(content, "weights.pth")
    else:
        (tmp_path / "weights.pkl").write_bytes(pickle.dumps(content))
    with pytest.raises(ValueError, match=f"weights.{suffix} is (truncated or not a|refused: it imports)") as error:
        read_weights(tmp_path / f"weights.{suffix}")
    assert "weights_only" not in str(error.value) and not (tmp_path / "attacked").exists()


def test_arrays_of_a_pickle_become_tensors(tmp_path):
    state = {key: value.numpy() for key, value in make_student().state_dict().items()}
    (tmp_path / "student.pkl").write_bytes(pickle.dumps({"model": state, "__author__": "somebody"}))
    model = make_student(class_names=None)
    load_weights(model, str(tmp_path / "student.pkl"))
    assert model.class_names == CLASSES
    assert torch.equal(model.classifier.weight, torch.from_numpy(state["classifier.weight"]))


def test_dicts_that_are_nested_too_deeply_name_the_file(tmp_path):
    (tmp_path / "deep.pkl").write_bytes(b"}" + b"X\x01\0\0\0a}" * 9999 + b"s" * 9999 + b".")
    with pytest.raises(CheckpointError, match=r"deep\.pkl is truncated or not a file of PyTorch tensors"):
        read_weights(tmp_path / "deep.pkl")


def rewrite(path, compression=zipfile.ZIP_STORED, extra=None):
    with zipfile.ZipFile(path) as file:
        entries = {name: file.read(name) for name in file.namelist()}
    with zipfile.ZipFile(path, "w", compression) as file:
        for name, data in {**entries, **(extra or {})}.items():
            file.writestr(name, data)


def test_a_zip_bomb_is_not_unpacked(weights):
    rewrite(weights, zipfile.ZIP_DEFLATED, {"archive/data/99": bytes(50_000_000)})
    assert weights.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match="student.pth is compressed, unlike files of torch.save"):
        read_weights(weights)


def test_one_changed_bit_is_an_error(weights):
    content = bytearray(weights.read_bytes())
    value = make_student().state_dict()["pixel_mean"].numpy().tobytes()
    content[content.find(value)] ^= 1
    weights.write_bytes(content)
    torch.load(weights, weights_only=True)  # PyTorch does not notice
    with pytest.raises(CheckpointError, match=r"student.pth is damaged \(checksum of student/data/\d+\)"):
        read_weights(weights)


def test_only_regular_files_are_opened(tmp_path, monkeypatch, weights):
    os.mkfifo(tmp_path / "pipe.pth")
    for path, message in ((tmp_path / "pipe.pth", "a pipe"), (tmp_path, "a folder"), ("/dev/zero", "a pipe, socket")):
        with pytest.raises(ValueError, match=f"is {message}"):
            load_weights(make_student(), str(path))
    monkeypatch.setenv("WSD_MAX_FILE_GB", "0.000001")
    with pytest.raises(ValueError, match="set the environment variable WSD_MAX_FILE_GB"):
        load_weights(make_student(), str(weights))


@pytest.mark.parametrize("content", [[1], {"model": 3}, {}, {"model": {"weight": "text"}}, torch.ones(2)])
def test_a_file_without_weights(content, tmp_path):
    torch.save(content, tmp_path / "a.pth")
    with pytest.raises(CheckpointError, match="a.pth has no weights"):
        read_state(str(tmp_path / "a.pth"))


def test_weights_of_another_model_name_the_file(weights):
    with pytest.raises(CheckpointError, match="student.pth does not fit the model .*keys missing .*cls_branch.bias"):
        load_weights(make_teacher(), str(weights))


@pytest.mark.parametrize(
    "state",
    [
        {"class_names_4": torch.zeros(5, dtype=torch.uint8)},
        {"class_names_4": torch.zeros(4)},
        {"class_names_3": torch.tensor(list(b"{} "), dtype=torch.uint8)},
        {"class_names_999999999999": torch.zeros(1, dtype=torch.uint8).expand(999999999999)},
        {**class_names_state(["a"]), **class_names_state(["bc"])},
        class_names_state(["a", "a"]),
        class_names_state(["a", " "]),
    ],
)
def test_damaged_class_names(state):
    with pytest.raises(ValueError, match="the class names of the weights .* are damaged"):
        read_class_names(state)


def test_class_names_of_any_language_are_kept():
    names = ["Kätzchen", "犬", 'a "quoted", name']
    state = class_names_state(names)
    assert read_class_names(state) == names and read_class_names({}) is None
    assert read_class_names(class_names_state([])) == []
    np.testing.assert_array_equal([len(value) for value in state.values()], [int(key[12:]) for key in state])
