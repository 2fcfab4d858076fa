"""Several processes on one machine without a GPU; with GPUs Detectron2's own launcher does the work."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import socket
import sys
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import launch as launch_on_gpus
from detectron2.utils import comm
from torch import nn
from torch.nn.parallel import DistributedDataParallel


def launch(main: Callable, processes: int, *, num_machines: int, machine_rank: int, dist_url: str, args: tuple) -> None:
    """Run ``main(*args)`` in so many processes: one GPU each over NCCL, or over gloo on CPUs where there is no GPU.

    Raises:
        ValueError: several machines without GPUs.
    """
    if torch.cuda.is_available():
        launch_on_gpus(main, processes, num_machines, machine_rank, dist_url, args)
    elif num_machines > 1:
        raise ValueError("--num-machines above 1 needs GPUs: without, processes of one machine can work together")
    elif processes <= 1:
        main(*args)
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        mp.spawn(_cpu_worker, (processes, f"tcp://127.0.0.1:{port}", main, args), nprocs=processes)


def _cpu_worker(rank: int, processes: int, url: str, main: Callable, args: tuple) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // processes))
    dist.init_process_group("gloo", init_method=url, world_size=processes, rank=rank)
    main(*args)
    exit_gloo_worker()


def exit_gloo_worker() -> None:
    """End this process of a gloo group, with exit code 0, when all the others have come so far.

    Nothing is torn down: gloo's threads, alive until then, now and then abort a process that is ("terminate called
    without an active exception"), after all its work has been done.
    """
    dist.barrier()
    gc.collect()  # stops the workers of loaders
    multiprocessing.util._exit_function()  # releases their semaphores; os._exit skips it
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def broadcast_buffers(model: nn.Module) -> None:
    """Rank 0's BatchNorm statistics for every rank, before an evaluation; those are what the checkpoint gets."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def place(model: nn.Module, device: str, channels_last: bool) -> nn.Module:
    """On the device and in the memory format that a config names in ``train``."""
    model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def create_ddp_model(model: nn.Module) -> nn.Module:
    """DistributedDataParallel where there are several processes; otherwise ``model`` itself."""
    if comm.get_world_size() == 1:
        return model
    device = next(model.parameters()).device
    return DistributedDataParallel(model, device_ids=[device] if device.type == "cuda" else None)


def check_unused_parameters(model: nn.Module) -> None:
    """After the first backward pass of several processes, each of which waits for every trained parameter's gradient.

    Raises:
        RuntimeError: parameters on which no loss depends; names them.
    """
    idle = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if idle:
        modules = dict.fromkeys(name.removeprefix("student.").rpartition(".")[0] for name in idle)
        raise RuntimeError(
            f"no loss depends on {', '.join(idle)}, but several processes share the gradients of all parameters: "
            f"add to distiller.frozen {', '.join(modules)}"
        )
