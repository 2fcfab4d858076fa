import numpy as np

from wsd_distill.proposals.clipping import clip_boxes


def test_boxes_are_clipped_and_counted():
    boxes = np.array(
        [
            [-5, -5, 10, 10],  # crosses two edges
            [0, 0, 40, 30],  # the whole image
            [35, 25, 45, 35],  # crosses the other two
            [40, 0, 50, 10],  # starts at the right edge
            [-9, 3, -1, 5],  # outside
            [7, 7, 7, 9],  # no width
        ],
        dtype=np.float32,
    )
    scores = np.array([6, 5, 4, 3, 2, 1], dtype=np.float32)
    clipped, kept, *counts = clip_boxes(boxes, scores, height=30, width=40)
    assert clipped.tolist() == [[0, 0, 10, 10], [0, 0, 40, 30], [35, 25, 40, 30]]
    assert kept.tolist() == [6, 5, 4]
    assert counts == [2, 3]
    assert clipped.dtype == np.float32
    assert boxes[0].tolist() == [-5, -5, 10, 10]  # the input is not modified


def test_no_boxes():
    boxes, scores, *counts = clip_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 3, 4)
    assert (boxes.shape, scores.shape, counts) == ((0, 4), (0,), [0, 0])
