"""The plan of a second start, what is decided from the scores of the candidates, and the report about it."""

import re

import numpy as np
import pytest
from helpers.tagged_photos import write_photos
from PIL import Image
from scipy.special import expit

from wsd_distill.evaluation.decisions import calibrate
from wsd_distill.evaluation.metrics import average_precisions
from wsd_distill.evaluation.scores import Scores
from wsd_distill.pipeline import tagger_training
from wsd_distill.pipeline.budget import CANDIDATES, Costs, Plan
from wsd_distill.pipeline.candidate_runs import Outcome, Skipped, TrainedCandidates
from wsd_distill.pipeline.tagger_training import TaggerTraining, decide, write_lists
from wsd_distill.report.graphs import add_graphs
from wsd_distill.report.tagger_page import class_rows, suspects, write_tagger_page
from wsd_distill.tags import read_tags, split_tags

CLASSES = ["cat", "dog", "<b>"]


def make_run(folder, noise, seed=0):
    """A run whose scores on 300 photos per split are sigmoid(2 x + noise) of labels drawn with sigmoid(x)."""
    for split, offset in (("val", 0), ("test", 1)):
        rng = np.random.default_rng(offset)
        x = rng.normal(-1, 2, (300, 3))
        labels = (rng.random(x.shape) < expit(x)).astype(int)
        labels[:5, 0] = -1
        scores = expit(2 * (x + noise * np.random.default_rng(seed + 100).normal(size=x.shape)))
        ids = [f"{split}{i}.jpg" for i in range(300)]
        (folder / "inference" / split).mkdir(parents=True)
        arrays = {"scores": scores, "labels": labels, "class_names": CLASSES, "image_ids": ids}
        np.savez(folder / "inference" / split / "scores.npz", **arrays)
    return folder


def make_trained(tmp_path, *noises, skipped=()):
    folders = [make_run(tmp_path / str(i), noise) for i, noise in enumerate(noises)]
    outcomes = []
    for candidate, folder in zip(CANDIDATES, folders):
        with np.load(folder / "inference" / "val" / "scores.npz") as arrays:
            val = Scores(arrays["scores"], arrays["labels"], CLASSES)
        outcomes.append(Outcome(candidate, folder, val, 60.0))
    return TrainedCandidates(outcomes, list(skipped), 720.0 if skipped else None)


def test_a_second_start_checks_overrides_that_do_not_change_results(tmp_path, monkeypatch, restore_catalogs):
    write_photos(tmp_path)
    images, out = tmp_path / "photos", tmp_path / "pets"
    lists = write_lists(split_tags(read_tags(str(tmp_path / "tags.csv"), images), images), images, out / "lists")
    monkeypatch.setattr(TaggerTraining, "_measure", lambda *sizes: Costs(1, 1, 1))
    monkeypatch.setattr(tagger_training, "CANDIDATES", CANDIDATES[:1])

    def make_plan(*overrides):
        return TaggerTraining("pets", out, lists, images, "efficientnet_lite0", overrides).make_plan(None)

    plan = make_plan()
    assert make_plan("dataloader.train.num_workers=0") == plan
    with pytest.raises(ValueError, match=r"train.num_workers=0: no config of these runs has this key"):
        make_plan("train.num_workers=0")


def test_the_best_on_val_is_kept_and_calibrated(tmp_path):
    result = decide(make_trained(tmp_path, 2.0, 0.0, 1.0))
    assert result.best.candidate is CANDIDATES[1]
    gain, low, high = result.best.gain
    assert gain == pytest.approx(result.best.val_map - result.outcomes[0].val_map) and 0 < low < gain < high
    assert result.kept.scale == pytest.approx(0.5, abs=0.1) and result.kept.offset == pytest.approx(0, abs=0.2)
    with np.load(result.best.folder / "inference" / "test" / "scores.npz") as arrays:
        expected = calibrate(arrays["scores"], result.kept.scale, result.kept.offset)
        np.testing.assert_allclose(result.kept.test.scores, expected)
    for k, row in enumerate(result.gains):  # of each class on test
        ap = [100 * average_precisions(x.test.scores, x.test.labels)[k] for x in (result.kept, result.plain)]
        assert row[0] == pytest.approx(ap[0] - ap[1]) and 0 < row[1] < row[0] < row[2]
    assert re.fullmatch(
        r"kept: features of the ImageNet network .*, mAP [\d.]+ on test \(95 % interval .*\); \+[\d.]+ mAP over plain "
        r"fine-tuning on val \(\+[\d.]+ to \+[\d.]+\)",
        result.summary(),
    )


def test_plain_is_kept_where_it_is_best_or_equal(tmp_path):
    for noises in ((0.0, 1.0), (0.5, 0.5)):
        result = decide(make_trained(tmp_path / str(noises), *noises))
        assert result.best.candidate is CANDIDATES[0] and result.best.gain is None
        assert result.plain is None and result.gains == []
        assert "no distilled student that was trained is better" in result.summary()


def test_a_gain_within_chance_is_said_to_be(tmp_path):
    result = decide(make_trained(tmp_path, 2.0, 0.0))
    assert not result.summary().endswith("which chance can explain")
    result.best.gain = (0.4, -0.2, 1.0)
    assert result.summary().endswith(
        "; +0.4 mAP over plain fine-tuning on val (-0.2 to +1.0), which chance can explain"
    )


def test_suspects_are_decided_otherwise(tmp_path):
    result = decide(make_trained(tmp_path, 0.0))
    found = suspects(result, tmp_path)
    assert len(found) == 12 and {present for _, present in found} == {False, True}
    result.kept.thresholds.values[:] = [2.0, 0.0, 2.0]  # dogs are found in each photo, and nothing else
    assert {(example.label == "dog", present) for example, present in suspects(result, tmp_path)} == {
        (True, False),
        (False, True),
    }


def test_page(tmp_path):
    for i in range(300):
        Image.new("RGB", (30, 20), (i % 256, 0, 0)).save(tmp_path / f"test{i}.jpg")
    skipped = [Skipped(candidate, "the <teacher> failed", 40.0) for candidate in CANDIDATES[2:4]]
    result = decide(make_trained(tmp_path, 2.0, 0.0, skipped=skipped))
    plan = Plan(128, 384, 20, CANDIDATES[:4])
    html = write_tagger_page(tmp_path / "report.html", "pets", result, plan, tmp_path).read_text()
    assert "&lt;b&gt;" in html and "<b>" not in html
    assert html.count("<td>left out</td>") == 3 and 'Tagger.load("pets/model")' in html
    assert "the teacher itself</th><td></td><td></td><td>12 min</td>" in html
    reason = f"{CANDIDATES[2].title}; {CANDIDATES[3].title}. The reason: the &lt;teacher&gt; failed."
    assert html.count("The reason:") == 2 and reason.replace("'", "&#39;") in html
    assert f"{CANDIDATES[4].title}. The reason: by the measured time of a step" in html
    assert html.count("data:image/jpeg;base64,") == 36  # three of each class, right, missed, wrong and changed
    assert not re.search(r'(src|href)="(?!data:|#)', html)
    for value in (1.4, 1.5):  # a second export replaces the first one's
        add_graphs(tmp_path / "report.html", "pets", {"int8": {"megabytes": value, "images_per_second": 7, "mAP": 50}})
    text = (tmp_path / "report.html").read_text()
    assert "<td>1.5</td><td>7</td><td>50.00</td>" in text and "<td>1.4</td>" not in text
    for row in class_rows(result):
        k = CLASSES.index(row.name)
        labels, predicted = result.kept.test.labels[:, k], result.kept.predicted[:, k]
        assert row.photos == (labels == 1).sum()
        assert row.found == pytest.approx(100 * predicted[labels == 1].mean())
        assert row.right == pytest.approx(100 * (labels[predicted & (labels >= 0)] == 1).mean())
        assert row.gain == result.gains[k] and row.precision[1] < row.precision[0] < row.precision[2]
