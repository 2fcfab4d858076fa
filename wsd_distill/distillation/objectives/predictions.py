"""Objectives on predictions: image-level labels and the teacher's softened scores."""

from __future__ import annotations

import math
from typing import cast

import torch
from torch import Tensor, nn

from wsd_distill import losses
from wsd_distill.data.training_data import TrainingData
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput

from ..views import ShownOutput
from .objective import Objective, StudentOutput


class HardLabels(Objective):
    """Classification loss L_p on the image-level labels, Eq. 10.

    Labels of -1 are unknown: they have no value and no gradient. Two options, not in the paper, make labels unknown
    that T-WDet contradicts; both are decided for each image, before images are mixed.

    Args:
        unknown_above: a negative label is unknown if p_k, the sum of S over the regions that the view shows, is above
            this: the tag may be missing. None: off.
        visible_below: a positive label is unknown if the regions that the view shows hold less than this share of the
            class's S over the whole image: the crop has cut the object off. None: off.

    Raises:
        ValueError: a threshold is not between 0 and 1.
    """

    def __init__(self, *, unknown_above: float | None = None, visible_below: float | None = None):
        super().__init__()
        limits = (("unknown_above", unknown_above, "negatives"), ("visible_below", visible_below, "positives"))
        for name, value, kind in limits:
            if value is None:
                continue
            if not 0 <= value <= 1:
                raise ValueError(
                    f"distiller.objectives.loss_hard.{name} is {value}: set it to a number from 0 to 1, or null"
                )
            self.register_buffer(kind, torch.zeros(2, dtype=torch.int64))  # how many became unknown, of how many
        self.unknown_above, self.visible_below = unknown_above, visible_below
        self.needs_scores = unknown_above is not None or visible_below is not None

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        inputs = student.batched_inputs
        if self.needs_scores:
            inputs = [{"labels": labels} for labels in self._mask_labels(student, teacher)]
        (loss,) = student.model.losses(student.logits, inputs).values()
        return loss

    def _mask_labels(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        """Return (N, K) labels, -1 where they are unknown."""
        labels = torch.stack([x.get("unmixed_labels", x["labels"]) for x in student.batched_inputs])
        labels = labels.to(teacher.image_scores.device)
        unknown = torch.zeros_like(labels, dtype=torch.bool)
        if self.unknown_above is not None:
            unknown |= self._count("negatives", labels == 0, teacher.image_scores > self.unknown_above)
        if self.visible_below is not None:
            shares = cast(ShownOutput, teacher).shares
            unknown |= self._count("positives", labels > 0, shares < self.visible_below)
        labels = labels.masked_fill(unknown, -1)
        return labels if student.mix is None else student.mix.labels(labels)

    def _count(self, kind: str, labels: Tensor, contradicted: Tensor) -> Tensor:
        unknown = labels & contradicted
        self.get_buffer(kind).add_(torch.stack([unknown.sum(), labels.sum()]))
        return unknown

    def scalars(self) -> dict[str, float]:
        """Return the shares of this process's negative and positive labels that became unknown so far."""
        return {f"unknown/{kind}": (x[0] / x[1].clamp(min=1)).item() for kind, x in self.named_buffers()}

    def check_data(self, data: TrainingData, student: MultiLabelClassifier) -> None:
        student.check_mix(data.mix)


class Temperatures(nn.Module):
    """Softmax and sigmoid temperatures, parametrised by their logarithms to stay positive.

    Args:
        num_classes: K.
        num_proposals: maximum number of proposals of an image.
        kind: "per_class": a learned temperature for each class and proposal, as in the paper; "shared": one learned
            temperature for each of t^c, t^d and t; "fixed": constants.
        initial: initial value of all temperatures.
    """

    log_t_cls: Tensor
    log_t_det: Tensor
    log_t_student: Tensor

    def __init__(self, num_classes: int, num_proposals: int, kind: str = "per_class", initial: float = 1.0):
        super().__init__()
        if kind not in ("per_class", "shared", "fixed"):
            raise ValueError(
                'distiller.objectives.loss_class_aware.temperatures must be "per_class", "shared" or "fixed", '
                f"got {kind!r}"
            )
        self.num_classes, self.num_proposals = num_classes, num_proposals
        sizes = {"log_t_cls": num_classes, "log_t_det": num_proposals, "log_t_student": num_classes}
        for name, size in sizes.items():
            value = torch.full((size if kind == "per_class" else 1,), math.log(initial))
            if kind == "fixed":
                self.register_buffer(name, value, persistent=False)
            else:
                self.register_parameter(name, nn.Parameter(value))

    @property
    def t_cls(self) -> Tensor:
        """(K,) t^c of Eq. 7."""
        return self.log_t_cls.exp().expand(self.num_classes)

    @property
    def t_det(self) -> Tensor:
        """(R,) t^d of Eq. 7, by rank of the proposal."""
        return self.log_t_det.exp().expand(self.num_proposals)

    @property
    def t_student(self) -> Tensor:
        """(K,) t of Eq. 8."""
        return self.log_t_student.exp().expand(self.num_classes)


class ClassAware(Objective):
    """Class-aware distillation lambda * L_p', Eq. 5-8: match softened predictions with learned temperatures.

    Args:
        num_classes: K.
        num_proposals: maximum number of proposals of an image.
        weight: lambda of Eq. 11.
        temperatures, initial: ``kind`` and ``initial`` of Temperatures.
        distance: "l2" (Eq. 5) or "bce" (cross-entropy, as in the authors' released code).
    """

    def __init__(
        self,
        *,
        num_classes: int,
        num_proposals: int,
        weight: float = 1.0,
        temperatures: str = "per_class",
        initial: float = 1.0,
        distance: str = "l2",
    ):
        super().__init__()
        if distance not in ("l2", "bce"):
            raise ValueError(f'distiller.objectives.loss_class_aware.distance must be "l2" or "bce", got {distance!r}')
        self.temperatures = Temperatures(num_classes, num_proposals, temperatures, initial)
        self.weight, self.distance = weight, distance

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        t = self.temperatures
        target = torch.stack(
            [
                losses.softened_scores(c, d, t.t_cls, t.t_det[ranks]).sum(0)  # (K,): Eq. 6
                for c, d, ranks in zip(teacher.cls_logits, teacher.det_logits, student.ranks)
            ]
        )
        target = student.mix_scores(target)
        if self.distance == "bce":
            return self.weight * losses.soft_label_divergence(target, student.logits, t.t_student)
        return self.weight * losses.class_aware_loss(target, losses.softened_sigmoid(student.logits, t.t_student))

    def scalars(self) -> dict[str, float]:
        """Return the mean, smallest and largest of each kind of temperature."""
        t = self.temperatures
        named = {"t_cls": t.t_cls, "t_det": t.t_det, "t_student": t.t_student}
        statistics = [statistic for value in named.values() for statistic in (value.mean(), value.min(), value.max())]
        keys = [f"temperature/{name}{suffix}" for name in named for suffix in ("", "_min", "_max")]
        return dict(zip(keys, torch.stack(statistics).tolist()))


class SoftLabels(Objective):
    """Soft-label distillation (Hinton, Vinyals and Dean, 2015), Section 2; a baseline of the paper.

    Soft targets are Eq. 6 with fixed temperatures. The section multiplies the loss by T^2, because softening both
    models by T divides the gradient by about T^2. Here each has its own temperature, and the factor is
    ``t_teacher * t_student``. The gradient is dL/dm_k = (sigmoid(m_k / t_student) - q_k) / t_student, and for small
    logits q_k = 1/K + (mean_R c_k - mean_RK c) / (K * t_teacher) up to second order (the logits d of the proposals
    enter by products only), so that the teacher's part of the gradient scales as 1 / (t_teacher * t_student). With
    t_teacher = 1 the factor leaves sigmoid(m_k / t_student) - q_k, the size of the hard loss's gradient.

    Args:
        t_teacher: t^c and t^d of Eq. 7, for all classes and proposals.
        t_student: t of Eq. 8, for all classes.
        weight: factor of the loss.
    """

    def __init__(self, *, t_teacher: float, t_student: float, weight: float = 1.0):
        super().__init__()
        self.t_teacher, self.t_student, self.weight = t_teacher, t_student, weight

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        t = self.t_teacher
        target = torch.stack(
            [
                losses.fused_scores(c.float() / t, d.float() / t).sum(0)  # (K,): Eq. 6
                for c, d in zip(teacher.cls_logits, teacher.det_logits)
            ]
        )
        loss = losses.soft_label_loss(student.mix_scores(target), student.logits, self.t_student)
        return self.weight * self.t_teacher * self.t_student * loss
