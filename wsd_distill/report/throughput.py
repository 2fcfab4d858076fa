"""How many images a second models take, side by side."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


def conditions() -> str:
    """Of the figures of :func:`images_per_second` on this machine."""
    place = f"one {torch.cuda.get_device_name()}" if torch.cuda.is_available() else "one core"
    return f"on {place}, models taking turns, images read beforehand"


@contextmanager
def _one_core() -> Iterator[None]:
    """PyTorch's threads, where there is no GPU, are one; afterwards as many as before."""
    threads = torch.get_num_threads()
    torch.set_num_threads(threads if torch.cuda.is_available() else 1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@_one_core()
@torch.no_grad()
def images_per_second(models: dict[str, tuple[nn.Module, list[dict]]], rounds: int = 15) -> dict[str, float]:
    """Median over ``rounds`` in which the models take turns, so that a busy moment of the machine hits all of them.

    Args:
        models: name -> (model, one batch of inputs). Reading and resizing the images is not counted.
    """
    seconds = {name: [] for name in models}
    for turn in range(rounds + 2):
        for name, (model, batch) in models.items():
            model.eval()
            model(batch)  # not counted: it finds the caches as the model before has left them
            start = time.perf_counter()
            model(batch)
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= 2:  # the first turns warm up
                seconds[name].append(time.perf_counter() - start)
    return {name: len(models[name][1]) / statistics.median(times) for name, times in seconds.items()}
