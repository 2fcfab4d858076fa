"""Both stages of the paper and the methods that it compares with: Distillers, their trainer and the teacher check.

Stage 1 (Section 3.2, feature level) trains the student's convolutions alone on ``loss_roi``; stage 2 (prediction level)
trains all of it on ``loss_hard`` and ``loss_class_aware``, from stage 1's checkpoint. The others are Section 4.2's:
``soft_labels``; FitNets, which is ``fitnets_hint`` and then ``soft_labels`` from its checkpoint; ``attention_transfer``.
"""

import torch
from detectron2.config import LazyCall as L

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.distillation import (
    AttentionTransfer,
    ClassAware,
    Distiller,
    DistillTrainer,
    FitNetsHint,
    HardLabels,
    LayerPair,
    Objectives,
    RoIAwareTransfer,
    SoftLabels,
    TeacherCache,
    TeacherCheck,
    default_cache_dir,
)
from wsd_distill.modeling.backbones.vgg import conv_names


def layer_pair(teacher, student):
    """A layer of T-WDet and the one of S-Cls that is to match it, by name."""
    return L(LayerPair)(teacher=teacher, student=student)


def add_teacher_view(dataloader, side, **mapper):
    """Give each training image its proposals and a view for the teacher, ``side`` pixels wide and high."""
    dataloader.train.proposals = "${proposals.train}"
    dataloader.train.mapper.update(teacher_sizes=[side], teacher_cached="${distiller.use_cache}", **mapper)


def teacher_mapper(**options):
    """Images as the teacher sees them, for a test loader."""
    return L(MultiLabelMapper)(
        is_train=False,
        num_classes="${dataset.num_classes}",
        sides="${dataloader.train.mapper.teacher_sizes}",
        image_format="${dataloader.train.mapper.image_format}",
        num_proposals="${dataloader.train.mapper.num_proposals}",
        fast="${dataloader.train.mapper.fast}",
        **options,
    )


teacher_check = L(TeacherCheck)(
    loader=L(build_test_loader)(
        dataset="${dataset.val}",
        subsample=200,
        proposals="${proposals.val}",
        mapper=teacher_mapper(),
        batch_size=8,
        num_workers=0,
    ),
    warn_only=False,
)

trainer = L(DistillTrainer)(
    model=None,
    data_loader=None,
    optimizer=None,
    accumulate=1,
    amp=torch.cuda.is_available(),
    clip_norm=None,
    teacher_check=teacher_check,
)

# Off: for 82,081 photos of COCO, as they are and mirrored, logits take 50 GB and stage 1's maps 300 GB.
cache = L(TeacherCache)(
    folder=L(default_cache_dir)(checkpoint="${distiller.teacher_checkpoint}"),
    dataset="${dataset.train}",
    proposals="${dataloader.train.proposals}",
    mapper=teacher_mapper(flip_prob="${dataloader.train.mapper.flip_prob}", tta=True),
    batch_size=8,
    num_workers="${dataloader.train.num_workers}",
)


def distill(frozen=(), **objectives):
    """A Distiller of these losses, whose teacher a config names."""
    return L(Distiller)(
        student=None,
        teacher=None,
        teacher_checkpoint="",
        objectives=L(Objectives)(**objectives),
        frozen=list(frozen),
        use_cache=False,
        cache=cache,
    )


stage1 = distill(
    loss_roi=L(RoIAwareTransfer)(
        layers=[layer_pair("conv5_3", "conv5_3")],
        pooler_size=7,
        nms_thresh=0.4,
        num_proposals=100,
        weight=1.0,
        weighted=True,
    ),
    frozen=["head", "classifier"],
)

stage2 = distill(
    loss_hard=L(HardLabels)(),
    loss_class_aware=L(ClassAware)(
        num_classes="${dataset.num_classes}",
        num_proposals="${dataloader.train.mapper.num_proposals}",
        weight=1.0,
        temperatures="per_class",
        initial=1.0,
        distance="l2",
    ),
)

# Temperatures of MS-COCO; those of NUS-WIDE are 2 and 5.
_soft_labels = dict(loss_hard=L(HardLabels)(), loss_soft_labels=L(SoftLabels)(t_teacher=1.0, t_student=5.0, weight=1.0))

soft_labels = distill(**_soft_labels)

fitnets_hint = distill(
    loss_hint=L(FitNetsHint)(layer=layer_pair("conv3_3", "conv3_3"), weight=1.0),
    # What follows the guided layer has no part in the loss.
    frozen=[f"backbone.{name}" for block in (4, 5) for name in conv_names(block)] + ["head", "classifier"],
)

attention_transfer = distill(
    **_soft_labels,
    loss_attention=L(AttentionTransfer)(
        layers=[layer_pair(layer, layer) for layer in ("conv3_3", "conv4_3", "conv5_3")],
        beta=1000.0,
    ),
)
