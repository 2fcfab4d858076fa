"""Whether the scores of a model are better than random scores for the same labels."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from .metrics import mean_average_precision

_DRAWS, _DEVIATIONS = 100, 3.0
MAX_SPREAD = 0.2


class ChanceTest(NamedTuple):
    """Results of :func:`compare_with_chance`, in percent."""

    mean_ap: float  # of the scores
    chance: float  # mean mAP of random scores
    threshold: float  # which random scores rarely reach

    @property
    def is_decisive(self) -> bool:
        """Whether the images can tell a model that has learned from random scores.

        They cannot if random scores reach ``MAX_SPREAD`` of the distance from chance to 100: then a model that has
        learned may stay below the threshold too.
        """
        return self.threshold - self.chance < MAX_SPREAD * (100 - self.chance) - 1e-6

    @property
    def is_weak(self) -> bool:
        """Whether the scores are no better than random ones, on images that can tell."""
        return self.is_decisive and self.mean_ap <= self.threshold


def compare_with_chance(scores: np.ndarray, labels: np.ndarray) -> ChanceTest:
    """Compare mAP with that of 100 draws of random scores; the threshold is their mean plus three deviations.

    Args:
        scores: (N, K), finite.
        labels: (N, K): 1 = positive, 0 = negative, -1 = ignored.
    """
    rng = np.random.default_rng(0)
    random = [100 * mean_average_precision(rng.random(scores.shape), labels) for _ in range(_DRAWS)]
    chance = float(np.mean(random))
    threshold = chance + _DEVIATIONS * float(np.std(random))
    return ChanceTest(100 * mean_average_precision(scores, labels), chance, threshold)
