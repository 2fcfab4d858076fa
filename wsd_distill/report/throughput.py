"""Images per second of several models, measured side by side."""

from __future__ import annotations

import statistics
import time

import torch
from torch import nn


@torch.no_grad()
def images_per_second(models: dict[str, tuple[nn.Module, list[dict]]], rounds: int = 15) -> dict[str, float]:
    """Measure the median over ``rounds``, on a GPU or on one core. Models take turns, so that other load affects all.

    Args:
        models: name -> (model, one batch of inputs). Loading images is not measured.
    """
    seconds: dict[str, list[float]] = {name: [] for name in models}
    threads, has_gpu = torch.get_num_threads(), torch.cuda.is_available()
    torch.set_num_threads(threads if has_gpu else 1)
    try:
        for turn in range(rounds + 2):
            for name, (model, batch) in models.items():
                model.eval()
                model(batch)  # not measured: fills the caches, which the other model has used
                start = time.perf_counter()
                model(batch)
                if has_gpu:
                    torch.cuda.synchronize()
                if turn >= 2:  # the first turns are warm-up
                    seconds[name].append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return {name: len(models[name][1]) / statistics.median(times) for name, times in seconds.items()}
