"""The place of a process by the variables of torchrun and srun."""

import os
from argparse import Namespace

import pytest

from wsd_distill.engine.distributed import _choose_gpu
from wsd_distill.engine.environment import Worker, find_worker

TORCHRUN = {"RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "MASTER_ADDR": "node0", "MASTER_PORT": "1234"}
SRUN = {"SLURM_STEP_ID": "0", "SLURM_PROCID": "3", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1", "MASTER_ADDR": "node0"}


def find(environment, num_gpus=1, num_machines=1):
    return find_worker(Namespace(num_gpus=num_gpus, num_machines=num_machines), environment)


def without(environment, *names):
    return {name: value for name, value in environment.items() if name not in names}


def test_torchrun_and_srun():
    assert find(TORCHRUN) == Worker("torchrun", 3, 4, 1, "node0", "1234")
    assert find(SRUN) == Worker("srun", 3, 4, 1, "node0", "29500")
    assert find({**SRUN, "MASTER_PORT": "7"}).port == "7"
    assert find({**SRUN, **TORCHRUN, "RANK": "2"}) == Worker("torchrun", 2, 4, 1, "node0", "1234")


def test_no_launcher_or_one_process():
    assert find({}, num_gpus=2) is find({"MASTER_ADDR": "node0"}) is None
    assert find({**TORCHRUN, "RANK": "0", "WORLD_SIZE": "1"}) is None
    assert find({**SRUN, "SLURM_PROCID": "0", "SLURM_NTASKS": "1"}, num_gpus=8) is None
    assert find(without(SRUN, "SLURM_STEP_ID"), num_gpus=8) is None  # the script of sbatch
    assert find(SRUN, num_gpus=8, num_machines=4) is None  # one task per machine, with Detectron2's launcher


@pytest.mark.parametrize(
    "environment, options, message",
    [
        ({"RANK": "0"}, {}, "RANK set, but not WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT: start with torchrun"),
        (without(TORCHRUN, "RANK"), {}, "WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT set, but not RANK: "),
        (without(SRUN, "SLURM_LOCALID"), {}, "SLURM_STEP_ID is set, but not SLURM_LOCALID: start with srun"),
        (
            without(SRUN, "MASTER_ADDR"),
            {},
            "srun has started 4 tasks, but MASTER_ADDR is not set: before srun, run",
        ),
        (TORCHRUN, {"num_gpus": 2}, "--num-gpus 2: torchrun has started 4 processes already, one per GPU: leave --num"),
        (TORCHRUN, {"num_machines": 2}, "--num-machines 2: torchrun has started 4 processes already"),
        (SRUN, {"num_gpus": 2}, "--num-gpus 2: srun has started 4 processes already"),
        ({**TORCHRUN, "WORLD_SIZE": "two"}, {}, "WORLD_SIZE is 'two' in the environment: give a number"),
        ({**TORCHRUN, "RANK": "4"}, {}, "the rank of this process is 4, of 4"),
    ],
)
def test_wrong_environments(environment, options, message):
    with pytest.raises(ValueError) as caught:
        find(environment, **options)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_pytorch_reads_what_srun_has_set(monkeypatch):
    for name in TORCHRUN:
        monkeypatch.setenv(name, "before")
    find(SRUN).export()
    assert {name: os.environ[name] for name in TORCHRUN} == {**TORCHRUN, "MASTER_PORT": "29500"}


def test_gpus():
    worker = find(TORCHRUN)
    assert _choose_gpu(worker, 2) == 1 and _choose_gpu(find(SRUN), 2) == 1
    assert _choose_gpu(find(SRUN), 1) == 0  # of --gpus-per-task
    with pytest.raises(ValueError, match="process 1 of this machine has no GPU, as 1 are visible: start one process"):
        _choose_gpu(worker, 1)
