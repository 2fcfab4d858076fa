import numpy as np

from wsd_distill.proposals.boxes import clip_boxes


def test_boxes_are_cut_at_the_edge_and_counted_by_hand():
    boxes = np.array(
        [
            [-5, -5, 10, 10],  # over two edges
            [0, 0, 40, 30],  # the whole image
            [35, 25, 45, 35],  # over the two others
            [40, 0, 50, 10],  # begins where the image ends
            [-9, 3, -1, 5],  # outside
            [7, 7, 7, 9],  # no width
        ],
        dtype=np.float32,
    )
    scores = np.array([6, 5, 4, 3, 2, 1], dtype=np.float32)
    clipped, kept, counts = clip_boxes(boxes, scores, height=30, width=40)
    assert clipped.tolist() == [[0, 0, 10, 10], [0, 0, 40, 30], [35, 25, 40, 30]]
    assert kept.tolist() == [6, 5, 4]
    assert counts == (2, 3)
    assert clipped.dtype == np.float32
    assert boxes[0].tolist() == [-5, -5, 10, 10]  # the caller's own


def test_no_boxes():
    boxes, scores, counts = clip_boxes(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), 3, 4)
    assert (boxes.shape, scores.shape, counts) == ((0, 4), (0,), (0, 0))
