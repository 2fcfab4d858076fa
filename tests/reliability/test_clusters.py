"""A training that torchrun or srun starts on two machines ends with the weights of ``--num-gpus 2``, bit by bit."""

import os
import socket
import subprocess
import sys

import pytest
import torch
from helpers.running import ENVIRONMENT, TESTS
from PIL import Image

OPTIONS = """
tools/train_net.py --config-file configs/small/student.py dataset.name=colors train.max_iter=2 train.batch_size=4
train.device=cpu trainer.amp=False dataloader.train.mapper.sizes=[32] dataloader.train.num_workers=0
""".split()
pytestmark = pytest.mark.slow

SPLITS = ("train", "val", "test")


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The command for a training on red and blue photos, and the weights of ``--num-gpus 2``."""
    folder = tmp_path_factory.mktemp("colors")
    rows = ["file,labels,split"]
    for i in range(24):
        name = "red" if i % 2 else "blue"
        Image.new("RGB", (40, 30), name).save(folder / f"{i}.jpg")
        rows.append(f"{i}.jpg,{name},{SPLITS[i // 2 % 3]}")
    (folder / "tags.csv").write_text("\n".join(rows) + "\n")
    tool = [*OPTIONS, *(f"dataset.files.{split}={folder}/tags.csv" for split in SPLITS)]
    tool += [f"dataset.split_names.{split}={split}" for split in SPLITS]
    codes, output = finish([start([tool[0], "--num-gpus", "2", *tool[1:], f"train.output_dir={folder}/run"])])
    assert codes == [0], output
    return tool, read_weights(folder / "run")


def read_weights(folder):
    return torch.load(folder / "model_final.pth", weights_only=True)["model"]


def start(command, **environment):
    environment = {**os.environ, **ENVIRONMENT, **environment}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([sys.executable, *command], env=environment, cwd=TESTS.parent, **pipes)


def finish(processes):
    """Wait for processes; return their exit codes and output."""
    try:
        outputs = [process.communicate(timeout=240)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    return [process.returncode for process in processes], "".join(outputs)


@pytest.fixture
def port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def check(folder, expected):
    found = read_weights(folder)
    assert found.keys() == expected.keys() and all(torch.equal(found[name], expected[name]) for name in found)
    assert "Rank of current process: 1. World size: 2" in (folder / "log.txt.rank1").read_text()


def test_torchrun_on_two_machines(expected, port, tmp_path):
    tool, weights = expected
    launcher = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1"]
    launcher += ["--master-addr", "127.0.0.1", "--master-port", port]
    folder = f"train.output_dir={tmp_path}/run"
    machines = [start([*launcher, "--node-rank", rank, *tool, folder]) for rank in "01"]
    codes, output = finish(machines)
    assert codes == [0, 0], output
    check(tmp_path / "run", weights)


def test_srun_with_two_tasks(expected, port, tmp_path):
    tool, weights = expected
    common = {"SLURM_STEP_ID": "0", "SLURM_NTASKS": "2", "SLURM_LOCALID": "0"}
    common.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=port)
    folder = f"train.output_dir={tmp_path}/run"
    codes, output = finish([start([*tool, folder], **common, SLURM_PROCID=rank) for rank in "01"])
    assert codes == [0, 0], output
    check(tmp_path / "run", weights)


def test_two_launchers_are_an_error_of_one_sentence():
    variables = {"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    codes, output = finish([start([OPTIONS[0], "--num-gpus", "2", *OPTIONS[1:]], **variables)])
    message = "error: --num-gpus 2: torchrun has started 2 processes already, one per GPU: leave --num-gpus out"
    assert codes == [2] and output.splitlines()[-1].endswith(message)
