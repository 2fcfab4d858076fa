"""Length, folders, optimizers and learning rate schedules of every run."""

import torch
from detectron2.config import LazyCall as L
from detectron2.solver import WarmupParamScheduler
from fvcore.common.param_scheduler import CosineParamScheduler, LinearParamScheduler

from wsd_distill.engine import ReduceLROnPlateauHook, Trainer, param_groups

train = dict(
    recipe="???",  # the folder in configs
    run="???",  # its file
    root="output/${dataset.name}/${train.recipe}_${proposals.method}",
    output_dir="${train.root}/${train.run}",
    init_checkpoint="",
    frozen=[],  # submodules of the model that are not trained
    new_layers=[],  # submodules that init_checkpoint may lack, besides classification layers (docs/recipes.md)
    seed=0,  # of all random numbers; -1: chosen at random and saved
    epochs=10,
    max_iter=None,  # None: epochs * images / batch
    batch_size=16,  # of a step, over all ranks and trainer.accumulate micro-batches
    eval_period=0,  # iterations; 0: only at the end
    log_period=20,
    checkpointer=dict(period=None, max_to_keep=2),  # period in iterations; None: one epoch. 2: one may be damaged
    device="cuda" if torch.cuda.is_available() else "cpu",
    channels_last=True,
    cudnn_benchmark=True,
)

trainer = L(Trainer)(
    model=None,
    data_loader=None,
    optimizer=None,
    accumulate=1,
    amp=torch.cuda.is_available(),
    clip_norm=None,
    start_penalty=0.0,  # L2-SP: of the distance to train.init_checkpoint (docs/recipes.md)
    ema=None,
    ema_warmup=True,
    seed="${train.seed}",
)

_new_layers = ["cls_branch", "det_branch", "refinement", "classifier"]

# temperature_lr: within some hundred steps, temperatures reach the optimum of a toy problem at these rates.
adamw = L(torch.optim.AdamW)(
    params=L(param_groups)(
        model=None,
        base_lr="${..lr}",
        new_layers=_new_layers,
        new_lr_factor=1.0,
        bias_lr_factor=1.0,
        weight_decay_bias=0.0,
        weight_decay_norm=0.0,
        temperature_lr=0.01,
    ),
    lr=1e-3,
    weight_decay=1e-4,
)

# Section 3.3. The released code sets new_lr_factor=10, bias_lr_factor=2 and weight_decay_bias=0; the paper does not.
sgd = L(torch.optim.SGD)(
    params=L(param_groups)(
        model=None,
        base_lr="${..lr}",
        new_layers=_new_layers,
        new_lr_factor=1.0,
        bias_lr_factor=1.0,
        weight_decay_bias=None,
        weight_decay_norm=None,
        temperature_lr=0.1,
    ),
    lr=1e-4,
    momentum=0.9,
    weight_decay=5e-4,
)

cosine = L(WarmupParamScheduler)(
    scheduler=L(CosineParamScheduler)(start_value=1.0, end_value=0.0), warmup_factor=0.02, warmup_length=0.03
)

constant = L(LinearParamScheduler)(start_value=1.0, end_value=1.0)  # fvcore's constant fails after the last step

# Section 3.3: divide by 10 when the loss on dataset.val, computed at every checkpoint, has not improved twice in a row.
plateau = L(ReduceLROnPlateauHook)(
    loader="${dataloader.test.val.loader}",
    period="${train.checkpointer.period}",
    factor=0.1,
    patience=1,
    threshold=1e-3,
)
