"""What the student minimises, one module for each of the paper's terms, to be combined in a Distiller.

Each is called with the student's and the teacher's view of the same N images and returns one scalar. Its
``teacher_features`` are the teacher's maps that it compares with.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn
from torchvision.ops import nms

from wsd_distill import losses
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput


@dataclass
class StudentView:
    """S-Cls on a batch; its logits are computed only where an objective asks for them.

    Attributes:
        model: S-Cls. batched_inputs: what it was given. features: name -> (N, C, h, w).
    """

    model: MultiLabelClassifier
    batched_inputs: list[dict]
    features: dict[str, Tensor]

    @cached_property
    def logits(self) -> Tensor:
        """(N, K) m of Eq. 8."""
        return self.model.logits(self.features)


class Objectives(nn.ModuleDict):
    """Objectives by the name of their loss (``loss_*``), in the form that a LazyConfig can write."""

    def __init__(self, **objectives: nn.Module):
        super().__init__(objectives)


class HardLabels(nn.Module):
    """L_p, Eq. 10: the student's own loss on the image-level labels."""

    teacher_features: list[str] = []

    def forward(self, student: StudentView, teacher: WSDDNOutput) -> Tensor:
        (loss,) = student.model.losses(student.logits, student.batched_inputs).values()
        return loss


class Temperatures(nn.Module):
    """Learnable softmax and sigmoid temperatures, kept positive as exponentials; all are 1 at first.

    Args:
        num_classes: K. num_proposals: the most proposals that an image can have.
    """

    def __init__(self, num_classes: int, num_proposals: int):
        super().__init__()
        self.log_t_cls = nn.Parameter(torch.zeros(num_classes))
        self.log_t_det = nn.Parameter(torch.zeros(num_proposals))
        self.log_t_student = nn.Parameter(torch.zeros(num_classes))

    @property
    def t_cls(self) -> Tensor:
        """(K,) t^c of Eq. 7."""
        return self.log_t_cls.exp()

    @property
    def t_det(self) -> Tensor:
        """(R,) t^d of Eq. 7, by rank of the proposal."""
        return self.log_t_det.exp()

    @property
    def t_student(self) -> Tensor:
        """(K,) t of Eq. 8."""
        return self.log_t_student.exp()


class ClassAware(nn.Module):
    """lambda * L_p', Eq. 5-8: softened predictions of both networks, a temperature for each class and proposal.

    Args:
        num_classes: K. num_proposals: the most proposals that an image can have.
        weight: lambda of Eq. 11.
    """

    teacher_features: list[str] = []

    def __init__(self, *, num_classes: int, num_proposals: int, weight: float = 1.0):
        super().__init__()
        self.temperatures = Temperatures(num_classes, num_proposals)
        self.weight = weight

    def forward(self, student: StudentView, teacher: WSDDNOutput) -> Tensor:
        t = self.temperatures
        softened_teacher = torch.stack(
            [
                losses.softened_scores(c, d, t.t_cls, t.t_det[: len(d)]).sum(0)  # (K,): Eq. 6
                for c, d in zip(teacher.cls_logits, teacher.det_logits)
            ]
        )
        softened_student = losses.softened_sigmoid(student.logits, t.t_student)
        return self.weight * losses.class_aware_loss(softened_teacher, softened_student)

    def scalars(self) -> dict[str, float]:
        """Means of the temperatures, for the log."""
        t = self.temperatures
        named = {"t_cls": t.t_cls, "t_det": t.t_det, "t_student": t.t_student}
        return {f"temperature/{name}": value.mean().item() for name, value in named.items()}


@dataclass
class LayerPair:
    """A feature map of the teacher that one of the student is to match.

    Attributes:
        teacher, student: names of the feature maps. teacher_shape, student_shape: their channels and strides.
    """

    teacher: str
    student: str
    teacher_shape: ShapeSpec
    student_shape: ShapeSpec


class RoIAware(nn.Module):
    """L_f, Eq. 3-4: RoI-pooled features of the proposals that T-WDet finds worth looking at, weighted by s'.

    Args:
        layers: what is to match; the losses of several pairs are added. Where the channels of a pair differ, Psi is a
            learned 1x1 convolution, otherwise the identity.
        pooler_size: side of the pooled features in cells.
        nms_thresh: proposals that overlap a more confident one by more than this IoU are left out.
        num_proposals: |R'_n|: the most confident that remain, recycled from the best where there are fewer.
        weight: factor of the loss.
    """

    def __init__(
        self,
        *,
        layers: list[LayerPair],
        pooler_size: int = 7,
        nms_thresh: float = 0.4,
        num_proposals: int = 100,
        weight: float = 1.0,
    ):
        super().__init__()
        self.layers = list(layers)
        self.nms_thresh, self.num_proposals, self.weight = nms_thresh, num_proposals, weight
        self.adapters, self.teacher_poolers, self.student_poolers = (nn.ModuleList() for _ in range(3))
        for pair in self.layers:
            mine, wanted = pair.student_shape.channels, pair.teacher_shape.channels
            self.adapters.append(nn.Identity() if mine == wanted else Conv2d(mine, wanted, 1))
            self.teacher_poolers.append(ROIPooler(pooler_size, [1 / pair.teacher_shape.stride], 0, "ROIPool"))
            self.student_poolers.append(ROIPooler(pooler_size, [1 / pair.student_shape.stride], 0, "ROIPool"))

    @property
    def teacher_features(self) -> list[str]:
        return [pair.teacher for pair in self.layers]

    def forward(self, student: StudentView, teacher: WSDDNOutput) -> Tensor:
        kept = [self._keep(boxes.tensor, s) for boxes, s in zip(teacher.boxes, teacher.objectness)]
        weights = torch.cat([s[i] for s, i in zip(teacher.objectness, kept)])  # (sum R',): s'
        teacher_boxes = [boxes[i] for boxes, i in zip(teacher.boxes, kept)]
        student_boxes = [
            Boxes(x["proposals"].proposal_boxes.tensor[i.cpu()].to(i.device))
            for x, i in zip(student.batched_inputs, kept)
        ]
        total = 0
        for pair, adapter, teacher_pooler, student_pooler in zip(
            self.layers, self.adapters, self.teacher_poolers, self.student_poolers
        ):
            target = teacher_pooler([teacher.features[pair.teacher]], teacher_boxes)
            mimic = student_pooler([adapter(student.features[pair.student])], student_boxes)
            total = total + losses.roi_feature_loss(target, mimic, weights, [len(i) for i in kept])
        return self.weight * total

    def _keep(self, boxes: Tensor, objectness: Tensor) -> Tensor:
        """R'_n: indices of ``num_proposals`` proposals, by falling objectness, recycled from the best."""
        kept = nms(boxes, objectness, self.nms_thresh)[: self.num_proposals]
        return kept[torch.arange(self.num_proposals, device=kept.device) % len(kept)]
