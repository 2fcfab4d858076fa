from types import SimpleNamespace

import numpy as np
import torch
from detectron2.structures import Boxes

from wsd_distill.pipeline import comparison
from wsd_distill.pipeline.comparison import build_comparison, write_comparison


def config_of(loader):
    """Config whose test loader is ``loader``."""
    test = SimpleNamespace(test=SimpleNamespace(loader=loader))
    return SimpleNamespace(dataloader=SimpleNamespace(test=test))


def test_comparison_of_unfinished_runs(finished, tmp_path):
    finished(0, "student", 70.0, CF1=60.0)
    finished(0, "stage2", 75.5, CF1=66.0)
    text = write_comparison(tmp_path / "table.md", build_comparison(tmp_path, 1, "digit_scenes"))
    assert text == (tmp_path / "table.md").read_text()
    assert text.startswith("digit_scenes, test split. In percent, 1 seed.\n\n")
    assert text.splitlines()[2] == "| method | mAP | CF1 | OF1 | CF1-top3 | OF1-top3 | CorLoc | images/s |"
    assert "| S-Cls (w/) | 75.5 | 66.0 | - | - | - | - | - |" in text
    assert text.endswith("\n- S-Cls (w/) minus S-Cls (w/o): 5.5 mAP (seed by seed: +5.5)\n")


def test_speed_and_its_conditions_in_the_caption(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "load_trained_run", lambda run: (config_of([[{}]]), None))
    monkeypatch.setattr(comparison, "instantiate", lambda loader: loader)
    monkeypatch.setattr(comparison, "images_per_second", lambda models: dict.fromkeys(models, 5.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table = build_comparison(tmp_path, 1, "digit_scenes")
    comparison.add_speed(table, tmp_path / "seed0")
    assert table.rows[0].ours[0]["images/s"] == 5
    assert "Images/s (not in percent) of the first seed: on one core, models taking turns" in table.caption


def test_scenes_are_drawn_in_rgb(finished, tmp_path, monkeypatch):
    """A blue image in the channel order of a BGR model."""
    for run in ("teacher", "student", "stage2"):
        finished(0, run, 70.0)
        scores = tmp_path / "seed0" / run / "inference" / "test"
        scores.mkdir(parents=True)
        np.savez(scores / "scores.npz", scores=np.full((1, 3), 0.5), labels=np.eye(3)[:1], class_names=["a", "b", "c"])
    image = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8)
    outputs = SimpleNamespace(boxes=[Boxes(torch.tensor([[0.0, 0, 4, 4]]))], objectness=[torch.ones(1)])
    teacher = SimpleNamespace(image_format="BGR", compute_outputs=lambda views: outputs)
    drawn = []
    loader = SimpleNamespace(dataset=[{"image": image}])
    monkeypatch.setattr(comparison, "load_trained_run", lambda run: (config_of(loader), teacher))
    monkeypatch.setattr(comparison, "instantiate", lambda loader: loader)
    monkeypatch.setattr(comparison, "draw_scenes", lambda path, scenes, *_: drawn.extend(scenes))
    comparison.draw_comparison(tmp_path / "scenes.png", tmp_path / "seed0")
    assert drawn[0]["image"].shape == (8, 8, 3) and drawn[0]["image"][0, 0].tolist() == [0, 0, 255]


def test_throughput_is_images_over_the_median_time(monkeypatch):
    """A clock with 1, 2 and 6 seconds for the three measured rounds of each model, after two of warm-up."""
    seconds = iter([9, 9, 9, 9, 1, 1, 2, 2, 6, 6])
    now, starts = [0], [True]

    def clock():
        if not starts[0]:
            now[0] += next(seconds)
        starts[0] = not starts[0]
        return now[0]

    monkeypatch.setattr(comparison.time, "perf_counter", clock)
    model = torch.nn.Identity()
    assert comparison.images_per_second({"one": (model, [{}]), "ten": (model, [{}] * 10)}, rounds=3) == {
        "one": 0.5,
        "ten": 5,
    }


def test_throughput_on_one_core_and_threads_are_restored(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before, seen = torch.get_num_threads(), []

    class Model(torch.nn.Module):
        def forward(self, batch):
            seen.append(torch.get_num_threads())

    torch.set_num_threads(2)
    try:
        comparison.images_per_second({"one": (Model(), [{}])}, rounds=1)
        assert set(seen) == {1} and torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
