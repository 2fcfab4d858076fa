import numpy as np
import torch
from PIL import Image

from wsd_distill.report import throughput
from wsd_distill.report.figures import choose_scenes, draw_scenes
from wsd_distill.report.table import Row, Table, gains, markdown_table, mean_std


def test_spread_by_hand():
    assert mean_std([70.0]) == "70.0"
    assert mean_std([1.0, 2.0, 6.0]) == "3.0 ± 2.6"  # deviations -2, -1, 3: sqrt(14 / 2)
    assert mean_std([1.0, 2.0, 6.0], "+") == "+3.0 ± 2.6" and mean_std([-0.25], "+") == "-0.2"
    assert mean_std([]) == "-"


def rows():
    return [
        Row("S-Cls", {"mAP": 70.9}, [{"mAP": 70.0}, {"mAP": 71.0}, {"mAP": 75.0}]),
        Row("T-WDet", {"mAP": 78.6}, [{"mAP": 80.0, "CorLoc": 50.0}, {"mAP": 82.0, "CorLoc": 52.0}, {}]),
        Row("RLSD", {"mAP": 68.2}, None, "not ours"),
        Row("S-Cls, long", {}, [{}, {}, {"mAP": 76.0}], "not theirs"),
    ]


def test_table_with_gains_from_a_baseline():
    """T-WDet: 10 and 11 more in the two seeds that both have; 78.6 - 70.9 = 7.7, 68.2 - 70.9 = -2.7."""
    table = Table("", "", ["mAP", "CorLoc"], rows(), "S-Cls")
    assert markdown_table(table, "MS-COCO", "voc5").splitlines() == [
        "| method | mAP, MS-COCO (gain) | mAP, voc5 (gain) | CorLoc |",
        "| :-- | --: | --: | --: |",
        "| S-Cls | 70.9 | 72.0 ± 2.6 | - |",
        "| T-WDet (2 of 3 seeds) | 78.6 (+7.7) | 81.0 ± 1.4 (+10.5 ± 0.7) | 51.0 ± 1.4 |",
        "| RLSD † | 68.2 (-2.7) | - | - |",
        "| S-Cls, long ‡ (1 of 3 seeds) | - | 76.0 (+1.0) | - |",
        "",
        "† not ours",
        "",
        "‡ not theirs",
    ]


def test_table_with_differences_from_the_published_figures():
    lines = markdown_table(Table("", "", ["mAP"], rows()[:3]), "MS-COCO", "MS-COCO").splitlines()
    assert lines[0] == "| method | mAP, published | mAP, ours (difference) |"
    assert lines[2:5] == [
        "| S-Cls | 70.9 | 72.0 ± 2.6 (+1.1) |",
        "| T-WDet (2 of 3 seeds) | 78.6 | 81.0 ± 1.4 (+2.4) |",
        "| RLSD † | 68.2 | - |",
    ]


def test_gains_are_of_the_seeds_that_both_have():
    table = Table("", "", ["mAP"], rows())
    assert gains(table, "mAP", [("T-WDet", "S-Cls"), ("S-Cls, long", "T-WDet")]) == [
        "T-WDet minus S-Cls: 10.5 ± 0.7 mAP (seed by seed: +10.0, +11.0)"
    ]


def test_scenes_are_those_on_which_the_students_differ():
    first = np.tile([0.9, 0.8, 0.7, 0.1], (50, 1))
    second = first.copy()
    second[[7, 31]] = [0.9, 0.8, 0.1, 0.7]
    second[5] = [0.7, 0.8, 0.9, 0.1]  # another order of the same three
    assert choose_scenes([first, second], how_many=2).tolist() == [7, 31]
    filled = choose_scenes([first, second], how_many=6).tolist()
    assert {7, 31} < set(filled) and len(set(filled)) == 6 and filled == sorted(filled)


def test_draws_a_picture(tmp_path):
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


def test_throughput_is_images_over_the_median_time(monkeypatch):
    """A clock that takes 1, 2 and 6 seconds for the three counted rounds of each model (two warm up)."""
    seconds = iter([9, 9, 9, 9, 1, 1, 2, 2, 6, 6])
    now, starts = [0], [True]

    def clock():
        if not starts[0]:
            now[0] += next(seconds)
        starts[0] = not starts[0]
        return now[0]

    monkeypatch.setattr(throughput.time, "perf_counter", clock)
    model = torch.nn.Identity()
    assert throughput.images_per_second({"one": (model, [{}]), "ten": (model, [{}] * 10)}, rounds=3) == {
        "one": 0.5,
        "ten": 5,
    }


def test_throughput_is_that_of_one_core_and_threads_are_restored(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before, seen = torch.get_num_threads(), []

    class Model(torch.nn.Module):
        def forward(self, batch):
            seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        throughput.images_per_second({"one": (Model(), [{}])}, rounds=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
