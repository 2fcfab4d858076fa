import json

import numpy as np
import pytest
from helpers.running import in_process


@pytest.fixture
def tool(capsys):
    """A function: the tool, run in this process -> its lines."""

    def main(*arguments):
        in_process("tools/evaluate_scores.py", *arguments)
        return capsys.readouterr().out.splitlines()

    return main


@pytest.fixture
def save(tmp_path):
    def write(name, scores, labels, class_names=("cat", "dog", "eel", "fox")):
        scores, labels = np.array(scores, np.float32), np.array(labels, np.int8)
        np.savez(tmp_path / name, scores=scores, labels=labels, class_names=np.array(class_names))
        return tmp_path / name

    return write


@pytest.fixture
def test_split(save):
    # Above 0.5: cat of the first (right), dog of the second (wrong). "eel" has no positive, "fox" of the second is -1.
    return save("test.npz", [[0.9, 0.1, 0.2, 0.4], [0.3, 0.6, 0.1, 0.45]], [[1, 0, 0, 1], [0, 0, 0, -1]])


@pytest.fixture
def val_split(save):
    return save("val.npz", [[0.9, 0.1, 0.2, 0.35], [0.35, 0.1, 0.1, 0.7]], [[1, 0, 0, 0], [0, 0, 0, 1]])


def cells(lines):
    """{first cell: the others} of a table."""
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("|")]
    return {row[0]: row[1:] for row in rows}


def test_all_protocols_side_by_side(tool, test_split):
    lines = tool(test_split)
    assert lines[1] == (f"{test_split}: 2 images, 4 classes, 2 labels; ignored: 1 labels")
    assert "tuned on this file" in lines[2] and "optimistic" in lines[2]
    assert lines[3] == "mAP of random scores: 75.00."  # cat in one of two images, fox in one of one
    assert lines[4] == "mAP of paper without the classes that every image has: 100.00."
    assert lines[5:8] == [
        "WARNING every image has fox: AP is 100 whatever is predicted.",
        "WARNING no image has dog, eel: AP is undefined.",
        "WARNING fewer than 5 images have cat, fox.",
    ]
    table = cells(lines)
    assert table[""] == ["paper", "srn", "ml-gcn", "asl", "ml-decoder", "sklearn"]
    assert table["predicted if"] == ["\u2265 0.35", "> 0.5", "\u2265 0.5", "> 0.8", "> 0.75", "> 0.5"]
    # AP of cat and fox is 1; the two classes without a positive are left out, or count as 0.
    assert table["mAP"] == ["100.00"] * 3 + ["50.00"] * 3
    assert table["OP"][1:] == ["50.00", "50.00", "100.00", "100.00", "50.00"]
    assert table["OR"][1:] == ["50.00"] * 5
    # Top 3: cat, fox and eel of the first, dog, fox (ignored; wrong for SRN) and cat of the second.
    assert table["OP-top3"] == ["40.00", "33.33", "-", "-", "-", "-"]
    assert table["OP-top3-above"] == ["-", "50.00", "50.00", "-", "-", "-"]
    assert len(table) == 1 + 1 + 1 + 19  # names, the rule below them, thresholds, metrics


def test_protocols_by_name_on_several_files(tool, test_split, val_split, tmp_path):
    lines = tool(test_split, "--protocol", "asl", val_split, "--protocol", "srn", "--json", tmp_path / "results.json")
    assert sum(line.split() == "| | asl | srn |".split() for line in lines) == 2
    assert not any("tuned" in line for line in lines)
    results = json.loads((tmp_path / "results.json").read_text())
    assert list(results) == [str(test_split), str(val_split)]
    assert list(results[str(val_split)]) == ["asl", "srn"]
    assert results[str(val_split)]["srn"]["OF1"] == pytest.approx(100)
    # asl is above 0.8: one of the two.
    assert results[str(val_split)]["asl"]["OR"] == pytest.approx(50)
    assert results[str(val_split)]["asl"]["threshold"] == 0.8


def test_threshold_of_another_split(tool, test_split, val_split):
    lines = tool(test_split, "--threshold-file", val_split, "--protocol", "paper")
    unknown = "A file does not name its weights, so that they may differ."
    assert lines[2] == f"The threshold of paper is tuned on {val_split}. {unknown}"
    assert cells(lines)["predicted if"] == ["\u2265 0.525"]
    assert "optimistic" in tool(test_split, "--threshold-file", test_split, "--protocol", "paper")[2]


def test_a_threshold_of_other_weights_is_refused_unless_told(tool, test_split, val_split, capsys):
    for path, digest in ((test_split, "a"), (val_split, "b")):
        with np.load(path) as arrays:
            columns = dict(arrays)
        np.savez(path, weights_digest=np.array(digest), **columns)
    with pytest.raises(SystemExit, match="val.npz has scores of other weights than .*test.npz.*--other-weights"):
        tool(test_split, "--threshold-file", val_split, "--protocol", "paper")
    lines = tool(test_split, "--threshold-file", val_split, "--protocol", "paper", "--other-weights")
    assert lines[2] == f"The threshold of paper is tuned on {val_split}."


def test_errors_are_one_line_that_names_the_file(tool, test_split, save, tmp_path):
    other = save("other.npz", [[0.9]], [[1]], ["cat"])
    (tmp_path / "photo.jpg").write_bytes(b"no scores")
    for arguments, message in (
        ([tmp_path / "gone.npz"], "gone.npz does not exist: give the scores.npz"),
        ([tmp_path / "photo.jpg"], "photo.jpg is not an .npz file"),
        ([test_split, "--threshold-file", other], "other.npz has other classes: ['cat']"),
        ([test_split, "--json", tmp_path / "no" / "folder.json"], f"folder {tmp_path / 'no'} does not exist"),
    ):
        with pytest.raises(SystemExit) as caught:
            tool(*arguments)
        assert message in caught.value.code and "\n" not in caught.value.code
        assert caught.value.code.startswith("evaluate_scores.py: ")


def test_an_unknown_protocol_is_an_error(tool, test_split, capsys):
    with pytest.raises(SystemExit):
        tool(test_split, "--protocol", "coco")
    assert "invalid choice: 'coco'" in capsys.readouterr().err
