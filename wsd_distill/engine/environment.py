"""The place of a process that torchrun or srun has started, from its environment."""

from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Mapping
from typing import NamedTuple

TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT")
SLURM = ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_LOCALID")
DEFAULT_PORT = "29500"  # torchrun's


class Worker(NamedTuple):
    """One of several processes of a training.

    Attributes:
        launcher: "torchrun" or "srun".
        rank, world_size: number of the process, from 0, and how many there are.
        local_rank: number of the process on its machine.
        address, port: where rank 0 listens.
    """

    launcher: str
    rank: int
    world_size: int
    local_rank: int
    address: str
    port: str

    def export(self) -> None:
        """Set the variables that PyTorch's ``env://`` reads."""
        values = (self.rank, self.world_size, self.local_rank, self.address, self.port)
        os.environ.update(zip(TORCHRUN, map(str, values)))


def find_worker(args: Namespace, environment: Mapping[str, str] = os.environ) -> Worker | None:
    """Return the place of this process; None if it is the only one, or starts the others itself.

    Variables of torchrun come first, because Slurm may have started torchrun. Under srun, ``--num-machines`` keeps
    Detectron2's launcher: each task then starts the processes of its machine.

    Args:
        args: ``num_gpus`` and ``num_machines``, the options of Detectron2's launcher.

    Raises:
        ValueError: a variable is missing or not a number, or there are two launchers.
    """
    if "RANK" in environment or "WORLD_SIZE" in environment:
        return _find_torchrun(args, environment)
    if "SLURM_STEP_ID" in environment and args.num_machines == 1:  # the variable is srun's, not sbatch's
        return _find_slurm(args, environment)
    return None


def _find_torchrun(args: Namespace, environment: Mapping[str, str]) -> Worker | None:
    missing = [name for name in TORCHRUN if not environment.get(name)]
    if missing:
        present = ", ".join(name for name in TORCHRUN if name not in missing)
        raise ValueError(f"{present} set, but not {', '.join(missing)}: start with torchrun, or unset them")
    rank, world_size, local_rank = (_read_number(name, environment) for name in TORCHRUN[:3])
    worker = Worker("torchrun", rank, world_size, local_rank, environment["MASTER_ADDR"], environment["MASTER_PORT"])
    return _check(worker, args)


def _find_slurm(args: Namespace, environment: Mapping[str, str]) -> Worker | None:
    missing = [name for name in SLURM if not environment.get(name)]
    if missing:
        raise ValueError(f"SLURM_STEP_ID is set, but not {', '.join(missing)}: start with srun, which sets all")
    rank, world_size, local_rank = (_read_number(name, environment) for name in SLURM)
    if world_size > 1 and not environment.get("MASTER_ADDR"):
        command = 'export MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)'
        raise ValueError(f"srun has started {world_size} tasks, but MASTER_ADDR is not set: before srun, run {command}")
    address, port = environment.get("MASTER_ADDR", ""), environment.get("MASTER_PORT") or DEFAULT_PORT
    return _check(Worker("srun", rank, world_size, local_rank, address, port), args)


def _check(worker: Worker, args: Namespace) -> Worker | None:
    """Return the worker if there are several."""
    if worker.world_size == 1 and worker.launcher == "srun":
        return None  # --num-gpus may start others
    for option, value in (("--num-gpus", args.num_gpus), ("--num-machines", args.num_machines)):
        if value > 1:
            text = f"{worker.launcher} has started {worker.world_size} processes already"
            raise ValueError(f"{option} {value}: {text}, one per GPU: leave {option} out")
    if not 0 <= worker.rank < worker.world_size:
        raise ValueError(f"the rank of this process is {worker.rank}, of {worker.world_size}: ranks are 0 and up")
    return worker if worker.world_size > 1 else None


def _read_number(name: str, environment: Mapping[str, str]) -> int:
    if not environment[name].isdecimal():
        raise ValueError(f"{name} is {environment[name]!r} in the environment: give a number, or unset it")
    return int(environment[name])
