import numpy as np
import pytest
from helpers import run_folders

from wsd_distill.report import sections
from wsd_distill.report.run_results import RunResults


@pytest.fixture
def drawn(monkeypatch):
    """Title -> lines of the curves that are drawn."""
    found = {}
    monkeypatch.setattr(sections, "curves", lambda prefix, title, lines, *labels, **log: found.update({title: lines}))
    return found


def log(folder, *losses):
    run_folders.write_entries(folder, *({"iteration": 10 * i, "loss_image": loss} for i, loss in enumerate(losses)))
    return RunResults("T-WDet", folder)


def test_the_mean_ends_with_the_shortest_seed(tmp_path, drawn):
    seeds = [log(tmp_path / "0", 4.0, 2.0, 1.0), log(tmp_path / "1", 6.0, 5.0), RunResults("T-WDet", tmp_path / "2")]
    _, notes = sections.training_curves({"T-WDet": seeds})
    (line,) = drawn["Losses of T-WDet"]
    assert line.curves == [([0, 10, 20], [4, 2, 1]), ([0, 10], [6, 5])]
    assert line.mean == ([0, 10], [5, 3.5])
    assert notes == ["No curve of mAP, because evaluated at most once: T-WDet."]


def test_long_curves_are_downsampled_to_means(tmp_path, drawn, monkeypatch):
    monkeypatch.setattr(sections, "MAX_POINTS", 3)
    sections.training_curves({"T-WDet": [log(tmp_path, 1.0, 3.0, 5.0, 7.0, 9.0, 11.0)]})
    assert drawn["Losses of T-WDet"][0].mean == ([5, 25, 45], [2, 6, 10])


def test_one_temperature_for_all_classes(tmp_path, monkeypatch):
    run_folders.write_run(tmp_path, 0, [50.0, 30.0, 20.0], {"t_cls": [np.log(3.0)], "t_student": [0.0] * 3})
    found = []
    monkeypatch.setattr(sections, "class_temperatures", lambda *args: found.append(args[2:]))
    sections.learned_temperatures({"shared": [RunResults("shared", tmp_path)]})
    (one, learned_once), (each, learned_each) = found
    assert one == ["all classes"] and each == ["<b>&", "cat", "dog"]  # 6, 4 and 0 images
    assert learned_once["tᶜ, teacher's classes"] == pytest.approx(np.array([[3.0]]))
    assert list(learned_each) == ["t, student's classes"]
