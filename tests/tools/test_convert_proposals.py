import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import json

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from helpers.builders import own_images
from helpers.proposal_files import RECORDS, content
from helpers.running import in_process
from PIL import Image
from scipy.io import savemat

from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.proposals.convert import read_proposals


@pytest.fixture
def convert(restore_catalogs):
    """Function that runs the tool for three registered images."""
    DatasetCatalog.register("convert_three", lambda: RECORDS)

    def run(*arguments, dataset="convert_three"):
        in_process("tools/convert_proposals.py", *arguments, "--dataset", dataset)

    return run


def test_mat_to_store_to_pickle(convert, tmp_path):
    names, boxes, mat = np.empty(3, object), np.empty(3, object), tmp_path / "selective_search.mat"
    names[:] = ["ten", "nine", "hundred"]
    boxes[:] = [np.float64([[1, 1, 30, 41], [2, 3, 8, 9]]), np.float64([[1, 1, 50, 50]]), np.zeros((0, 4))]
    savemat(mat, {"images": names, "boxes": boxes})
    convert(mat, tmp_path / "p.arrow")
    store = ProposalStore(tmp_path / "p.arrow", "convert_three")
    assert [part.tolist() for part in store[10]] == [[[0, 0, 40, 30], [2, 1, 9, 8]], [1, 0.5]]
    assert store[100][0].shape == (0, 4)
    convert(tmp_path / "p.arrow", tmp_path / "detectron2.file", "--to", "detectron2", "--top", 1)
    found = read_proposals(str(tmp_path / "detectron2.file"), "convert_three", "detectron2")
    assert content(found)["10"] == ([[0, 0, 40, 30]], [1])


def test_options_reach_the_files(convert, tmp_path):
    table = np.empty(3, object)
    table[:] = [np.float64([[2, 3, 4, 5]])] * 3
    savemat(tmp_path / "p.mat", {"images": np.array(["ten", "nine", "x"], dtype=object), "boxes": table})
    convert(tmp_path / "p.mat", tmp_path / "p.pkl", "--box-format", "xywh", "--missing", "empty")
    found = content(read_proposals(str(tmp_path / "p.pkl"), "convert_three"))
    assert found["10"] == ([[1, 2, 5, 7]], [1])
    assert found["100"] == ([], [])


def test_images_registered_by_a_config(convert, tmp_path):
    Image.new("RGB", (40, 30)).save(tmp_path / "a.png")
    (tmp_path / "list.csv").write_text("file,labels\na.png,cat\n")
    result = {"image_id": "a.png", "category_id": 1, "bbox": [30, 20, 11, 5], "score": 0.5}
    (tmp_path / "p.json").write_text(json.dumps([result]))
    config = ["--config-file", "configs/efficientnet_lite0/student.py"]
    own = own_images(tmp_path / "list.csv", name="convert_own")
    convert(tmp_path / "p.json", tmp_path / "p.arrow", *config, *own, dataset="convert_own_val")
    store = ProposalStore(tmp_path / "p.arrow", "convert_own_val")
    assert [part.tolist() for part in store["a.png"]] == [[[30, 20, 40, 25]], [0.5]]


def test_part_uses_the_store_of_its_source(convert, tmp_path):
    """A training on the part reads that store."""
    MetadataCatalog.get("one_of_three").set(source="convert_three")
    DatasetCatalog.register("one_of_three", lambda: RECORDS[:1])
    results = [{"image_id": i, "bbox": [1, 2, 3, 4], "score": 0.5} for i in (9, 10, 100)]
    (tmp_path / "p.json").write_text(json.dumps(results))
    convert(tmp_path / "p.json", tmp_path / "p.arrow", dataset="one_of_three")
    convert(tmp_path / "p.arrow", tmp_path / "again.arrow", dataset="one_of_three")
    assert len(ProposalStore(tmp_path / "again.arrow", "convert_three")) == 3


def test_unknown_datasets_and_existing_files_are_errors(convert, tmp_path, capsys):
    (tmp_path / "p.pkl").write_text("keep")
    for arguments, more, message in (
        (("a.mat", tmp_path / "p.pkl"), {}, "p.pkl already exists: use --overwrite"),
        (("a.mat", tmp_path / "q.pkl"), {"dataset": "nobody"}, "not registered: nobody; there are"),
        (("a.mat", tmp_path / "q.pkl", "dataset.name=x"), {}, "dataset.name=x: an override needs --config-file"),
        (("a.mat", tmp_path / "q.pkl", "--top", 0), {}, "--top 0: must be 1 or more"),
    ):
        with pytest.raises(SystemExit):
            convert(*arguments, **more)
        assert message in capsys.readouterr().err
    assert (tmp_path / "p.pkl").read_text() == "keep"


@pytest.mark.parametrize(
    "scores, arguments, message",
    [
        ([50, 97], [], "image '100' has the score 97, and the scores of the file, from 50 to 97, are not in 0..1"),
        (
            [0.5, 0.25],
            ["--box-format", "x1y1x2y2"],
            "3 end before they start (the first in image '10'): use",
        ),
        ([0.5, 0.25], ["--score-scale", "-1"], "--score-scale -1.0: must be a number above 0"),
    ],
)
def test_errors_of_the_file_are_one_line(convert, tmp_path, capsys, scores, arguments, message):
    scores = zip((9, 10, 100), [scores[0], *scores])
    results = [{"image_id": i, "bbox": [9, 9, 3, 4], "score": score} for i, score in scores]
    (tmp_path / "p.json").write_text(json.dumps(results))
    with pytest.raises(SystemExit) as caught:
        convert(tmp_path / "p.json", tmp_path / "p.arrow", *arguments)
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error
    assert not (tmp_path / "p.arrow").exists()


def test_options_of_scores_and_boxes(convert, tmp_path):
    results = [{"image_id": i, "bbox": [1, 2, 13, 14], "score": 10 * i / 9} for i in (9, 10, 90)]
    results[2]["image_id"] = 100
    (tmp_path / "p.json").write_text(json.dumps(results))
    convert(tmp_path / "p.json", tmp_path / "p.arrow", "--box-format", "x1y1x2y2", "--score-scale", "0.01")
    store = ProposalStore(tmp_path / "p.arrow")
    assert [part.tolist() for part in store[100]] == [[[1, 2, 13, 14]], [1]]
    assert store.metadata.parameters["score_scale"] == 0.01
    assert store.metadata.parameters["box_format"] == "x1y1x2y2"
