"""Objectives on feature maps: the paper's RoI-aware transfer and those of whole maps that it compares with."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import nms

from wsd_distill import losses
from wsd_distill.modeling import WSDDNOutput

from .objective import Objective, StudentOutput


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


class RoIAwareTransfer(Objective):
    """L_f, Eq. 3-4: RoI-pooled features of the proposals that T-WDet finds worth looking at, weighted by s'.

    Args:
        layers: what is to match; the losses of several pairs are added. Where the channels of a pair differ, Psi is a
            learned 1x1 convolution, otherwise the identity.
        pooler_size: side of the pooled features in cells.
        nms_thresh: proposals that overlap a more confident one by more than this IoU are left out.
        num_proposals: |R'_n|: the most confident that remain, recycled from the best where there are fewer.
        weight: factor of the loss.
        weighted: False takes 1 instead of s', a row of Table 4. s' is small and enters squared: without it the
            loss is many times as large, and ``weight`` or the learning rate has to make up for it.
    """

    def __init__(
        self,
        *,
        layers: list[LayerPair],
        pooler_size: int = 7,
        nms_thresh: float = 0.4,
        num_proposals: int = 100,
        weight: float = 1.0,
        weighted: bool = True,
    ):
        super().__init__()
        self.layers = list(layers)
        self.nms_thresh, self.num_proposals = nms_thresh, num_proposals
        self.weight, self.weighted = weight, weighted
        self.adapters, self.teacher_poolers, self.student_poolers = (nn.ModuleList() for _ in range(3))
        for pair in self.layers:
            mine, wanted = pair.student_shape.channels, pair.teacher_shape.channels
            self.adapters.append(nn.Identity() if mine == wanted else Conv2d(mine, wanted, 1))
            self.teacher_poolers.append(ROIPooler(pooler_size, [1 / pair.teacher_shape.stride], 0, "ROIPool"))
            self.student_poolers.append(ROIPooler(pooler_size, [1 / pair.student_shape.stride], 0, "ROIPool"))

    @property
    def teacher_features(self) -> list[str]:
        return list(dict.fromkeys(pair.teacher for pair in self.layers))

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        kept = [self._keep(boxes.tensor, s) for boxes, s in zip(teacher.boxes, teacher.objectness)]
        weights = torch.cat([s[i] for s, i in zip(teacher.objectness, kept)])  # (sum R',): s'
        if not self.weighted:
            weights = torch.ones_like(weights)
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


class FitNetsHint(Objective):
    """FitNets' hint, Romero et al. (2015), Eq. 3: a whole feature map, after a regressor on the student's.

    The regressor is a learned 1x1 convolution, whatever the channels. FitNets' ends with the teacher's nonlinearity;
    this one is linear, for channels that a ReLU finds negative everywhere at first would never learn. FitNets' also
    brings both maps to one size by its kernel, which a student with the smaller map cannot: here the teacher's is
    averaged over the cells of the student's. The squared distance is a mean over the map, not a sum: with 256 channels
    of 56 x 56 cells a sum would ask for a learning rate that is smaller by as much.

    Args:
        layer: the hint of the teacher and the guided layer of the student.
        weight: factor of the loss.
    """

    def __init__(self, *, layer: LayerPair, weight: float = 1.0):
        super().__init__()
        self.layer, self.weight = layer, weight
        self.regressor = Conv2d(layer.student_shape.channels, layer.teacher_shape.channels, 1)

    @property
    def teacher_features(self) -> list[str]:
        return [self.layer.teacher]

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        mimic = self.regressor(student.features[self.layer.student])
        hint = adaptive_avg_pool2d(teacher.features[self.layer.teacher], mimic.shape[-2:])
        return self.weight * losses.hint_loss(hint, mimic)


class AttentionTransfer(Objective):
    """Zagoruyko and Komodakis (2017), Eq. 1-2: where the activations of whole feature maps are large.

    A map of attention has no channels, so that nothing is learned to compare two. The teacher's is averaged over the
    cells of the student's where their sizes differ.

    Args:
        layers: what is to match; the losses of several pairs are added.
        beta: of Eq. 2. 1000 is the authors' for a mean over cells, as ``losses.attention_loss`` takes it.
    """

    def __init__(self, *, layers: list[LayerPair], beta: float = 1000.0):
        super().__init__()
        self.layers, self.beta = list(layers), beta

    @property
    def teacher_features(self) -> list[str]:
        return list(dict.fromkeys(pair.teacher for pair in self.layers))

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        total = 0
        for pair in self.layers:
            mimic = losses.attention_map(student.features[pair.student])
            target = adaptive_avg_pool2d(losses.attention_map(teacher.features[pair.teacher]), mimic.shape[-2:])
            total = total + losses.attention_loss(target, mimic)
        return self.beta / 2 * total
