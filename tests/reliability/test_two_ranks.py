"""SIGTERM to a training of two processes: all end after the same step, and a resume continues bit by bit."""

import os
import subprocess
import sys

import torch
from helpers.running import ENVIRONMENT, TESTS, wait_for

OPTIONS = """
--config-file configs/small/student.py train.max_iter=12 train.batch_size=4 train.checkpointer.period=100
train.eval_period=3 train.log_period=1 train.device=cpu trainer.amp=False dataset.flip_prob=0.5
dataloader.train.mapper.sizes=[32,40] dataloader.test.test.loader.batch_size=4
""".split()


def start(folder, data, *flags):
    environment = {**os.environ, **ENVIRONMENT, "DETECTRON2_DATASETS": str(data)}
    command = [sys.executable, "-m", "helpers.small_scenes", "tools/train_net.py", "--num-gpus", "2", *flags, *OPTIONS]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([*command, f"train.output_dir={folder}"], env=environment, cwd=TESTS.parent, **pipes)


def test_sigterm_and_resume(tmp_path):
    whole, ended = tmp_path / "whole", tmp_path / "ended"
    process = start(whole, tmp_path)
    assert process.communicate(timeout=240)[0] and process.returncode == 0
    process = start(ended, tmp_path)
    try:
        wait_for(lambda: (ended / "log.txt").exists() and "iter: 1 " in (ended / "log.txt").read_text(), 120)
        process.terminate()
        output = process.communicate(timeout=60)[0]
    finally:
        process.kill()
    assert process.returncode == 143, output
    assert "its checkpoint is saved. To continue: start the same command with --resume" in output
    assert "Traceback" not in output and not (ended / "results.json").exists()
    assert (ended / "last_checkpoint").read_text().startswith("model_0")
    process = start(ended, tmp_path, "--resume")
    assert process.communicate(timeout=240)[0] and process.returncode == 0
    ours, expected = (torch.load(f / "model_final.pth", weights_only=True)["model"] for f in (ended, whole))
    assert ours.keys() == expected.keys() and all(torch.equal(ours[name], expected[name]) for name in ours)
    assert (ended / "results.json").read_bytes() == (whole / "results.json").read_bytes()
