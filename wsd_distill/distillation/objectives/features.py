"""Objectives on feature maps: RoI-aware transfer, and baselines on whole maps."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import cast

import torch
from detectron2.layers import Conv2d, ShapeSpec
from detectron2.modeling.poolers import ROIPooler
from detectron2.structures import Boxes
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import nms

from wsd_distill import losses
from wsd_distill.data.training_data import TrainingData
from wsd_distill.modeling import MultiLabelClassifier, WSDDNOutput

from ..views import check_one_size, refuse_several_sizes
from .objective import Objective, StudentOutput


@dataclass
class LayerPair:
    """Names of a teacher feature map and of the student feature map trained to match it."""

    teacher: str
    student: str


class LayerObjective(Objective):
    """Objective on pairs of feature maps; raises ValueError if a backbone has no map of the given name.

    Attributes:
        whole_maps: compares maps of whole views, for which all images need one size.
        pools_proposals: compares proposals, which a mosaic does not move: it is refused.
    """

    whole_maps = pools_proposals = False

    def __init__(self, layers: list[LayerPair]):
        super().__init__()
        self.layers = list(layers)

    @property
    def teacher_features(self) -> list[str]:
        return list(dict.fromkeys(pair.teacher for pair in self.layers))

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        for model, shapes in (("student", student_shapes), ("teacher", teacher_shapes)):
            for name in (getattr(pair, model) for pair in self.layers):
                if name not in shapes:
                    raise ValueError(f"the {model}'s backbone has no feature map {name!r}; it has {list(shapes)}")

    def check_data(self, data: TrainingData, student: MultiLabelClassifier) -> None:
        if self.whole_maps and len(data.sizes) > 1:
            refuse_several_sizes()
        self._check_kinds(data.mix)

    def check_batch(self, student: StudentOutput) -> None:
        """Raise ValueError for a batch that ``check_data`` refuses: a loader of the user's own may give one."""
        if self.whole_maps:
            check_one_size(student.batched_inputs, "sizes")
        self._check_kinds({x["mix"].kind for x in student.batched_inputs if x.get("mix") is not None})

    def _check_kinds(self, kinds: Collection[str]) -> None:
        if self.pools_proposals and "mosaic" in kinds:
            raise ValueError(
                "features of proposals cannot be compared in a mosaic, which does not move the boxes: set "
                "dataloader.train.mix.mosaic=False"
            )


class OneLayerObjective(LayerObjective):
    """Objective on one pair of feature maps, with a factor."""

    def __init__(self, *, layer: LayerPair, weight: float = 1.0):
        super().__init__([layer])
        self.layer, self.weight = layer, weight


class RoIAwareTransfer(LayerObjective):
    """RoI-aware transfer L_f, Eq. 3-4: match RoI-pooled features, weighted by the teacher's objectness s'.

    Uses the proposals with the highest objectness after NMS. If the channels of a pair differ, Psi is a learned 1x1
    convolution on the student's map, otherwise the identity. Of images mixed by mixup or CutMix the mixed maps are
    compared, with the proposals and s' of the first image.

    Args:
        layers: pairs of feature maps to match; their losses are summed.
        pooler_size: height and width of the pooled features.
        nms_thresh: IoU threshold of the NMS.
        num_proposals: |R'_n|, maximum number of proposals per image.
        weight: factor of the loss.
        weighting: factor of both features of a proposal, which enters the loss squared. "objectness": s' (Eq. 4);
            "normalized": s' divided by the largest of the image; "none": 1 (a row of Table 4). s' is small, so that
            the loss is much larger with the others: lower ``weight`` or the learning rate with them.
        pooler_type: "ROIPool" (the paper's) or "ROIAlignV2", as in Detectron2's ROIPooler, for both networks. A bin
            that has no cell of one of the two maps is left out of the distance: RoIPool rounds boxes to cells, so that
            a box at the right or lower edge of a small map may have none.

    Raises:
        ValueError: ``weighting`` or ``pooler_type`` has another value.
    """

    pools_proposals = True

    def __init__(
        self,
        *,
        layers: list[LayerPair],
        pooler_size: int = 7,
        nms_thresh: float = 0.4,
        num_proposals: int = 100,
        weight: float = 1.0,
        weighting: str = "objectness",
        pooler_type: str = "ROIPool",
    ):
        super().__init__(layers)
        if weighting not in ("objectness", "normalized", "none"):
            raise ValueError(
                'distiller.objectives.loss_roi.weighting must be "objectness", "normalized" or "none", '
                f"got {weighting!r}"
            )
        if pooler_type not in ("ROIPool", "ROIAlignV2"):
            raise ValueError(
                f'distiller.objectives.loss_roi.pooler_type must be "ROIPool" or "ROIAlignV2", got {pooler_type!r}'
            )
        self.pooler_size, self.nms_thresh, self.num_proposals = pooler_size, nms_thresh, num_proposals
        self.weight, self.weighting, self.pooler_type = weight, weighting, pooler_type

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        super().build(student_shapes, teacher_shapes)
        self.adapters, self.teacher_poolers, self.student_poolers = (nn.ModuleList() for _ in range(3))
        for pair in self.layers:
            student, teacher = student_shapes[pair.student], teacher_shapes[pair.teacher]
            same = student.channels == teacher.channels
            self.adapters.append(nn.Identity() if same else Conv2d(student.channels, teacher.channels, 1))
            self.teacher_poolers.append(ROIPooler(self.pooler_size, [1 / teacher.stride], 0, self.pooler_type))
            self.student_poolers.append(ROIPooler(self.pooler_size, [1 / student.stride], 0, self.pooler_type))

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        self.check_batch(student)
        kept = [self._select_proposals(boxes.tensor, s) for boxes, s in zip(teacher.boxes, teacher.objectness)]
        weights = torch.cat([self._proposal_weights(s[i]) for s, i in zip(teacher.objectness, kept)])  # (sum R',)
        teacher_boxes = [boxes[i] for boxes, i in zip(teacher.boxes, kept)]
        student_boxes = [boxes[i] for boxes, i in zip(student.boxes, kept)]
        terms = []
        for pair, adapter, teacher_pooler, student_pooler in zip(
            self.layers, self.adapters, self.teacher_poolers, self.student_poolers
        ):
            teacher_map, student_map = teacher.features[pair.teacher], adapter(student.features[pair.student])
            target = teacher_pooler([teacher_map], teacher_boxes)  # (sum R', C, h, w)
            student_rois = student_pooler([student_map], student_boxes)
            mask = _nonempty_bins(teacher_pooler, teacher_map, teacher_boxes)  # (sum R', 1, h, w)
            mask = mask & _nonempty_bins(student_pooler, student_map, student_boxes)
            terms.append(losses.roi_feature_loss(target, student_rois, weights, [len(i) for i in kept], mask))
        return self.weight * cast(Tensor, sum(terms))

    def _select_proposals(self, boxes: Tensor, objectness: Tensor) -> Tensor:
        """Return R'_n: at most ``num_proposals`` indices by falling objectness."""
        return nms(boxes, objectness, self.nms_thresh)[: self.num_proposals]

    def _proposal_weights(self, objectness: Tensor) -> Tensor:
        """Return the factors of an image's proposals for their s', sorted by falling s'; both are (R',)."""
        if self.weighting == "none":
            return torch.ones_like(objectness)
        return objectness / objectness[:1] if self.weighting == "normalized" else objectness


def _nonempty_bins(pooler: ROIPooler, features: Tensor, boxes: list[Boxes]) -> Tensor:
    """Return (sum R', 1, h, w), False for bins without a cell of the map: they are 0 if every cell is 1."""
    return pooler([torch.ones_like(features[:, :1])], boxes) > 0


class FitNetsHint(OneLayerObjective):
    """FitNets hint (Romero et al. 2015), Eq. 3: match a whole feature map after a regressor on the student's map.

    Differences from the original:

    - The regressor is a linear 1x1 convolution. With the teacher's ReLU after it, channels that start negative
      everywhere would get no gradient.
    - The teacher's map is average-pooled to the size of the student's, which may be the smaller one.
    - The squared distance is a mean over the map, not a sum, so that the learning rate does not depend on its size.

    Args:
        layer: hint layer of the teacher and guided layer of the student.
        weight: factor of the loss.
    """

    needs_scores, whole_maps = False, True

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        super().build(student_shapes, teacher_shapes)
        student, teacher = student_shapes[self.layer.student], teacher_shapes[self.layer.teacher]
        self.regressor = Conv2d(student.channels, teacher.channels, 1)

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        self.check_batch(student)
        student_map = self.regressor(student.features[self.layer.student])  # (N, C, h, w)
        hint = adaptive_avg_pool2d(teacher.features[self.layer.teacher], student_map.shape[-2:])
        return self.weight * losses.hint_loss(hint, student_map)


class AttentionTransfer(LayerObjective):
    """Attention transfer (Zagoruyko and Komodakis, 2017), Eq. 1-2, on whole feature maps.

    Attention maps have no channels, so that no layer is learned. The teacher's map is average-pooled to the size of
    the student's.

    Args:
        layers: pairs of feature maps to match; their losses are summed.
        beta: factor beta of Eq. 2. The authors use 1000 with a mean over cells, as in ``losses.attention_loss``.
    """

    needs_scores, whole_maps = False, True

    def __init__(self, *, layers: list[LayerPair], beta: float = 1000.0):
        super().__init__(layers)
        self.beta = beta

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        self.check_batch(student)
        terms = []
        for pair in self.layers:
            student_map = losses.attention_map(student.features[pair.student])
            _, h, w = student_map.shape
            target = adaptive_avg_pool2d(losses.attention_map(teacher.features[pair.teacher]), (h, w))
            terms.append(losses.attention_loss(target, student_map))
        return self.beta / 2 * cast(Tensor, sum(terms))


class FeatureDistillation(OneLayerObjective):
    """Feature distillation of timm 1.0 (``timm.task.distillation.FeatureDistillationTask``): match pooled features.

    The mean squared distance of globally average-pooled features. If the channels differ, the student's features pass
    a learned linear projection, as in timm.

    Difference from timm: it takes the pooled features before the last layer of a classifier; T-WDet has these for each
    region only, so that a feature map of both backbones is pooled.

    Args:
        layer: feature maps to pool.
        weight: ``distill_loss_weight`` of timm: 1 by default, 5 in its example.
    """

    needs_scores, whole_maps = False, True

    def build(self, student_shapes: dict[str, ShapeSpec], teacher_shapes: dict[str, ShapeSpec]) -> None:
        super().build(student_shapes, teacher_shapes)
        student, teacher = student_shapes[self.layer.student].channels, teacher_shapes[self.layer.teacher].channels
        self.projection = nn.Identity() if student == teacher else nn.Linear(student, teacher)

    def forward(self, student: StudentOutput, teacher: WSDDNOutput) -> Tensor:
        self.check_batch(student)
        features = self.projection(student.features[self.layer.student].mean((2, 3)))  # (N, C)
        target = teacher.features[self.layer.teacher].float().mean((2, 3))
        return self.weight * losses.pooled_feature_loss(target, features)
