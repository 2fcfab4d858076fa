"""Check the boxes and scores of a whole proposal file before it is converted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable
from operator import itemgetter

import numpy as np

from ..data.proposal_store import check_finite
from .formats.box_formats import PIXEL_FORMATS, RELATIVE_FORMATS
from .formats.proposal_file import RANK_SCORES, ProposalFile

logger = logging.getLogger(__name__)

MAX_INVALID = 0.05  # share of boxes that may be cut or dropped
_TOLERANCE = 1.0  # pixels; boxes that cross the edge by less are not counted, because they are rounded
_ROUNDING = 1e-5  # by which a score may leave 0..1

Images = Iterable[tuple[str, int, int]]  # name in the file, height and width


class Survey:
    """Totals over the images of a proposal file.

    Args:
        source: the file.
        images: its images that are converted.

    Raises:
        ValueError: wrong shapes, or boxes or scores that are not finite; names the image.
    """

    def __init__(self, source: ProposalFile, images: Images) -> None:
        self.source, self.images = source, images
        self.counts = np.zeros(4, np.int64)  # see _count
        self.reversed_image = ""  # the first with a box that ends before it starts
        self.lowest, self.highest = (np.inf, ""), (-np.inf, "")  # score and image
        self.several = self.constant = 0  # images with two or more boxes, and those of them with equal scores
        self.example = ""  # one of the latter
        self.zero, self.zero_image = 0, ""  # images whose scores are all 0, and the first of them
        box_range = [np.inf, -np.inf]
        for name, height, width in images:
            boxes, scores = source[name]
            check_finite(f"{source.path}: image '{name}'", boxes, scores)
            if not len(boxes):
                continue
            counts = _count(source.to_xyxy(boxes, height, width), height, width)
            self.counts += counts
            self.reversed_image = self.reversed_image or (name if counts[3] else "")
            box_range = [min(box_range[0], boxes.min()), max(box_range[1], boxes.max())]
            if scores is not None:
                self._add_scores(name, scores)
        self.within_unit = bool(box_range[0] >= 0 and box_range[1] <= 1)

    def _add_scores(self, name: str, scores: np.ndarray) -> None:
        self.lowest = min(self.lowest, (float(scores.min()), name), key=itemgetter(0))
        self.highest = max(self.highest, (float(scores.max()), name), key=itemgetter(0))
        if not scores.any():
            self.zero += 1
            self.zero_image = self.zero_image or name
        self.several += len(scores) > 1
        if len(scores) > 1 and scores.min() == scores.max():
            self.constant += 1
            self.example = self.example or name

    def check_boxes(self) -> None:
        """Raise ValueError if the boxes seem to have another format; names the option for the one that fits."""
        boxes, cut, dropped, reversed_ = self.counts.tolist()
        declared, path = self.source.box_format, self.source.path
        relative = declared in RELATIVE_FORMATS
        if not boxes or not (reversed_ or cut + dropped > MAX_INVALID * boxes or (self.within_unit and not relative)):
            return
        if self.within_unit and not relative:
            text = f"all coordinates are within 0..1, as fractions of the image, and not pixels as in {declared}"
        else:
            counts = f"{cut / boxes:.1%} of {boxes} boxes are cut at the edge of their image, {dropped / boxes:.1%}"
            text = f"read as {declared}, {counts} have no area inside it"
        if reversed_:
            text += f", {reversed_} end before they start (the first in image '{self.reversed_image}')"
        raise ValueError(f"{path}: {text}: {self._suggest_format()}, or --accept-boxes if the file is right")

    def _suggest_format(self) -> str:
        columns = self.source.box_format.partition("-")[0]
        candidates = RELATIVE_FORMATS if self.within_unit else PIXEL_FORMATS
        shares = {name: self._invalid_share(name) for name in candidates if name != self.source.box_format}
        best = min(shares, key=lambda name: (shares[name], not name.startswith(columns)))
        if shares[best] > min(MAX_INVALID, self._invalid_share(self.source.box_format) / 2) and not self.within_unit:
            return "no other --box-format fits; use the proposals of these images, at their present size"
        similar = [name for name, share in shares.items() if share <= shares[best] + 0.01 and name != best]
        text = f"use --box-format {best} ({shares[best]:.1%} cut or without area)"
        return text + (f"; {' and '.join(similar)} would fit too" if similar else "")

    def _invalid_share(self, box_format: str) -> float:
        total = np.zeros(4, np.int64)
        for name, height, width in self.images:
            total += _count(self.source.to_xyxy(self.source[name][0], height, width, box_format), height, width)
        return float(total[1:3].sum() / max(total[0], 1))

    def choose_scores(self, transform: Callable[[np.ndarray], np.ndarray]) -> tuple[str, bool]:
        """Decide whether the scores can be used, after ``transform``, a rising function.

        Scores that are all 0, or all equal in a file with several boxes per image, rank nothing; nor do those that are
        equal within each image, or all but 5 % of the images. Single images whose scores are all 0 get ranks
        (:meth:`~wsd_distill.proposals.convert.Converter.rows`); they are counted.

        Returns:
            Origin of the scores, for the metadata of a store, and whether ranks are used instead of them.

        Raises:
            ValueError: a score is outside 0..1; names its image and the remedy.
        """
        (low, low_image), (high, high_image) = self.lowest, self.highest
        path = self.source.path
        if low > high:  # no scores at all
            return self.source.scores, True
        if low == high and (low == 0 or self.several):
            text = f"{RANK_SCORES}, since all scores of the file are {low:g}"
            logger.warning("%s: all scores are %g; they become %s, in the order of the file", path, low, RANK_SCORES)
            return text, True
        if self.several and self.constant >= (1 - MAX_INVALID) * self.several:
            which = f"{self.constant} of {self.several} images have the same score for all of their boxes"
            text = "%s: %s (the first is '%s'); all scores become %s, in the order of the file"
            logger.warning(text, path, which, self.example, RANK_SCORES)
            return f"{RANK_SCORES}, since {which}", True
        if self.constant:
            text = "%s: %d of %d images have the same score for all of their boxes (the first is '%s')"
            logger.warning(text, path, self.constant, self.several, self.example)
        first, last = transform(np.array([low, high]))
        if first < -_ROUNDING or last > 1 + _ROUNDING:
            score, image = (low, low_image) if first < -_ROUNDING else (high, high_image)
            raise ValueError(
                f"{path}: image '{image}' has the score {score:.6g}, and the scores of the file, from {low:.6g} to "
                f"{high:.6g}, are not in 0..1, by which T-WDet multiplies: {_score_remedy(low, high)}"
            )
        if self.zero and not transform(np.zeros(1)).any():
            text = "%s: all scores of %d images are 0 (the first is '%s'); they become %s, in the order of the file"
            logger.warning(text, path, self.zero, self.zero_image, RANK_SCORES)
            return f"{self.source.scores}; {RANK_SCORES} in {self.zero} images, whose scores are all 0", False
        return self.source.scores, False


def _score_remedy(low: float, high: float) -> str:
    if low < 0:
        return "use --sigmoid for logits, as of an RPN"
    if high <= 100:
        return "use --score-scale 0.01 for percents, or --sigmoid for logits"
    return f"use --score-scale with a factor of at most {1 / high:.3g}, or --sigmoid for logits"


def _count(boxes: np.ndarray, height: int, width: int) -> np.ndarray:
    """Count boxes (R, 4) XYXY_ABS: all, cut at the edge, without area inside the image, and reversed ones of these."""
    size = np.array([width, height, width, height])
    inside = boxes.clip(0, size)
    empty = ~(inside[:, 2:] > inside[:, :2]).all(axis=1)
    cut = ~empty & (np.abs(inside - boxes) > _TOLERANCE).any(axis=1)
    return np.array([len(boxes), cut.sum(), empty.sum(), (boxes[:, 2:] < boxes[:, :2]).any(axis=1).sum()])
