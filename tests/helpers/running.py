"""Run tools as a user does; start and watch other processes."""

import os
import runpy
import subprocess
import sys
import time
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent
ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "PYTHONPATH": os.pathsep.join(map(str, filter(None, (TESTS, TESTS.parent, os.environ.get("PYTHONPATH"))))),
}


def run(*arguments, data, check=True, cwd=TESTS.parent):
    """Run ``python <arguments>`` with the datasets in ``data`` and only a few images of digit_scenes.

    Unless ``check`` is False, the command must succeed.
    """
    environment = {**os.environ, **ENVIRONMENT, "DETECTRON2_DATASETS": str(data)}
    command = [sys.executable, "-m", "helpers.small_scenes", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def in_process(tool, *arguments):
    """Run a tool in this process: faster, uses datasets that the test has registered, and raises errors in the test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TESTS.parent)
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        runpy.run_path(tool, run_name="__main__")


def run_two_ranks(program, folder):
    """Run ``python <program> <folder> <rank>`` for ranks 0 and 1 in parallel; both must succeed."""
    command = [sys.executable, program, str(folder)]
    ranks = [subprocess.Popen([*command, str(rank)], env={**os.environ, **ENVIRONMENT}) for rank in (0, 1)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def is_running(process_id):
    """Return whether a process exists and is not a zombie."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
