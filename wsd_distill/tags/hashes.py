"""Equal and nearly equal photos: hashes of their bytes and of a small greyscale version."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components
from tqdm import tqdm

from ..data.image import ImageError, ImageFile

MAX_DISTANCE = 3  # bits in which difference hashes of nearly equal photos may differ
_BANDS = 4  # more than MAX_DISTANCE, so that a pair is equal in at least one band of 16 bits
_MIN_SIZE = 72  # a JPEG is decoded at the smallest size that is not below this
_MIN_DEVIATION = 2.0  # grey levels; a photo of one color has no hash that identifies it
_BATCH = 1024
_WEIGHTS = 1 << np.arange(64, dtype=np.uint64)


@dataclass
class PhotoHashes:
    """Hashes of N photos.

    Attributes:
        digest: (N,) 16 bytes each, blake2b of the file; of its name, if it cannot be read.
        difference: (N,) uint64, ``difference_hash``.
        has_difference: (N,) bool; False for photos of one color and those that cannot be read.
        errors: row -> why it cannot be read.
    """

    digest: np.ndarray
    difference: np.ndarray
    has_difference: np.ndarray
    errors: dict[int, ImageError]


def hash_photos(paths: Sequence[str], num_workers: int | None = None) -> PhotoHashes:
    """Read and hash photos, in ``num_workers`` threads (None: one per core)."""
    digest = np.zeros(len(paths), "V16")
    difference = np.zeros(len(paths), np.uint64)
    known, errors = np.zeros(len(paths), bool), {}
    with ThreadPoolExecutor(num_workers or os.cpu_count()) as pool, tqdm(total=len(paths), unit="photo") as progress:
        for start in range(0, len(paths), _BATCH):
            for row, found in enumerate(pool.map(_hash_photo, paths[start : start + _BATCH]), start):
                if isinstance(found, ImageError):
                    errors[row] = found
                    found = row.to_bytes(16, "big"), None
                digest[row] = np.void(found[0])
                if found[1] is not None:
                    difference[row], known[row] = found[1], True
                progress.update()
    return PhotoHashes(digest, difference, known, errors)


def _hash_photo(path: str) -> tuple[bytes, np.uint64 | None] | ImageError:
    try:
        image = ImageFile(path)
        return image.digest, difference_hash(image.pixels(min_size=_MIN_SIZE))
    except ImageError as error:
        return error


def difference_hash(pixels: np.ndarray) -> np.uint64 | None:
    """Compute 64 bits: which pixels of a 9 x 8 greyscale version are darker than their right neighbor.

    Args:
        pixels: (H, W, 3) uint8 RGB.

    Returns:
        The hash; None if the version is almost of one color.
    """
    grey = cv2.resize(cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY), (9, 8), interpolation=cv2.INTER_AREA)
    if grey.std() < _MIN_DEVIATION:
        return None
    return _WEIGHTS[(grey[:, :-1] < grey[:, 1:]).ravel()].sum(dtype=np.uint64)


def find_near_pairs(hashes: np.ndarray) -> np.ndarray:
    """Return the pairs of different hashes that differ in at most ``MAX_DISTANCE`` bits.

    Only hashes that are equal in one of four bands are compared: three bits cannot change all four.

    Args:
        hashes: (N,) uint64, all different.

    Returns:
        (P, 2) indices, the smaller one first; sorted, each pair once.
    """
    pairs = [np.zeros((0, 2), np.int64)]
    for band in range(_BANDS):
        bits = (hashes >> np.uint64(16 * band)).astype(np.uint16)
        order = np.argsort(bits, kind="stable")
        left, step = np.arange(len(hashes)), 0
        while len(left):  # compare with the next one of the same band, the one after it, ...
            step += 1
            left = left[left + step < len(hashes)]
            left = left[bits[order[left]] == bits[order[left + step]]]
            one, two = order[left], order[left + step]
            near = count_bits(hashes[one] ^ hashes[two]) <= MAX_DISTANCE
            pairs.append(np.stack([np.minimum(one[near], two[near]), np.maximum(one[near], two[near])], axis=1))
    return np.unique(np.concatenate(pairs), axis=0)


def count_bits(values: np.ndarray) -> np.ndarray:
    """Count the bits that are set in each of (N,) uint64; ``np.bitwise_count`` came with NumPy 2."""
    return np.unpackbits(np.ascontiguousarray(values)[:, None].view(np.uint8), axis=1).sum(axis=1)


def group_photos(hashes: PhotoHashes) -> np.ndarray:
    """Return (N,) group numbers; equal and nearly equal photos, also through others, have the same one."""
    rows = np.arange(len(hashes.digest))
    edges = [_link_equal(hashes.digest, rows)]
    known = rows[hashes.has_difference]
    values, first = np.unique(hashes.difference[known], return_index=True)
    edges.append(_link_equal(hashes.difference[known], known))
    edges.append(known[first][find_near_pairs(values)])
    one, two = np.concatenate(edges).T
    graph = coo_array((np.ones(len(one), bool), (one, two)), shape=(len(rows), len(rows)))
    return connected_components(graph, directed=False)[1]


def _link_equal(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return (M, 2) pairs of rows: each with the first one that has the same value."""
    _, first, inverse = np.unique(values, return_index=True, return_inverse=True)
    return np.stack([rows[first[inverse]], rows], axis=1)
