import json
import shutil

import numpy as np
import pytest
from helpers.running import in_process

LABELS = np.eye(4, dtype=np.int8)[[0, 1, 2, 3] * 5]
NOISE = np.random.default_rng(0).random((20, 4)).astype(np.float32)
GOOD = 0.5 * LABELS.astype(np.float32) + 0.5 * NOISE


@pytest.fixture
def tool(capsys):
    """A function: the tool, run in this process -> its lines."""

    def main(*arguments):
        in_process("tools/compare_scores.py", *arguments)
        return capsys.readouterr().out.splitlines()

    return main


@pytest.fixture
def make_run(tmp_path):
    """A function: writes the scores of both splits of a run and returns its folder."""

    def write(name, scores, labels=LABELS, classes=("cat", "dog", "eel", "fox"), **arrays):
        for split in ("val", "test"):
            path = tmp_path / name / "inference" / split / "scores.npz"
            path.parent.mkdir(parents=True)
            columns = {"image_ids": np.arange(len(labels)), "weights_digest": np.array(name), **arrays}
            columns = {key: value for key, value in columns.items() if value is not None}
            np.savez(path, scores=scores, labels=labels, class_names=np.array(classes), **columns)
        return tmp_path / name

    return write


def test_seeds_of_two_methods(tool, make_run, tmp_path):
    for seed in range(3):
        make_run(f"seed{seed}/student", np.roll(NOISE, seed, axis=1))
        make_run(f"seed{seed}/stage2", GOOD)
    (tmp_path / "seed0/notes.txt").write_text("")
    results = tmp_path / "results.json"
    options = ["--metric", "mAP", "--metric", "CF1", "--draws", "200", "--json", results]
    b = [tmp_path / f"seed{seed}/stage2" for seed in range(3)]
    lines = tool("--a", tmp_path / "seed*/student", "--b", *b, *options)  # a quoted pattern and a list
    assert lines[1].split()[1:] == [f"{path}," for path in b[:2]] + [str(b[2])]
    cells = [cell.strip() for cell in lines[5].strip("|").split("|")]
    assert cells[0] == "mAP" and cells[2] == "100.00 \u00b1 0.00" and cells[5] == "100.0 %"
    found = json.loads(results.read_text())
    assert found["draws"] == 200 and len(found["a"]) == 3 and list(found["metrics"]) == ["mAP", "CF1"]
    values = found["metrics"]["mAP"]
    assert values["runs"]["B"] == [100] * 3
    assert values["std"]["A"] == pytest.approx(np.std(values["runs"]["A"], ddof=1))
    assert 0 < values["interval"][0] < values["interval"][1]
    assert values["mean"]["B-A"] == pytest.approx(100 - np.mean(values["runs"]["A"]))


def test_two_files(tool, make_run):
    a, b = (make_run(name, scores) / "inference/test/scores.npz" for name, scores in (("a", NOISE), ("b", GOOD)))
    lines = tool(a, b, "--draws", "50")
    assert lines[:3] == [f"A: {a}", f"B: {b}", "50 draws of the images of the test split."]
    assert "\u00b1" not in lines[5]  # one seed has no spread


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"image_ids": np.array([*range(19), 77])}, r"other image ids than .* \(number 19: 77, not 19\)"),
        ({"image_ids": None}, "has no array 'image_ids'"),
        ({"image_ids": np.arange(3)}, "has 3 'image_ids' for 20 images"),
        ({"classes": ("cat", "dog", "eel", "owl")}, r"other classes than .* \(number 3: 'owl', not 'fox'\)"),
        ({"labels": np.roll(LABELS, 1, axis=0)}, r"other labels than .* \(image 0, cat\)"),
    ],
)
def test_other_images_labels_or_classes_are_an_error(tool, make_run, change, message):
    a, b = make_run("a", NOISE), make_run("b", GOOD, **change)
    with pytest.raises(SystemExit, match=f"^compare_scores.py: .*b/inference/test/scores.npz.*{message}|{message}"):
        tool(a, b)


def test_errors_are_one_line_that_names_what_is_wrong(tool, make_run, tmp_path, capsys):
    a, b = make_run("a", NOISE), make_run("b", GOOD)
    file, c = b / "inference/test/scores.npz", make_run("c", GOOD)
    shutil.rmtree(c / "inference/val")
    for arguments, message in (
        ([a, tmp_path / "no*"], "no\\* does not exist: give a scores.npz or the folder of a run"),
        ([a, file, "--metric", "CF1"], "scores.npz has no threshold tuned on val: give the folder of the run"),
        ([a, b, "--split", "train"], "a has no scores of the split 'train', but of test, val: see --split"),
        ([a, c, "--metric", "CF1"], "c has no scores of the split 'val', but of test: evaluate it, for the threshold"),
        (["--a", a, a, "--b", b, b, b], "A has 2 runs and B has 3"),
        ([a, b, "--json", tmp_path / "no/out.json"], "--json .*: folder .*no does not exist"),
    ):
        with pytest.raises(SystemExit, match=message) as caught:
            tool(*arguments)
        assert "\n" not in caught.value.code
    for wrong in ([a], [a, b, b], [a, "--b", b], [a, b, "--draws", "0"], [a, b, "--metric", "AP"]):
        with pytest.raises(SystemExit):
            tool(*wrong)
    assert "give two runs, A and B, or --a and --b" in capsys.readouterr().err
