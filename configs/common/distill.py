"""Distillation from a trained T-WDet: the Distiller, its trainer, the check and the cache of the teacher."""

import torch
from detectron2.config import LazyCall as L

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.distillation import (
    ClassAware,
    Distiller,
    DistillTrainer,
    HardLabels,
    LayerPair,
    Objectives,
    RoIAwareTransfer,
    SoftLabels,
    TeacherCache,
    TeacherCheck,
    default_cache_dir,
)


def _teacher_mapper(**options):
    """Mapper of a test loader that gives images at the teacher's size."""
    return L(MultiLabelMapper)(
        is_train=False,
        num_classes="${dataset.num_classes}",
        sizes="${dataloader.train.mapper.teacher_sizes}",
        image_format="${model.image_format}",
        num_proposals="${proposals.num_proposals}",
        fast_decode="${dataloader.train.mapper.fast_decode}",
        **options,
    )


trainer = L(DistillTrainer)(
    model=None,
    data_loader=None,
    optimizer=None,
    accumulate=1,
    amp=torch.cuda.is_available(),
    clip_norm=None,
    ema=None,
    ema_warmup=True,
    seed="${train.seed}",
    teacher_check=L(TeacherCheck)(
        loader=L(build_test_loader)(
            dataset="${dataset.val}",
            subsample=200,
            proposals="${proposals.val}",
            mapper=_teacher_mapper(),
            batch_size=8,
            num_workers=0,
        ),
        warn_only=False,
    ),
)


def distill(dataloader, teacher, teacher_size, *, use_cache=False, frozen=(), **objectives):
    """Distiller that minimizes the sum of ``objectives``; ``dataloader`` gets proposals and the teacher's view.

    Args:
        teacher: T-WDet. teacher_size: side in pixels of its square input.
        use_cache: compute teacher outputs once and read them in every epoch (docs/recipes.md: disk space).
        frozen: submodules of the student that are not trained.
    """
    dataloader.train.proposals = "${proposals.train}"
    dataloader.train.mapper.update(teacher_sizes=[teacher_size], teacher_cached="${distiller.use_cache}")
    return L(Distiller)(
        student=None,
        teacher=teacher,
        teacher_checkpoint="${train.root}/teacher/model_final.pth",
        objectives=L(Objectives)(**objectives),
        frozen=list(frozen),
        use_cache=use_cache,
        cache=L(TeacherCache)(
            folder=L(default_cache_dir)(checkpoint="${distiller.teacher_checkpoint}"),
            dataset="${dataset.train}",
            proposals="${dataloader.train.proposals}",
            mapper=_teacher_mapper(flip_prob="${dataset.flip_prob}", tta=True),
            batch_size=8,
            num_workers="${dataloader.train.num_workers}",
        ),
    )


def layer_pairs(*pairs):
    """(teacher, student) names of feature maps that objectives compare."""
    return [L(LayerPair)(teacher=teacher, student=student) for teacher, student in pairs]


def roi_aware(*pairs, pooler_size=7, num_proposals=100):
    """Stage 1's objective, Eq. 3-4."""
    return dict(
        loss_roi=L(RoIAwareTransfer)(
            layers=layer_pairs(*pairs),
            pooler_size=pooler_size,
            nms_thresh=0.4,
            num_proposals=num_proposals,
            weight=1.0,
            weighted=True,
        )
    )


def class_aware():
    """Stage 2's objectives, Eq. 5-11."""
    return dict(
        loss_hard=L(HardLabels)(),
        loss_class_aware=L(ClassAware)(
            num_classes="${dataset.num_classes}",
            num_proposals="${proposals.num_proposals}",
            weight=1.0,
            temperatures="per_class",
            initial=1.0,
            distance="l2",
        ),
    )


def soft_labels(t_teacher="${dataset.t_teacher}", t_student="${dataset.t_student}"):
    """Objectives of "Distillation [12]" (Section 4.2): fixed temperatures, the paper's for the dataset by default."""
    return dict(
        loss_hard=L(HardLabels)(),
        loss_soft_labels=L(SoftLabels)(t_teacher=t_teacher, t_student=t_student, weight=1.0),
    )
