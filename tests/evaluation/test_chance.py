"""Scores that are better than random ones, and images that cannot tell."""

import numpy as np
import pytest

from wsd_distill.evaluation.chance import compare_with_chance


def make(count, signal, classes=3, share=0.3):
    """Labels, and scores with ``signal`` standard deviations between positives and negatives."""
    rng = np.random.default_rng(1)
    labels = (rng.random((count, classes)) < share).astype(int)
    return signal * labels + rng.normal(size=labels.shape), labels


def test_chance_of_one_positive_among_two_images():
    """The positive is first or second with equal odds: AP is 1 or 1/2."""
    found = compare_with_chance(np.array([[1.0], [0.0]]), np.array([[1], [0]]))
    assert found.mean_ap == 100 and found.chance == pytest.approx(75, abs=6)
    assert found.threshold == pytest.approx(found.chance + 3 * 25, abs=1)
    assert not found.is_decisive and not found.is_weak


@pytest.mark.parametrize("count", [9, 20, 30])
def test_few_images_cannot_tell(count):
    for signal in (0.0, 0.5):
        assert not compare_with_chance(*make(count, signal)).is_weak


@pytest.mark.parametrize("count, signal, is_weak", [(100, 0.0, True), (200, 0.0, True), (100, 1.0, False)])
def test_many_images_can(count, signal, is_weak):
    found = compare_with_chance(*make(count, signal))
    assert found.is_decisive and found.is_weak == is_weak


def test_images_that_all_have_the_class_cannot_tell():
    scores, labels = make(200, 1.0)
    assert not compare_with_chance(scores, np.ones_like(labels)).is_decisive
