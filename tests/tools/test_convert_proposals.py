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
