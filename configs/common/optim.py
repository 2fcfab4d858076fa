"""Optimizers and schedules, multipliers over ``train.max_iter``."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from detectron2.solver.build import get_default_optimizer_params
from fvcore.common.param_scheduler import CosineParamScheduler, LinearParamScheduler

from wsd_distill.engine import ReduceLROnPlateauHook, param_groups

adamw = L(torch.optim.AdamW)(
    params=L(get_default_optimizer_params)(model=None, weight_decay_norm=0.0, weight_decay_bias=0.0),
    lr=1e-3,
    weight_decay=1e-4,
)

# The paper's: momentum 0.9, decay 5e-4, learning rate 1e-4 (stage 2) or 1e-5 (stage 1).
# The authors' code sets new_lr_factor=10, bias_lr_factor=2 and weight_decay_bias=0, of which the paper says nothing.
sgd = L(torch.optim.SGD)(
    params=L(param_groups)(
        model=None,
        base_lr="${..lr}",
        new_layers=["cls_branch", "det_branch", "classifier"],
        new_lr_factor=1.0,
        bias_lr_factor=1.0,
        weight_decay_bias=None,
    ),
    lr=1e-4,
    momentum=0.9,
    weight_decay=5e-4,
)

cosine = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0), warmup_factor=0.02, warmup_length=0.03
)

constant = L(LinearParamScheduler)(start_value=1.0, end_value=1.0)  # fvcore's constant fails after the last step

# A tenth of it each time that the loss on dataset.val, at every checkpoint, is saturated: twice in a row no better.
plateau = L(ReduceLROnPlateauHook)(
    loader="${dataloader.test.val.loader}",
    period="${train.checkpointer.period}",
    factor=0.1,
    patience=1,
    threshold=1e-3,
)
