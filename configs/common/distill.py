"""Both stages of the paper: a Distiller, its trainer and the gate that its teacher has to pass.

Stage 1 (Section 3.2, feature level) trains the student's convolutions alone on ``loss_roi``; stage 2 (prediction level)
trains all of it on ``loss_hard`` and ``loss_class_aware``, from stage 1's checkpoint.
"""

import torch
from detectron2.config import LazyCall as L
from detectron2.layers import ShapeSpec

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.distillation import (
    ClassAware,
    Distiller,
    DistillTrainer,
    HardLabels,
    LayerPair,
    Objectives,
    RoIAware,
    TeacherCache,
    TeacherGate,
    cache_beside,
)


def layer_pair(teacher, student):
    """A layer of T-WDet and the one of S-Cls that is to match it, each (name, channels, stride)."""
    shapes = [L(ShapeSpec)(channels=channels, stride=stride) for _, channels, stride in (teacher, student)]
    return L(LayerPair)(teacher=teacher[0], student=student[0], teacher_shape=shapes[0], student_shape=shapes[1])


def show_teacher(dataloader, side, **mapper):
    """Give each training image its proposals and a view for the teacher, ``side`` pixels wide and high."""
    dataloader.train.proposals = "${proposals.train}"
    dataloader.train.mapper.update(teacher_sides=[side], teacher_cached="${distiller.use_cache}", **mapper)


def teacher_mapper(**options):
    """Images as the teacher sees them, for a test loader."""
    return L(MultiLabelMapper)(
        is_train=False,
        num_classes="${dataset.num_classes}",
        sides="${dataloader.train.mapper.teacher_sides}",
        image_format="${dataloader.train.mapper.image_format}",
        num_proposals="${dataloader.train.mapper.num_proposals}",
        fast="${dataloader.train.mapper.fast}",
        **options,
    )


gate = L(TeacherGate)(
    loader=L(build_test_loader)(
        dataset="${dataset.val}",
        first=200,
        proposals="${proposals.val}",
        mapper=teacher_mapper(),
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

# Off: the maps of 82,081 photos of COCO, as they are and mirrored, take 300 GB, the logits alone 50 GB.
cache = L(TeacherCache)(
    folder=L(cache_beside)(checkpoint="${distiller.teacher_checkpoint}"),
    dataset="${dataset.train}",
    proposals="${dataloader.train.proposals}",
    mapper=teacher_mapper(flip_prob="${dataloader.train.mapper.flip_prob}", average_views=True),
    batch_size=8,
    num_workers="${dataloader.train.num_workers}",
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
        )
    ),
    frozen=["head", "classifier"],
    use_cache=False,
    cache=cache,
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
        ),
    ),
    frozen=[],
    use_cache=False,
    cache=cache,
)
