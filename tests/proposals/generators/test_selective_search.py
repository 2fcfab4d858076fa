import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import pickle

import cv2
import numpy as np
import pytest
from detectron2.structures import Boxes, pairwise_iou

from wsd_distill.proposals.generators.selective_search import SelectiveSearch


def iou(first, second):
    """Return the pairwise IoU (M, R) of boxes (M, 4) and (R, 4)."""
    return pairwise_iou(Boxes(first), Boxes(second)).numpy()


def scene(height, width):
    """Return two uniform rectangles on a uniform background, and their boxes."""
    image = np.full((height, width, 3), 60, np.uint8)
    shares = np.array([[0.1, 0.2, 0.4, 0.7], [0.6, 0.5, 0.9, 0.9]])
    boxes = (shares * [width, height, width, height]).round().astype(int)
    for (x0, y0, x1, y1), colour in zip(boxes, ([200, 40, 40], [30, 160, 220])):
        image[y0:y1, x0:x1] = colour
    return image, boxes.astype(float)


@pytest.mark.parametrize("mode", ["fast", "quality"])
@pytest.mark.parametrize("shape, max_side", [((90, 150), None), ((300, 200), 120)])
def test_finds_rectangles_in_pixels_of_the_image(mode, shape, max_side):
    image, truth = scene(*shape)
    boxes, scores = SelectiveSearch(mode=mode, max_side=max_side)(image)
    assert iou(truth, boxes).max(axis=1).min() > 0.8  # segments are off by some pixels because of the blur
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert boxes.min() >= 0 and (boxes.max(0) <= [shape[1], shape[0]] * 2).all()


def blocks():
    return np.random.default_rng(1).integers(0, 256, (8, 8, 3), dtype=np.uint8).repeat(12, 0).repeat(12, 1)


def test_scores_are_the_rank():
    boxes, scores = SelectiveSearch(max_boxes=4)(blocks())
    assert len(boxes) == 4
    assert scores.tolist() == [1, 0.75, 0.5, 0.25]
    assert SelectiveSearch().parameters["scores"] == "falling rank in (0, 1]"


def test_order_does_not_depend_on_earlier_calls():
    """OpenCV's own order depends on the random state of the C library."""
    proposer = SelectiveSearch(max_boxes=50)
    first, again, copied = proposer(blocks()), proposer(blocks()), pickle.loads(pickle.dumps(proposer))(blocks())
    for other in (again, copied):
        for one, two in zip(first, other):
            np.testing.assert_array_equal(one, two)
    assert (SelectiveSearch(max_boxes=50, seed=1)(blocks())[0] != first[0]).any()


def test_similar_boxes_are_suppressed():
    boxes, _ = SelectiveSearch(max_boxes=10_000)(blocks())
    overlaps = iou(boxes, boxes) - np.eye(len(boxes))
    assert 0.7 < overlaps.max() <= 0.8


def test_small_boxes_are_dropped():
    boxes, _ = SelectiveSearch(max_boxes=10_000, max_side=None, min_box_side=30)(blocks())
    assert len(boxes) > 0
    assert (boxes[:, 2:] - boxes[:, :2]).min() >= 30


def test_blank_image_gives_the_whole_image():
    boxes, scores = SelectiveSearch()(np.full((40, 60, 3), 128, np.uint8))
    assert (boxes.tolist(), scores.tolist()) == ([[0, 0, 60, 40]], [1])


def test_unknown_mode_raises():
    with pytest.raises(ValueError, match="no mode slow: choose fast or quality"):
        SelectiveSearch(mode="slow")


def test_opencv_without_its_contrib_modules_raises_with_the_cure(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc")
    message = r"selective_search calls cv2\.ximgproc\..*, which .* lacks: run `pip uninstall opencv-python .*contrib"
    with pytest.raises(ValueError, match=message):
        SelectiveSearch().prepare()
    with pytest.raises(ValueError, match=message):
        SelectiveSearch()(np.zeros((9, 9, 3), np.uint8))
