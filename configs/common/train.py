"""What every run shares; a config imports it and changes what differs."""

import torch
from detectron2.config import LazyCall as L

from wsd_distill.engine import Trainer

train = dict(
    output_dir="output",
    seed=0,
    init_checkpoint="",
    max_iter=1000,
    reference_batch=0,  # the batch that lr and periods are for: other batches scale them; 0: nothing is scaled
    eval_period=0,  # 0: only at the end
    log_period=20,
    checkpointer=dict(period=500, max_to_keep=1),
    device="cuda" if torch.cuda.is_available() else "cpu",
    channels_last=True,
    cudnn_benchmark=True,
)

trainer = L(Trainer)(
    model=None, data_loader=None, optimizer=None, accumulate=1, amp=torch.cuda.is_available(), clip_norm=None
)
