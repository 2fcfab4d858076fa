"""The paper's formulas, and those of what it compares with, as pure functions of tensors.

N images, R proposals, K classes, C channels. A source is named where it is not the paper.

Everything here is computed in float32 at least, whatever autocast says: products of two softmaxes and ``1 - p`` have no
digits to spare in half precision.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor


def _to_float32(x: Tensor) -> Tensor:
    """Half precision to float32; float32 and float64 as they are."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x


def _targets_and_mask(labels: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Labels in {-1, 0, 1} -> targets in {0, 1} and their weights, 0 where the label is -1."""
    return labels.clamp(min=0).to(dtype), (labels >= 0).to(dtype)


def softened_scores(cls_logits: Tensor, det_logits: Tensor, t_cls: Tensor, t_det: Tensor) -> Tensor:
    """Eq. 7 and the product inside Eq. 6, for one image.

    Args:
        cls_logits: (R, K) M^c. det_logits: (R, K) M^d.
        t_cls: (K,) temperatures of the classes. t_det: (R,) temperatures of the proposals.

    Returns:
        (R, K): softmax over classes times softmax over this image's proposals.
    """
    cls = (_to_float32(cls_logits) / t_cls).softmax(dim=1)  # (R, K): over classes
    det = (_to_float32(det_logits) / t_det[:, None]).softmax(dim=0)  # (R, K): over proposals
    return cls * det


def fused_scores(cls_logits: Tensor, det_logits: Tensor) -> Tensor:
    """S of Section 3.1 for one image: (R, K) logits of both branches -> (R, K) scores."""
    return _to_float32(cls_logits).softmax(dim=1) * _to_float32(det_logits).softmax(dim=0)


def image_level_bce(scores: Tensor, labels: Tensor, eps: float = 1e-4) -> Tensor:
    """T-WDet's loss: cross-entropy of p = sum_R S, summed over classes, divided by images.

    The paper names no loss for T-WDet; this is WSDDN's, with the released code's clamp.

    Args:
        scores: (N, K) image-level probabilities.
        labels: (N, K) in {0, 1}; -1 counts neither way.
        eps: probabilities are clamped to [eps, 1 - eps].
    """
    with torch.autocast(scores.device.type, enabled=False):
        p = _to_float32(scores).clamp(eps, 1 - eps)
        target, known = _targets_and_mask(labels, p.dtype)
        return F.binary_cross_entropy(p, target, known, reduction="sum") / len(p)


def hard_label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Eq. 10: cross-entropy of p = sigmoid(m), summed over classes, divided by images.

    Args:
        logits: (N, K) m. labels: (N, K) in {0, 1}; -1 counts neither way.
    """
    logits = _to_float32(logits)
    target, known = _targets_and_mask(labels, logits.dtype)
    return F.binary_cross_entropy_with_logits(logits, target, known, reduction="sum") / len(logits)


def softened_sigmoid(logits: Tensor, t: Tensor) -> Tensor:
    """Eq. 8: p'^S, (N, K) logits softened by (K,) temperatures."""
    return (_to_float32(logits) / t).sigmoid()


def class_aware_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Eq. 5: half the squared distance of softened predictions p'^T and p'^S, both (N, K), divided by images."""
    return (_to_float32(teacher) - _to_float32(student)).square().sum() / (2 * len(teacher))


def soft_label_loss(teacher: Tensor, logits: Tensor, t: Tensor | float) -> Tensor:
    """Cross-entropy of sigmoid(m / t) against soft targets, summed over classes, divided by images.

    SoftLabels, Vinyals and Dean (2015), Section 2, with a sigmoid for each class instead of their softmax.

    Args:
        teacher: (N, K) softened predictions. logits: (N, K) m. t: (K,) temperatures, or one for all classes.
    """
    logits = _to_float32(logits) / t
    target = _to_float32(teacher).clamp(0, 1)  # a sum of products of softmaxes may exceed 1 by rounding
    return F.binary_cross_entropy_with_logits(logits, target, reduction="sum") / len(logits)


def soft_label_divergence(teacher: Tensor, logits: Tensor, t: Tensor | float, eps: float = 1e-4) -> Tensor:
    """``soft_label_loss`` less the entropy of its targets: 0 where both predictions agree.

    To the student it is the same. Learned temperatures of the teacher, however, would lower the cross-entropy alone by
    making targets certain, right or wrong.

    Args:
        eps: targets are clamped to [eps, 1 - eps]. Others as ``soft_label_loss``.
    """
    q = _to_float32(teacher).clamp(eps, 1 - eps)
    entropy = -(q * q.log() + (1 - q) * (1 - q).log()).sum() / len(q)
    return soft_label_loss(q, logits, t) - entropy


def hint_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """FitNets (Romero et al. 2015), Eq. 3: half the squared distance, as a mean over images, channels and cells.

    Args:
        teacher, student: (N, C, h, w) the hint and the regressor's output.
    """
    return (_to_float32(teacher) - _to_float32(student)).square().mean() / 2


def attention_map(features: Tensor) -> Tensor:
    """Zagoruyko and Komodakis (2017), Eq. 1 with p = 2: (N, C, h, w) -> (N, h, w), squares summed over channels."""
    return _to_float32(features).square().sum(1)


def attention_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Zagoruyko and Komodakis (2017), a term of the sum in Eq. 2 without beta / 2.

    The equation has the distance of maps of length 1; here, as in the code that its authors published, it is squared
    and averaged over cells and images.

    Args:
        teacher, student: (N, h, w) maps of attention.
    """
    target, mimic = (F.normalize(_to_float32(x).flatten(1)) for x in (teacher, student))
    return (target - mimic).square().mean()


def roi_feature_loss(teacher: Tensor, student: Tensor, weights: Tensor, counts: list[int]) -> Tensor:
    """Eq. 3 with the weighting of Eq. 4.

    Args:
        teacher, student: (sum R', C, h, w) RoI-pooled features, the images' proposals one after another.
        weights: (sum R',) s'. Both features are multiplied by it, so that it enters squared.
        counts: R'_n, the number of kept proposals of each of the N images.
    """
    weights = _to_float32(weights)
    share = torch.cat([weights.new_full((n,), 1 / n) for n in counts])  # (sum R',): 1 / |R'_n|
    distance = (_to_float32(teacher) - _to_float32(student)).square().flatten(1).sum(1)  # (sum R',)
    return (share * weights.square() * distance).sum() / (2 * len(counts))
