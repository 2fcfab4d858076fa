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


def standardized_distance(teacher: Tensor, student: Tensor, deviation: Tensor) -> Tensor:
    """Mean over all entries of the squared distance of features (M, C, h, w), channels divided by (C,) deviations."""
    difference = (_to_float32(teacher) - _to_float32(student)) / deviation[:, None, None]
    return difference.square().mean()


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


def roi_feature_loss(
    teacher: Tensor, student: Tensor, weights: Tensor, counts: list[int], mask: Tensor | None = None
) -> Tensor:
    """RoI-aware transfer loss, Eq. 3 with the weights of Eq. 4.

    Args:
        teacher: (sum R', C, h, w) RoI-pooled features, grouped by image.
        student: (sum R', C, h, w), as ``teacher``.
        weights: (sum R',) s'; both features are multiplied by it, so that it enters squared.
        counts: |R'_n|, number of proposals of each of the N images; may be 0.
        mask: (sum R', 1, h, w), 0 for bins that are left out of the distance, otherwise 1; None: all bins count.
    """
    weights = _to_float32(weights)
    inverse_counts = torch.cat([weights.new_full((n,), 1 / max(n, 1)) for n in counts])  # (sum R',): 1 / |R'_n|
    squares = (_to_float32(teacher) - _to_float32(student)).square()
    distance = (squares if mask is None else squares * mask).flatten(1).sum(1)  # (sum R',)
    return (inverse_counts * weights.square() * distance).sum() / (2 * len(counts))


def one_versus_all_loss(teacher: Tensor, logits: Tensor, labels: Tensor, eps: float = 1e-4) -> Tensor:
    """Multi-label logits distillation (MLD) of L2D (Yang et al., ICCV 2023).

    Each class is a problem of two classes, [p, 1 - p]. The loss is their divergence KL(teacher || student), summed over
    classes, averaged over images.

    Args:
        teacher: (N, K) probabilities, clamped to [eps, 1 - eps]. The authors' code has 1e-8.
        logits: (N, K) m of the student, whose probability is sigmoid(m).
        labels: (N, K); classes with -1 (unknown) are left out.
    """
    q, logits = _to_float32(teacher).clamp(eps, 1 - eps), _to_float32(logits)
    _, mask = _targets_and_mask(labels, logits.dtype)
    entropy = -(q * q.log() + (1 - q) * (1 - q).log())  # (N, K)
    cross_entropy = F.binary_cross_entropy_with_logits(logits, q, reduction="none")  # (N, K)
    return (mask * (cross_entropy - entropy)).sum() / len(logits)


def embedding_structure_loss(teacher: Tensor, student: Tensor, members: Tensor, eps: float = 1e-6) -> Tensor:
    """Label-wise embedding distillation of L2D (Yang et al., ICCV 2023): match distances within groups of embeddings.

    A group of M' members has the Euclidean distances between all ordered pairs of members, divided by their mean. Its
    loss is the sum of Huber's function of the difference between the teacher's and the student's distances, divided by
    M'. Groups are summed, and those with fewer than two members left out. All of this is as in the authors' code.

    Class-aware (CD): a group is a class with the images that have it, M = N. Instance-aware (ID): a group is an image
    with its positive classes, M = K.

    Args:
        teacher: (G, M, D) embeddings.
        student: (G, M, D'), as ``teacher``; D' may differ, as only distances are compared.
        members: (G, M), True where the embedding belongs to the group.
        eps: lower limit of the mean distance, for groups of equal embeddings.
    """
    pairs = members[:, :, None] & members[:, None, :]  # (G, M, M)
    pairs = pairs & ~torch.eye(members.shape[1], dtype=torch.bool, device=members.device)
    count = pairs.sum((1, 2), keepdim=True).clamp(min=1)  # (G, 1, 1)
    target, distance = (_pairwise_distances(x) * pairs for x in (teacher, student))  # (G, M, M)
    target, distance = (d / (d.sum((1, 2), keepdim=True) / count).clamp(min=eps) for d in (target, distance))
    huber = F.smooth_l1_loss(distance, target, reduction="none").sum((1, 2))  # (G,)
    return (huber / members.sum(1).clamp(min=1)).sum()


def _pairwise_distances(x: Tensor) -> Tensor:
    """Compute Euclidean distances, (G, M, D) -> (G, M, M); the gradient is 0 where a distance is 0."""
    x = _to_float32(x)
    return torch.cdist(x, x, compute_mode="donot_use_mm_for_euclid_dist")


def pooled_feature_loss(teacher: Tensor, student: Tensor) -> Tensor:
    """Mean squared distance of (N, C) pooled features, as in timm's ``FeatureDistillationTask``."""
    return F.mse_loss(_to_float32(student), _to_float32(teacher))


def refinement_loss(logits: Tensor, targets: Tensor, weights: Tensor) -> Tensor:
    """Loss of a refinement branch for one image: OICR (Tang et al., CVPR 2017), Eq. 4, a weighted mean over regions.

    Args:
        logits: (R, K + 1) of the classes and background.
        targets: (R,) class indices.
        weights: (R,) weight of each region; the sum is divided by R, not by the sum of weights.
    """
    return (weights * F.cross_entropy(_to_float32(logits), targets, reduction="none")).mean()
