import numpy as np
from PIL import Image

from wsd_distill.report.figures import choose_scenes, draw_scenes


def test_scenes_with_different_labels_come_first():
    first = np.tile([0.9, 0.8, 0.7, 0.1], (50, 1))
    second = first.copy()
    second[[7, 31]] = [0.9, 0.8, 0.1, 0.7]
    second[5] = [0.7, 0.8, 0.9, 0.1]  # another order of the same three
    assert choose_scenes([first, second], count=2).tolist() == [7, 31]
    filled = choose_scenes([first, second], count=6).tolist()
    assert {7, 31} < set(filled) and len(set(filled)) == 6 and filled == sorted(filled)


def test_draws_a_figure(tmp_path):
    scene = {
        "image": np.zeros((16, 16, 3), np.uint8),
        "boxes": np.array([[2, 2, 9, 9], [1, 1, 15, 15]]),
        "labels": np.array([1, 0, 1, 0]),
        "scores": [np.array([0.9, 0.8, 0.7, 0.1]), np.array([0.1, 0.2, 0.3, 0.4])],
    }
    path = tmp_path / "scenes.png"
    draw_scenes(path, [scene] * 4, ["w/o", "w/"], ["a", "b", "c", "d"])
    pixels = np.asarray(Image.open(path).convert("RGB")).reshape(-1, 3)
    blue, red = ((np.abs(pixels.astype(int) - c) < 30).all(1).sum() for c in ([31, 79, 216], [208, 49, 45]))
    assert blue > 50 and red > 50
