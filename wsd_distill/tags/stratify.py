"""Iterative stratification of multi-label data (Sechidis et al., ECML PKDD 2011), with groups kept whole."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

MIN_GROUPS = 3  # a class with as many groups of photos is in each split, where possible


def stratify(counts: np.ndarray, sizes: np.ndarray, fractions: Sequence[float]) -> np.ndarray:
    """Assign groups to splits so that each split has its share of every class, the rarest classes first.

    Args:
        counts: (G, K) photos of each group that have a class.
        sizes: (G,) photos of each group. Ties are resolved by the order of the groups.
        fractions: of the S splits, with the sum 1.

    Returns:
        (G,) split of each group.
    """
    has = counts > 0
    frequent = has.sum(axis=0) >= MIN_GROUPS
    photos = np.asarray(fractions) * sizes.sum()  # (S,) that each split still lacks
    wanted = _wanted_labels(counts.sum(axis=0), fractions, frequent)  # (S, K) likewise
    splits = np.full(len(counts), -1)
    left = has.sum(axis=0)  # (K,) groups that are not assigned
    while left.any():
        k = int(np.argmin(np.where(left > 0, left, left.max() + 1)))
        chosen = np.flatnonzero((splits < 0) & has[:, k])
        for group in chosen[np.argsort(-counts[chosen, k], kind="stable")].tolist():
            split = int(np.lexsort((-photos, -wanted[:, k]))[0])
            splits[group] = split
            photos[split] -= sizes[group]
            wanted[split] -= counts[group]
        left -= has[chosen].sum(axis=0)
    for group in np.flatnonzero(splits < 0).tolist():
        splits[group] = np.argmax(photos)
        photos[splits[group]] -= sizes[group]
    _repair(splits, has, sizes, len(photos), frequent)
    return splits


def _wanted_labels(totals: np.ndarray, fractions: Sequence[float], frequent: np.ndarray) -> np.ndarray:
    """Return (S, K) photos per split and class: the fractions, but at least one of each frequent class."""
    wanted = np.outer(fractions, totals)
    wanted[:, frequent] = np.maximum(wanted[:, frequent], 1)
    largest = int(np.argmax(fractions))
    wanted[largest] = totals - np.delete(wanted, largest, axis=0).sum(axis=0)
    return wanted


def _repair(splits: np.ndarray, has: np.ndarray, sizes: np.ndarray, num_splits: int, frequent: np.ndarray) -> None:
    """Move single groups into splits without a frequent class, if no frequent class leaves a split by that."""
    present = np.stack([has[splits == s].sum(axis=0) for s in range(num_splits)])  # (S, K) groups
    for split, k in np.argwhere((present == 0) & frequent).tolist():
        candidates = np.flatnonzero(has[:, k] & (splits != split))
        for group in candidates[np.argsort(sizes[candidates], kind="stable")].tolist():
            rest = present[splits[group]] - has[group]
            if present[split, k] == 0 and (rest[has[group] & frequent] > 0).all():
                present[splits[group]] = rest
                present[split] += has[group]
                splits[group] = split
