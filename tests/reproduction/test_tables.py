import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.structures import Boxes

from wsd_distill.report.runs import Run
from wsd_distill.reproduction import comparison
from wsd_distill.reproduction.comparison import build_comparison, write_comparison
from wsd_distill.reproduction.published import DISTILLED, PLAIN, PUBLISHED
from wsd_distill.reproduction.recipes import LONG, RECIPES, ROWS
from wsd_distill.reproduction.tables import build_table, build_tables, write_tables


@pytest.fixture
def finished(tmp_path):
    """A function: seed, run and mAP of a finished run -> its results.json."""

    def finished(seed, run, value, **more):
        folder = tmp_path / f"seed{seed}" / run
        folder.mkdir(parents=True)
        results = {"val": {"multilabel": {"mAP": 1.0}}, "test": {"multilabel": {"mAP": value, **more}}}
        (folder / "results.json").write_text(json.dumps(results))

    return finished


def test_results_are_those_of_the_test_split_of_all_tasks(tmp_path):
    test = {"multilabel": {"mAP": 70.0}, "localization": {"CorLoc": 50.0}}
    (tmp_path / "results.json").write_text(json.dumps({"val": {"multilabel": {"mAP": 60.0}}, "test": test}))
    assert Run("T-WDet", tmp_path).results == {"mAP": 70.0, "CorLoc": 50.0}
    assert Run("T-WDet", tmp_path / "unfinished").results == {}


def test_rows_are_the_papers_then_ours_and_runs_exist():
    for number, runs in ROWS.items():
        assert set(runs.values()) <= set(RECIPES)
        for part in PUBLISHED[number]:
            paper = [method for method in runs if method in part.rows]
            assert list(runs)[: len(paper)] == paper and part.baseline in paper


def test_a_table_of_what_is_there(finished, tmp_path):
    """Seed 1 has no stage 2 yet."""
    finished(0, "student", 70.0)
    finished(1, "student", 72.0)
    finished(0, "stage2", 75.0)
    table = build_table(1, PUBLISHED[1][0], tmp_path, 2, "digit_scenes")
    rows = {row.method: row for row in table.rows}
    assert list(rows)[:13] == list(PUBLISHED[1][0].rows) and list(rows)[13:] == [LONG]
    assert rows[PLAIN].ours == [{"mAP": 70.0}, {"mAP": 72.0}] and rows[PLAIN].note == ""
    assert rows[DISTILLED].ours == [{"mAP": 75.0}, {}]
    assert rows["FitNets [23]"].ours == [{}, {}] and rows["FitNets [23]"].published["mAP"] == 72.5
    assert rows["RLSD [43]"].ours is None and "not trained here" in rows["RLSD [43]"].note
    assert rows[LONG].published == {} and "not in the paper" in rows[LONG].note


def test_gains_on_another_data_set_differences_on_the_papers(finished, tmp_path):
    """Published: 70.9, 78.6, 74.6 on MS-COCO and 55.6, 58.2, 60.1 on NUS-WIDE."""
    for seed, (plain, teacher, distilled) in enumerate([(70.0, 80.0, 75.0), (72.0, 83.0, 79.0)]):
        finished(seed, "student", plain)
        finished(seed, "teacher", teacher)
        finished(seed, "stage2", distilled)
    commands = ["python tools/reproduce.py --tables 3"] * 2  # MS-COCO's part and NUS-WIDE's
    tables = build_tables([3], tmp_path, 2, "digit_scenes")
    text = write_tables(tmp_path / "tables.md", tables, "digit_scenes", commands)
    assert text == (tmp_path / "tables.md").read_text() and text.count(commands[0]) == 2
    assert "| method | mAP, MS-COCO (gain) | mAP, digit_scenes (gain) |" in text
    assert "| S-Cls (w/o) | 70.9 | 71.0 ± 1.4 |" in text
    assert "| T-WDet | 78.6 (+7.7) | 81.5 ± 2.1 (+10.5 ± 0.7) |" in text
    assert "| S-Cls (w/) | 60.1 (+4.5) | 77.0 ± 2.8 (+6.0 ± 1.4) |" in text
    assert "| S-Cls (w/o), epochs of both stages † | - | - |" in text

    text = write_tables(tmp_path / "tables.md", build_tables([3], tmp_path, 2, "MS-COCO"), "MS-COCO", commands)
    assert "| method | mAP, published | mAP, ours (difference) |" in text
    assert "| T-WDet | 78.6 | 81.5 ± 2.1 (+2.9) |" in text
    assert "| method | mAP, NUS-WIDE (gain) | mAP, MS-COCO (gain) |" in text


def test_the_comparison_as_far_as_it_goes(finished, tmp_path):
    finished(0, "student", 70.0, CF1=60.0)
    finished(0, "stage2", 75.5, CF1=66.0)
    text = write_comparison(tmp_path / "table.md", build_comparison(tmp_path, 1, "digit_scenes"))
    assert text == (tmp_path / "table.md").read_text()
    assert text.startswith("digit_scenes, test split. In percent, 1 seed.\n\n")
    assert text.splitlines()[2] == "| method | mAP | CF1 | OF1 | CF1-top3 | OF1-top3 | CorLoc | images/s |"
    assert "| S-Cls (w/) | 75.5 | 66.0 | - | - | - | - | - |" in text
    assert text.endswith("\n- S-Cls (w/) minus S-Cls (w/o): 5.5 mAP (seed by seed: +5.5)\n")


def test_the_caption_says_how_speed_was_measured(tmp_path, monkeypatch):
    monkeypatch.setattr(comparison, "load", lambda run: (None, [[{}]]))
    monkeypatch.setattr(comparison, "instantiate", lambda loader: loader)
    monkeypatch.setattr(comparison, "images_per_second", lambda models: dict.fromkeys(models, 5.0))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    table = build_comparison(tmp_path, 1, "digit_scenes")
    comparison.add_speed(table, tmp_path / "seed0")
    assert table.rows[0].ours[0]["images/s"] == 5
    assert "Images/s, no percentage, of the first seed: on one core, models taking turns" in table.caption


def test_scenes_are_drawn_in_rgb_whatever_the_model_reads(finished, tmp_path, monkeypatch):
    """A blue image, as a model of BGR has it."""
    for run in ("teacher", "student", "stage2"):
        finished(0, run, 70.0)
        scores = tmp_path / "seed0" / run / "inference" / "test"
        scores.mkdir(parents=True)
        np.savez(scores / "scores.npz", scores=np.full((1, 3), 0.5), labels=np.eye(3)[:1], class_names=["a", "b", "c"])
    image = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 8, 8)
    seen = SimpleNamespace(boxes=[Boxes(torch.tensor([[0.0, 0, 4, 4]]))], objectness=[torch.ones(1)])
    teacher = SimpleNamespace(image_format="BGR", compute_outputs=lambda views: seen)
    drawn = []
    monkeypatch.setattr(comparison, "load", lambda run: (teacher, SimpleNamespace(dataset=[{"image": image}])))
    monkeypatch.setattr(comparison, "instantiate", lambda loader: loader)
    monkeypatch.setattr(comparison, "draw_scenes", lambda path, scenes, *_: drawn.extend(scenes))
    assert comparison.draw_comparison(tmp_path / "scenes.png", tmp_path / "seed0")
    assert drawn[0]["image"].shape == (8, 8, 3) and drawn[0]["image"][0, 0].tolist() == [0, 0, 255]


def test_a_run_of_a_gpu_is_loaded_where_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (tmp_path / "config.yaml").write_text(
        "{dataset: {register: []}, train: {device: cuda, channels_last: false}, "
        "model: {_target_: torch.nn.Linear, in_features: 1, out_features: 1}, "
        "dataloader: {test: {test: {loader: {batch_size: 4}}}}}"
    )
    with pytest.raises(FileNotFoundError, match="model_final.pth is not there"):
        comparison.load(tmp_path)
    torch.save(torch.nn.Linear(1, 1).state_dict(), tmp_path / "model_final.pth")
    model, loader = comparison.load(tmp_path)
    assert model.weight.device.type == "cpu" and loader == {"batch_size": 4}
