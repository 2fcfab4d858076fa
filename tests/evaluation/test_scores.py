import io
import os
import zipfile

import numpy as np
import pytest

from wsd_distill.evaluation.scores import read_scores

GOOD = {
    "scores": np.array([[0.5, 0.25], [1.0, 0.0]], np.float32),
    "labels": np.array([[1, 0], [-1, 1]], np.int8),
    "class_names": np.array(["cat", "dog"]),
}


def write(path, **changes):
    arrays = {key: array for key, array in {**GOOD, **changes}.items() if array is not None}
    np.savez(path, **arrays)
    return path


def test_written_files_are_read(tmp_path):
    found = read_scores(write(tmp_path / "scores.npz", image_ids=np.array(["a", "b"])), ["cat", "dog"])
    np.testing.assert_array_equal(found.scores, GOOD["scores"])
    np.testing.assert_array_equal(found.labels, GOOD["labels"])
    assert found.class_names == ["cat", "dog"]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"labels": None}, "has no array 'labels': give the scores.npz"),
        ({"labels": np.ones((2, 3), np.int8)}, r"'scores' \(2, 2\), 'labels' \(2, 3\) and 2 'class_names'"),
        ({"class_names": np.array(["cat"])}, "and 1 'class_names': they must be"),
        ({"scores": np.ones(2, np.float32)}, r"'scores' \(2,\)"),
        ({"labels": np.full((2, 2), 2, np.int8)}, r"'labels' other than 1, 0 and -1 \(ignored\): \[2\]"),
        ({"labels": np.full((2, 2), -1, np.int8)}, "'labels' without positives"),
        ({"scores": np.array([[0.5, 0.5], [0.5, 3.0]])}, r"not probabilities: row 1 is \[0.5 3. \]"),
        ({"scores": np.array([[np.nan, 0.5], [0.5, 0.5]])}, "not probabilities: row 0"),
        ({"class_names": np.array(["cat", None])}, "is truncated or not a valid .npz file .*: evaluate again"),
    ],
)
def test_an_invalid_file_is_an_error_that_names_the_problem(tmp_path, changes, message):
    path = write(tmp_path / "scores.npz", **changes)
    with pytest.raises(ValueError, match=f"scores.npz .*{message}"):
        read_scores(path)


def test_missing_and_truncated_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone.npz does not exist: give the scores.npz"):
        read_scores(tmp_path / "gone.npz")
    (tmp_path / "a.npz").write_bytes(b"")
    with pytest.raises(ValueError, match="a.npz is not an .npz file"):
        read_scores(tmp_path / "a.npz")
    content = write(tmp_path / "b.npz").read_bytes()
    (tmp_path / "b.npz").write_bytes(content.replace(GOOD["scores"].tobytes(), bytes(16)))
    with pytest.raises(ValueError, match="b.npz is truncated or not a valid .npz file .*: evaluate again"):
        read_scores(tmp_path / "b.npz")


def test_other_classes(tmp_path):
    with pytest.raises(ValueError, match=r"scores.npz has other classes: \['cat', 'dog'\], expected \['dog', 'cat'\]"):
        read_scores(write(tmp_path / "scores.npz"), ["dog", "cat"])


def test_declared_sizes_are_checked_before_memory_is_allocated(tmp_path, monkeypatch):
    header = io.BytesIO()
    declared = {"descr": "<f4", "fortran_order": False, "shape": (10**12, 2)}
    np.lib.format.write_array_header_1_0(header, declared)
    path = write(tmp_path / "scores.npz", scores=None)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("scores.npy", header.getvalue() + bytes(16))
    with pytest.raises(ValueError, match=r"scores.npz is .*'scores' is declared with shape \(1000000000000, 2\)"):
        read_scores(path)
    monkeypatch.setenv("WSD_MAX_SCORES_GB", "1e-7")
    with pytest.raises(
        ValueError, match="more than the limit of 1e-07: set the environment variable WSD_MAX_SCORES_GB"
    ):
        read_scores(write(tmp_path / "scores.npz"))


def test_a_bomb_is_not_unpacked(tmp_path, monkeypatch):
    path = write(tmp_path / "scores.npz", scores=None)
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as file:
        file.writestr("scores.npy", bytes(10**8))
    assert path.stat().st_size < 10**6
    monkeypatch.setenv("WSD_MAX_SCORES_GB", "0.05")
    with pytest.raises(ValueError, match="its arrays have 0.1 GB, more than the limit of 0.05"):
        read_scores(path)


def test_a_pipe_is_not_opened(tmp_path):
    os.mkfifo(tmp_path / "scores.npz")
    with pytest.raises(ValueError, match="scores.npz is a pipe"):
        read_scores(tmp_path / "scores.npz")
