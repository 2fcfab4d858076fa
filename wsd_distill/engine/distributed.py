"""Several processes: GPUs through Detectron2's launcher, CPUs over gloo, or those that torchrun or srun has started."""

from __future__ import annotations

import gc
import multiprocessing.util
import os
import signal
import socket
import sys
from argparse import Namespace
from collections.abc import Callable

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from detectron2.engine import create_ddp_model as create_gpu_ddp_model
from detectron2.engine import launch as launch_on_gpus
from detectron2.engine.launch import DEFAULT_TIMEOUT
from detectron2.utils import comm
from torch import nn

from .environment import Worker, find_worker


def launch(main: Callable[[Namespace], None], args: Namespace) -> None:
    """Run ``main(args)`` in ``args.num_gpus`` processes: one GPU each over NCCL, or CPUs over gloo without a GPU.

    SIGTERM is passed on to all processes. If one ends with an exit code, this process ends with the same. Where
    torchrun or srun has started several processes, this is one of them, and it does not return on CPUs.

    Raises:
        ValueError: several machines without GPUs, fewer GPUs than processes, or a wrong environment.
    """
    worker = find_worker(args)
    if worker is not None:
        _run_worker(worker, main, args)
        return
    if args.num_gpus > 1:
        _forward_sigterm()
    try:
        _launch(main, args)
    except mp.ProcessExitedException as error:  # it has printed why
        sys.exit(error.exit_code)


def _forward_sigterm() -> None:
    """Let SIGTERM to this process reach its children, whose exit codes then end this process."""

    def handle(number: int, frame: object) -> None:
        for child in multiprocessing.active_children():
            child.terminate()

    signal.signal(signal.SIGTERM, handle)


def _launch(main: Callable[[Namespace], None], args: Namespace) -> None:
    if torch.cuda.is_available():
        launch_on_gpus(main, args.num_gpus, args.num_machines, args.machine_rank, args.dist_url, (args,))
    elif args.num_machines > 1:
        raise ValueError("--num-machines above 1 needs GPUs; without, start with torchrun (docs/clusters.md)")
    elif args.num_gpus <= 1:
        main(args)
    else:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            url = f"tcp://127.0.0.1:{free.getsockname()[1]}"
        mp.spawn(_cpu_worker, (url, main, args), nprocs=args.num_gpus)


def _run_worker(worker: Worker, main: Callable[[Namespace], None], args: Namespace) -> None:
    """Join the processes that torchrun or srun has started, and run ``main``."""
    worker.export()
    if torch.cuda.is_available():
        torch.cuda.set_device(_choose_gpu(worker, torch.cuda.device_count()))
        dist.init_process_group("nccl", timeout=DEFAULT_TIMEOUT)
        comm.synchronize()  # as Detectron2: prevents a timeout
        main(args)
    else:
        dist.init_process_group("gloo", timeout=DEFAULT_TIMEOUT)
        _run_and_exit(main, args)


def _choose_gpu(worker: Worker, count: int) -> int:
    """Return the number of the process's GPU among ``count`` visible ones; Slurm may show each task only its own."""
    if worker.launcher == "srun" and count == 1:
        return 0
    if worker.local_rank >= count:
        text = f"process {worker.local_rank} of this machine has no GPU, as {count} are visible"
        raise ValueError(f"{text}: start one process per GPU")
    return worker.local_rank


def _cpu_worker(rank: int, url: str, main: Callable[[Namespace], None], args: Namespace) -> None:
    torch.set_num_threads(max(1, torch.get_num_threads() // args.num_gpus))
    dist.init_process_group("gloo", init_method=url, world_size=args.num_gpus, rank=rank)
    _run_and_exit(main, args)


def _run_and_exit(main: Callable[[Namespace], None], args: Namespace) -> None:
    try:
        main(args)
    except SystemExit as error:
        _exit_worker(error.code if isinstance(error.code, int) else 1)
    exit_gloo_worker()


def exit_gloo_worker() -> None:
    """Wait for all processes of a gloo group, then end this one with exit code 0.

    Nothing is torn down, because gloo's threads sometimes abort a process during teardown ("terminate called without
    an active exception").
    """
    dist.barrier()
    _exit_worker(0)


def _exit_worker(code: int) -> None:
    # os._exit skips the end of a multiprocessing child: stop loader workers, then release their semaphores.
    gc.collect()
    multiprocessing.util._exit_function()  # type: ignore[attr-defined]
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def broadcast_buffers(model: nn.Module) -> None:
    """Copy rank 0's buffers (BatchNorm statistics), which the checkpoint gets, to all ranks before an evaluation."""
    if comm.get_world_size() > 1:
        for buffer in model.buffers():
            dist.broadcast(buffer, 0)


def to_device(model: nn.Module, device: str, channels_last: bool) -> nn.Module:
    """Move a model to ``train.device``, in the memory format of ``train.channels_last``."""
    model.to(device)
    return model.to(memory_format=torch.channels_last) if channels_last else model


def create_ddp_model(model: nn.Module) -> nn.Module:
    """Wrap a model as Detectron2's function of this name does, also on CPUs."""
    is_cuda = next(model.parameters()).is_cuda
    return create_gpu_ddp_model(model, device_ids=[torch.cuda.current_device()] if is_cuda else None)


def check_unused_parameters(model: nn.Module) -> None:
    """Raise RuntimeError if a trained parameter has no gradient after a backward pass, which DDP requires."""
    unused = [name for name, p in model.named_parameters() if p.requires_grad and p.grad is None]
    if unused:
        modules = dict.fromkeys(name.removeprefix("student.").rpartition(".")[0] for name in unused)
        raise RuntimeError(
            f"no loss depends on {', '.join(unused)}, but several processes share the gradients of all parameters: "
            f"add to train.frozen {', '.join(modules)}"
        )
