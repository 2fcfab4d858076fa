import numpy as np
import pytest
import torch

from wsd_distill.data.geometry import Geometry, draw_window, show_maps

SHAPE = (40, 60)


def test_a_view_moves_scales_mirrors_and_clips_boxes():
    boxes = np.array([[10, 10, 30, 20], [0, 0, 60, 40]])
    view = Geometry((10, 0, 40, 20), SHAPE)
    assert view.apply_boxes(boxes, 60).tolist() == [[0, 30, 40, 60], [0, 0, 60, 60]]  # x by 2, y by 3
    mirrored = view._replace(flip=True)
    assert mirrored.apply_boxes(boxes, 60).tolist() == [[20, 30, 60, 60], [0, 0, 60, 60]]


def test_the_visible_fraction_is_that_of_the_area():
    boxes = np.array([[10, 10, 30, 20], [0, 0, 20, 20], [50, 30, 60, 40], [15, 5, 15, 9]])
    view = Geometry((10, 0, 40, 15), SHAPE)
    np.testing.assert_allclose(view.visible(boxes), [0.5, 150 / 400, 0, 0])
    assert Geometry.whole(SHAPE).visible(boxes).tolist() == [1, 1, 1, 1]


def test_windows_lie_in_the_image_with_the_wanted_areas_and_ratios():
    np.random.seed(0)
    windows = [draw_window(SHAPE, (0.25, 1.0), (3 / 4, 4 / 3)) for _ in range(500)]
    areas, ratios = [], []
    for x0, y0, x1, y1 in windows:
        assert 0 <= x0 < x1 <= 60 and 0 <= y0 < y1 <= 40
        areas.append((x1 - x0) * (y1 - y0) / 2400)
        ratios.append((x1 - x0) / (y1 - y0))
    assert 0.23 < min(areas) < 0.28 and 0.7 < max(areas) <= 1
    drawn = [r for r, w in zip(ratios, windows) if w != (0, 0, 60, 40)]
    assert 0.7 < min(drawn) < 0.8 and 1.25 < max(drawn) < 1.42


def test_the_whole_image_is_left_if_no_window_fits():
    assert draw_window((10, 1000), (0.9, 1.0), (1.0, 1.0)) == (0, 0, 1000, 10)


def test_a_view_of_the_whole_image_leaves_maps_as_they_are():
    maps = torch.rand(2, 3, 7, 5)
    assert show_maps(maps, [Geometry.whole(SHAPE)] * 2) is maps
    shown = show_maps(maps, [Geometry.whole(SHAPE), Geometry.whole(SHAPE, flip=True)])
    assert torch.equal(shown, torch.stack([maps[0], maps[1].flip(2)]))
    with_crop = show_maps(maps, [Geometry.whole(SHAPE), Geometry((0, 0, 30, 20), SHAPE)])
    torch.testing.assert_close(with_crop[0], maps[0])  # exact beside a crop, too


def smooth_maps(height, width, rows, columns):
    """(1, 2, rows, columns) values of two linear functions of the place in an image, at the centers of the cells."""
    y = (torch.arange(rows) + 0.5) * height / rows
    x = (torch.arange(columns) + 0.5) * width / columns
    return torch.stack(torch.meshgrid(2 * y, 3 * x, indexing="ij"))[None]


@pytest.mark.parametrize("flip", [False, True])
def test_a_crop_shows_the_values_of_its_places(flip):
    """A linear function is interpolated exactly, away from the borders, where the map is continued by its last cell."""
    shown = show_maps(smooth_maps(40, 60, 8, 12), [Geometry((20, 10, 50, 30), SHAPE, flip)])
    expected = smooth_maps(20, 30, 8, 12) + torch.tensor([2 * 10.0, 3 * 20.0])[:, None, None]
    torch.testing.assert_close(shown, expected.flip(3) if flip else expected)
