import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import numpy as np
import pytest
from detectron2.structures import BoxMode

from wsd_distill.data.proposal_store import ProposalStore, ProposalStoreWriter, StoreMetadata
from wsd_distill.proposals.recall import proposal_recall


def annotation(x, y, width, height, **more):
    return {"bbox": [x, y, width, height], "bbox_mode": BoxMode.XYWH_ABS, "category_id": 0, **more}


@pytest.fixture
def store(tmp_path):
    rows = [
        # 10 x 10 objects at (0, 0) and (100, 100)
        ("a", [[0, 0, 10, 6], [100, 100, 110, 108], [0, 0, 10, 10]], [0.9, 0.8, 0.7]),
        ("b", np.zeros((0, 4)), []),
        ("c", [[0, 0, 10, 5], [50, 50, 60, 60]], [0.9, 0.8]),
    ]
    with ProposalStoreWriter(tmp_path / "s.arrow", StoreMetadata("d", "g")) as writer:
        for row in rows:
            writer.write(*row)
    return ProposalStore(tmp_path / "s.arrow")


def test_recall(store):
    dicts = [
        {
            "image_id": "c",
            "annotations": [
                annotation(0, 0, 10, 10),
                annotation(50, 50, 10, 10, iscrowd=1),
                annotation(0, 0, 2, 2, difficult=1),
            ],
        },
        {"image_id": "a", "annotations": [annotation(0, 0, 10, 10), annotation(100, 100, 10, 10)]},
        {"image_id": "b", "annotations": [annotation(0, 0, 10, 10)]},
        {"image_id": "not in the store and without annotations", "annotations": []},
    ]
    # Best IoU of the four objects with one / two / all proposals:
    # c .5 .5 .5 (exactly); a .6 .6 1 and 0 .8 .8; b 0 0 0.
    got = proposal_recall(store, dicts, limits=(1, 2, None), thresholds=(0.5, 0.7, 0.9))
    np.testing.assert_array_equal(got, [[2 / 4, 0, 0], [3 / 4, 1 / 4, 0], [3 / 4, 2 / 4, 1 / 4]])


def test_empty_boxes_are_not_covered(tmp_path):
    """An empty object is inside the first proposal and equal to the second."""
    with ProposalStoreWriter(tmp_path / "s.arrow", StoreMetadata("d", "g")) as writer:
        writer.write("a", [[0, 0, 4, 4], [1, 1, 1, 1]], [0.9, 0.8])
    dicts = [{"image_id": "a", "annotations": [annotation(1, 1, 0, 0)]}]
    assert proposal_recall(ProposalStore(tmp_path / "s.arrow"), dicts, thresholds=(0.1,)).tolist() == [[0], [0]]


def test_iou_at_the_threshold_is_covered(tmp_path):
    """7 of 10 is 0.7, in the precision of the threshold."""
    with ProposalStoreWriter(tmp_path / "s.arrow", StoreMetadata("d", "g")) as writer:
        writer.write("a", [[0, 0, 7, 1]], [0.9])
    dicts = [{"image_id": "a", "annotations": [annotation(0, 0, 10, 1)]}]
    assert proposal_recall(ProposalStore(tmp_path / "s.arrow"), dicts, thresholds=(0.7, 0.71)).tolist() == [[1, 0]] * 2


def test_no_annotated_box_no_recall(store):
    dicts = [{"image_id": "a"}, {"image_id": "b", "annotations": []}]
    assert proposal_recall(store, dicts) is None
    assert proposal_recall(store, [{"image_id": "a", "annotations": [annotation(0, 0, 9, 9, iscrowd=1)]}]) is None
