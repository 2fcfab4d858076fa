import wsd_distill  # noqa: F401  (first: it patches Detectron2 0.6 for a current PyTorch)

# isort: split
import pickle

import cv2
import numpy as np
import pytest
import skimage.data
from detectron2.structures import Boxes, pairwise_iou

from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes


def iou(first, second):
    """Return the pairwise IoU (M, R) of boxes (M, 4) and (R, 4)."""
    return pairwise_iou(Boxes(first), Boxes(second)).numpy()


def scene(side):
    """Return dark noise with a bright rectangle at (25, 30, 75, 60) %, and its box."""
    image = np.random.default_rng(0).integers(40, 60, (side, side, 3), dtype=np.uint8)
    x0, y0, x1, y1 = (side * share // 100 for share in (25, 30, 75, 60))
    image[y0:y1, x0:x1] = (230, 180, 40)
    return image, np.array([[x0, y0, x1, y1]], np.float64)


SIDES = [(256,), (128, 300)]


@pytest.mark.parametrize("sides", SIDES)
@pytest.mark.parametrize("side", [100, 400])
def test_finds_a_rectangle_at_every_scale(side, sides):
    image, truth = scene(side)
    boxes, scores = EdgeBoxes(sides=sides)(image)
    assert iou(truth, boxes[:20]).max() > 0.7
    assert (boxes.dtype, scores.dtype) == (np.float32, np.float32)
    assert boxes.shape == (len(scores), 4)
    assert boxes.min() >= 0 and boxes.max() <= side
    assert (boxes[:, 2:] > boxes[:, :2]).all()
    assert (np.diff(scores) <= 0).all()


def test_boxes_of_an_oblong_image_are_in_its_own_pixels():
    image = np.full((120, 480, 3), 50, np.uint8)
    image[30:90, 300:420] = 220
    for sides in SIDES:
        boxes, _ = EdgeBoxes(sides=sides)(image)
        assert iou(np.array([[300.0, 30, 420, 90]]), boxes[:20]).max() > 0.7
        assert (boxes.max(0) <= [480, 120, 480, 120]).all()


def test_colour_alone_gives_an_edge():
    """Red and green of equal luminance (0.299 R = 0.587 G): no edge in a grey image."""
    image = np.zeros((128, 128, 3), np.uint8)
    image[..., 0] = 200
    image[40:90, 30:100] = (0, 102, 0)
    boxes, _ = EdgeBoxes()(image)
    assert iou(np.array([[30.0, 40, 100, 90]]), boxes[:20]).max() > 0.7


def test_a_blank_image_has_no_boxes():
    boxes, scores = EdgeBoxes()(np.full((64, 96, 3), 128, np.uint8))
    assert (boxes.shape, boxes.dtype) == ((0, 4), np.float32)
    assert (scores.shape, scores.dtype) == ((0,), np.float32)


def blocks():
    """Return 128 x 128 pixels in blocks of 8 x 8 of random colours."""
    return np.random.default_rng(1).integers(0, 256, (16, 16, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def test_max_boxes_keeps_the_best():
    boxes, scores = EdgeBoxes(max_boxes=1000, sides=(256,))(blocks())
    assert len(boxes) > 7
    few_boxes, few_scores = EdgeBoxes(max_boxes=7, sides=(256,))(blocks())
    assert len(few_boxes) == 7
    np.testing.assert_array_equal(few_boxes[0], boxes[0])
    np.testing.assert_array_equal(few_scores[0], scores[0])


def grass():
    """Return a photo of dense texture; OpenCV's best score for it is above 1."""
    return np.stack([skimage.data.grass()] * 3, axis=2)


@pytest.mark.parametrize("sides", [(192, 320, 640), (640,)])
def test_scores_above_1_become_1_and_keep_their_order(sides, monkeypatch):
    create, found = cv2.ximgproc.createEdgeBoxes, []

    class Recorded:
        def __init__(self, **options):
            self.search = create(**options)

        def getBoundingBoxes(self, *arguments):
            found.append(self.search.getBoundingBoxes(*arguments))
            return found[-1]

    monkeypatch.setattr(cv2.ximgproc, "createEdgeBoxes", Recorded)
    _, scores = EdgeBoxes(sides=sides)(grass())
    best = max(found, key=lambda result: result[1].max())
    assert best[1].max() > 1
    assert scores[0] == 1 and scores.min() >= 0
    assert (np.diff(scores) <= 0).all()


def test_boxes_of_all_sizes_are_merged_by_nms():
    """The best box is first; of two boxes with IoU above beta the better is kept."""
    alone = [EdgeBoxes(max_boxes=40, sides=(side,))(blocks()) for side in (128, 192)]
    boxes, scores = EdgeBoxes(max_boxes=40, sides=(128, 192))(blocks())
    assert boxes.shape == (40, 4)
    rows = [{(*box, score) for box, score in zip(b.tolist(), s.tolist())} for b, s in (*alone, (boxes, scores))]
    assert rows[2] <= rows[0] | rows[1]
    assert rows[2] & rows[0] and rows[2] & rows[1]
    assert scores[0] == max(found[1][0] for found in alone)
    assert (np.diff(scores) <= 0).all()
    overlaps = iou(boxes, boxes) - np.eye(40)
    assert overlaps.max() <= 0.55 + 1e-6


def test_hysteresis_thresholds():
    """A step of 12, blurred with sigma 2: Sobel gives 8 * 12 / (2 sqrt(2 pi)) = 19."""
    image = np.full((128, 128, 3), 50, np.uint8)
    image[40:90, 30:100] = 62
    assert len(EdgeBoxes(hysteresis=(60, 120))(image)[0]) == 0
    boxes, _ = EdgeBoxes(hysteresis=(4, 8))(image)
    assert iou(np.array([[30.0, 40, 100, 90]]), boxes[:20]).max() > 0.7


@pytest.mark.parametrize("sides", [(), (0,), (320, -1)])
def test_invalid_sides_raise(sides):
    with pytest.raises(ValueError, match="give one or more positive numbers of pixels"):
        EdgeBoxes(sides=sides)


def test_pickled_proposer_gives_the_same_boxes():
    proposer = EdgeBoxes(max_boxes=50, sides=(90, 120))
    copy = pickle.loads(pickle.dumps(proposer))
    assert copy == proposer
    image, _ = scene(100)
    for ours, theirs in zip(proposer(image), copy(image)):
        np.testing.assert_array_equal(ours, theirs)


def test_missing_edge_model_raises_and_parameters_have_the_file_name_only(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"edge_model: no structured-forest model .*gone\.yml\.gz"):
        EdgeBoxes(edge_model=str(tmp_path / "gone.yml.gz"))
    (tmp_path / "model.yml.gz").touch()
    proposer = EdgeBoxes(max_boxes=9, edge_model=str(tmp_path / "model.yml.gz"))
    assert (proposer.parameters["max_boxes"], proposer.parameters["edge_model"]) == (9, "model.yml.gz")


def test_opencv_without_its_contrib_modules_raises_with_the_cure(monkeypatch):
    monkeypatch.delattr(cv2, "ximgproc")
    message = r"edge_boxes calls cv2\.ximgproc\..*, which .* lacks: run `pip uninstall opencv-python .*contrib"
    with pytest.raises(ValueError, match=message):
        EdgeBoxes().prepare()
    with pytest.raises(ValueError, match=message):
        EdgeBoxes()(np.zeros((9, 9, 3), np.uint8))
