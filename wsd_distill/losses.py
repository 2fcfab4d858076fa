"""Losses of the paper and of its baselines, as pure functions of tensors.

N images, R proposals, K classes, C channels. Equations are the paper's unless another source is given.

All losses are computed in float32 or float64, also under autocast: half precision is not enough for products of two
softmaxes and for ``1 - p``.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _to_float32(x: Tensor) -> Tensor:
    """Convert half precision to float32; keep float32 and float64."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _targets_and_mask(labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Convert labels to targets in [0, 1] and a mask that is 0 where the label is -1."""
    return labels.clamp(min=0).to(dtype), (labels >= 0).to(dtype)


def _clamp_value(x: Tensor, low: float | None = None, high: float | None = None) -> Tensor:
    """Clamp the value of ``x`` and keep its gradient: 1 everywhere, also outside the limits."""
    return x + (x.clamp(low, high) - x).detach()


def softened_scores(cls_logits: Tensor, det_logits: Tensor, t_cls: Tensor, t_det: Tensor) -> Tensor:
    """Softened scores of one image: Eq. 7 and the product in Eq. 6.

    Args:
        cls_logits: (R, K) M^c.
        det_logits: (R, K) M^d.
        t_cls: (K,) temperatures of the classes.
        t_det: (R,) temperatures of the proposals.

    Returns:
        (R, K) softmax over classes times softmax over the proposals of this image.
    """
    cls = (_to_float32(cls_logits) / t_cls).softmax(dim=1)  # (R, K): over classes
    det = (_to_float32(det_logits) / t_det[:, None]).softmax(dim=0)  # (R, K): over proposals
    return cls * det


def fused_scores(cls_logits: Tensor, det_logits: Tensor) -> Tensor:
    """Compute (R, K) scores S of one image (Section 3.1) from the (R, K) logits of both branches."""
    return _to_float32(cls_logits).softmax(dim=1) * _to_float32(det_logits).softmax(dim=0)


def image_level_bce(scores: Tensor, labels: Tensor, eps: float = 1e-4) -> Tensor:
    """Loss of T-WDet: cross-entropy of p = sum_R S, summed over classes, averaged over images.

    The paper does not give the loss of T-WDet; this is WSDDN's, with the limit of the released code: a positive has the
    value -log(max(p, eps)) and the gradient -1 / max(p, eps), a negative the same of 1 - p with the other sign. The
    gradient is that of the limit beyond it, so that a positive with p near 0 is learned.

    Args:
        scores: (N, K) image-level probabilities.
        labels: (N, K), 1 = positive, 0 = negative, -1 = ignored.
        eps: lower limit of the probability of a label.
    """
    p = _to_float32(scores)
    target, mask = _targets_and_mask(labels, p.dtype)
    of_label = torch.where(target == 1, p, 1 - p)  # (N, K): probability of each label
    return -(mask * _clamp_value(of_label, low=eps).log()).sum() / len(p)


def hard_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Classification loss, Eq. 10: cross-entropy of sigmoid(m), summed over classes, averaged over images.

    Args:
        logits: (N, K) m.
        labels: (N, K) in [0, 1], 1 = positive, 0 = negative, -1 = ignored.
    """
    logits = _to_float32(logits)
    target, mask = _targets_and_mask(labels, logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, mask, reduction="sum") / len(logits)


def softened_sigmoid(logits: Tensor, t: Tensor) -> Tensor:
    """Compute (N, K) softened predictions p'^S, Eq. 8, from (N, K) logits and (K,) temperatures."""
    return (_to_float32(logits) / t).sigmoid()


def class_aware_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Class-aware loss, Eq. 5: half the squared distance of p'^T and p'^S, both (N, K), averaged over images."""
    return (_to_float32(teacher) - _to_float32(student)).square().sum() / (2 * len(teacher))


def soft_label_loss(teacher: Tensor, logits: Tensor, t: Tensor | float) -> Tensor:
    """Cross-entropy of sigmoid(m / t) with soft targets, summed over classes, averaged over images.

    Hinton, Vinyals and Dean (2015), Section 2, with a sigmoid for each class instead of a softmax.

    Args:
        teacher: (N, K) softened predictions.
        logits: (N, K) m.
        t: (K,) temperatures, or one for all classes.
    """
    logits = _to_float32(logits) / t
    target = _clamp_value(_to_float32(teacher), 0, 1)  # a sum of products of softmaxes may exceed 1 by rounding
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)


def soft_label_divergence(teacher: Tensor, logits: Tensor, t: Tensor | float, eps: float = 1e-4) -> Tensor:
    """``soft_label_loss`` minus the entropy of its targets: 0 where both predictions are equal.

    The gradient for the student is the same. Learned temperatures of the teacher, however, could reduce the
    cross-entropy by sharpening the targets, whether right or wrong.

    Args:
        teacher, logits, t: as in ``soft_label_loss``.
        eps: targets are clamped to [eps, 1 - eps]; beyond, temperatures of the teacher keep the gradient of the limit.
    """
    q = _clamp_value(_to_float32(teacher), eps, 1 - eps)
    entropy = -(q * q.log() + (1 - q) * (1 - q).log()).sum() / len(q)
    return soft_label_loss(q, logits, t) - entropy


def hint_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """FitNets loss (Romero et al. 2015), Eq. 3: half the mean squared distance of maps (N, C, h, w)."""
    return (_to_float32(teacher) - _to_float32(student)).square().mean() / 2


def attention_map(features: Tensor) -> Tensor:
    """Sum of squares over channels, (N, C, h, w) -> (N, h, w): Zagoruyko and Komodakis (2017), Eq. 1 with p = 2."""
    return _to_float32(features).square().sum(1)


def attention_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Attention transfer (Zagoruyko and Komodakis, 2017): one term of the sum in Eq. 2, without beta / 2.

    The equation has the distance of L2-normalized maps. Here it is squared and averaged over cells and images, as in
    the authors' released code. Both attention maps are (N, h, w).
    """
    target, student_map = (F.normalize(_to_float32(x).flatten(1)) for x in (teacher, student))  # (N, h * w)
    return (target - student_map).square().mean()


def roi_feature_loss(teacher: Tensor, student: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
    """RoI-aware transfer loss, Eq. 3 with the weights of Eq. 4.

    Args:
        teacher: (sum R', C, h, w) RoI-pooled features, grouped by image.
        student: (sum R', C, h, w), as ``teacher``.
        weights: (sum R',) s'; both features are multiplied by it, so that it enters squared.
        counts: |R'_n|, number of proposals of each of the N images.
    """
    weights = _to_float32(weights)
    inverse_counts = torch.cat([weights.new_full((n,), 1 / n) for n in counts])  # (sum R',): 1 / |R'_n|
    distance = (_to_float32(teacher) - _to_float32(student)).square().flatten(1).sum(1)  # (sum R',)
    return (inverse_counts * weights.square() * distance).sum() / (2 * len(counts))
