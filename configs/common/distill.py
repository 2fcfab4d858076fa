"""Distillation from a trained T-WDet: the Distiller, its trainer, the check and the cache of the teacher."""

import torch
from detectron2.config import LazyCall as L

from wsd_distill.data.build import build_test_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.distillation import (
    ClassAware,
    Distiller,
    DistillTrainer,
    FeatureDistillation,
    HardLabels,
    LabelWiseEmbeddings,
    LayerPair,
    MultiLabelLogits,
    Objectives,
    RegionConsistent,
    RoIAwareTransfer,
    SoftLabels,
    TeacherCache,
    TeacherCheck,
    default_cache_dir,
)

trainer = L(DistillTrainer)(
    model=None,
    data_loader=None,
    optimizer=None,
    accumulate=1,
    amp=torch.cuda.is_available(),
    clip_norm=None,
    start_penalty=0.0,
    ema=None,
    ema_warmup=True,
    seed="${train.seed}",
    teacher_check=L(TeacherCheck)(
        loader=L(build_test_loader)(
            dataset="${dataset.val}",
            subsample=200,
            proposals="${proposals.val}",
            mapper=L(MultiLabelMapper)(
                is_train=False,
                num_classes="${dataset.num_classes}",
                sizes="${dataloader.train.mapper.teacher_sizes}",
                image_format="${model.image_format}",
                num_proposals="${proposals.num_proposals}",
                min_proposal_area="${proposals.min_area}",
                fast_decode="${dataloader.train.mapper.fast_decode}",
            ),
            batch_size=8,
            num_workers=0,
        ),
        dataset_name="${.loader.dataset}",
        boxes="${dataset.boxes}",
        warn_only=False,
    ),
)


def distill(dataloader, teacher, teacher_size, *, use_cache=False, proposals="${proposals.train}", **objectives):
    """Distiller that minimizes the sum of ``objectives``; ``dataloader`` gets proposals and the teacher's view.

    Args:
        teacher: T-WDet, or a classifier. teacher_size: side in pixels of its square input.
        use_cache: compute teacher outputs once and read them in every epoch (docs/recipes.md: disk space).
        proposals: proposal store of the training images; None if neither the teacher nor an objective needs it.
    """
    dataloader.train.proposals = proposals
    dataloader.train.mapper.update(teacher_sizes=[teacher_size], teacher_cached="${distiller.use_cache}")
    return L(Distiller)(
        student=None,
        teacher=teacher,
        teacher_checkpoint="${train.root}/teacher/model_final.pth",
        objectives=L(Objectives)(**objectives),
        use_cache=use_cache,
        cache=L(TeacherCache)(
            folder=L(default_cache_dir)(checkpoint="${distiller.teacher_checkpoint}"),
            dataset="${dataset.train}",
            proposals="${dataloader.train.proposals}",
            mapper="${dataloader.train.mapper}",
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
            weighting="objectness",
            pooler_type="${train.pooler_type}",
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


def l2d(teacher, student, pooler_size=3):
    """Objectives of L2D (Yang et al., ICCV 2023) on a pair of feature maps, weighted as in its authors' code."""
    return dict(
        loss_hard=L(HardLabels)(),
        loss_logits=L(MultiLabelLogits)(weight=10 / 64),
        loss_embeddings=L(LabelWiseEmbeddings)(
            layer=L(LayerPair)(teacher=teacher, student=student),
            num_classes="${dataset.num_classes}",
            class_weight=100.0,
            instance_weight=1000.0,
            label_weight=1.0,
            dim=256,
            num_heads=8,
            pooler_size=pooler_size,
        ),
    )


def feature_distillation(teacher, student, weight=1.0):
    """Hard labels and timm's feature distillation on a pair of feature maps."""
    layer = L(LayerPair)(teacher=teacher, student=student)
    return dict(loss_hard=L(HardLabels)(), loss_features=L(FeatureDistillation)(layer=layer, weight=weight))


def region_consistent(teacher, student, adapter):
    """Labels, and region-consistent transfer between a map of the teacher and one of the student."""
    return dict(
        loss_hard=L(HardLabels)(),
        loss_regions=L(RegionConsistent)(
            layer=layer_pairs((teacher, student))[0],
            regions="view",
            adapter=adapter,  # Psi: "identity" where both are one network
            pooler_size=3,
            num_proposals=30,
            weight=10.0,
            fit_images=320,
        ),
    )


def use_trunk(distiller, trainer):
    """Let the teacher, a classifier, keep the weights that the student starts from; its feature maps are used only."""
    distiller.teacher_checkpoint = "${train.init_checkpoint}"
    distiller.cache.folder = "${train.root}/trunk_cache"
    trainer.teacher_check = None
