"""Both stages of the paper and the methods that it compares with: Distillers, their trainer and their teacher's gate.

Stage 1 (Section 3.2, feature level) trains the student's convolutions alone on ``loss_roi``; stage 2 (prediction level)
trains all of it on ``loss_hard`` and ``loss_class_aware``, from stage 1's checkpoint. The others are Section 4.2's:
``hinton``; FitNets, which is ``fitnets_hint`` and then ``hinton`` from its checkpoint; ``attention_transfer``.
"""

import torch
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.distillation import (
    AttentionTransfer,
    ClassAware,
    Distiller,
    DistillTrainer,
    HardLabels,
    Hint,
    Hinton,
    LayerPair,
    Objectives,
    RoIAware,
    TeacherGate,
)
from wsd_distill.modeling.backbone.vgg import conv_names


def layer_pair(teacher, student):
    """A layer of T-WDet and the one of S-Cls that is to match it, each (name, channels, stride)."""
    shapes = [L(ShapeSpec)(channels=channels, stride=stride) for _, channels, stride in (teacher, student)]
    return L(LayerPair)(teacher=teacher[0], student=student[0], teacher_shape=shapes[0], student_shape=shapes[1])


gate = L(TeacherGate)(
    loader=L(build_test_loader)(
        dataset="${dataset.val}",
        first=200,
        proposals="${proposals.val}",
        mapper=L(MultiLabelMapper)(
            is_train=False,
            num_classes="${dataset.num_classes}",
            sides="${dataloader.train.mapper.teacher_sides}",
            image_format="${dataloader.train.mapper.image_format}",
            num_proposals="${dataloader.train.mapper.num_proposals}",
            fast="${dataloader.train.mapper.fast}",
        ),
        batch_size=8,
        num_workers=0,
    ),
    allow_poor=False,
)

trainer = L(DistillTrainer)(
    model=None,
    data_loader=None,
    optimizer=None,
    accumulate=1,
    amp=torch.cuda.is_available(),
    clip_norm=None,
    gate=gate,
)

stage1 = L(Distiller)(
    student=None,
    teacher=None,
    teacher_checkpoint="",
    objectives=L(Objectives)(
        loss_roi=L(RoIAware)(
            layers=[layer_pair(("conv5_3", 512, 16), ("conv5_3", 512, 16))],
            pooler_size=7,
            nms_thresh=0.4,
            num_proposals=100,
            weight=1.0,
            weighted=True,
        )
    ),
    frozen=["head", "classifier"],
)

stage2 = L(Distiller)(
    student=None,
    teacher=None,
    teacher_checkpoint="",
    objectives=L(Objectives)(
        loss_hard=L(HardLabels)(),
        loss_class_aware=L(ClassAware)(
            num_classes="${dataset.num_classes}",
            num_proposals="${dataloader.train.mapper.num_proposals}",
            weight=1.0,
            temperatures="per_class",
            initial=1.0,
            distance="l2",
        ),
    ),
    frozen=[],
)

# Temperatures of MS-COCO; those of NUS-WIDE are 2 and 5.
_soft_labels = dict(loss_hard=L(HardLabels)(), loss_hinton=L(Hinton)(t_teacher=1.0, t_student=5.0, weight=1.0))

hinton = L(Distiller)(
    student=None,
    teacher=None,
    teacher_checkpoint="",
    objectives=L(Objectives)(**_soft_labels),
    frozen=[],
)

fitnets_hint = L(Distiller)(
    student=None,
    teacher=None,
    teacher_checkpoint="",
    objectives=L(Objectives)(loss_hint=L(Hint)(layer=layer_pair(("conv3_3", 256, 4), ("conv3_3", 256, 4)), weight=1.0)),
    # What follows the guided layer has no part in the loss.
    frozen=[f"backbone.{name}" for block in (4, 5) for name in conv_names(block)] + ["head", "classifier"],
)

attention_transfer = L(Distiller)(
    student=None,
    teacher=None,
    teacher_checkpoint="",
    objectives=L(Objectives)(
        **_soft_labels,
        loss_attention=L(AttentionTransfer)(
            layers=[
                layer_pair(layer, layer) for layer in (("conv3_3", 256, 4), ("conv4_3", 512, 8), ("conv5_3", 512, 16))
            ],
            beta=1000.0,
        ),
    ),
    frozen=[],
)
