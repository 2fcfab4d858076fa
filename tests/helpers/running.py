"""Runs tools as a user does, and other processes that tests look at."""

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
    "PYTHONPATH": os.pathsep.join(map(str, (TESTS, TESTS.parent))),
}


def run(*arguments, data, check=True, cwd=TESTS.parent):
    """``python <arguments>`` with the datasets in ``data`` and a digit_scenes of a few images.

    Unless ``check`` is False it has to succeed.
    """
    environment = {**os.environ, **ENVIRONMENT, "DETECTRON2_DATASETS": str(data)}
    command = [sys.executable, "-m", "helpers.small_scenes", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def in_process(tool, *arguments):
    """The same in this process: quicker, with the datasets that the test registers and the errors that it expects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TESTS.parent)
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        runpy.run_path(tool, run_name="__main__")


def run_two_ranks(program, folder):
    """``python <program> <folder> <rank>`` for the ranks 0 and 1 at once; both have to succeed."""
    command = [sys.executable, program, str(folder)]
    ranks = [subprocess.Popen([*command, str(rank)], env={**os.environ, **ENVIRONMENT}) for rank in (0, 1)]
    try:
        assert [rank.wait(timeout=120) for rank in ranks] == [0, 0]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()


def is_running(process_id):
    """And not merely a zombie that nobody has asked how it ended."""
    try:
        return Path(f"/proc/{process_id}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_for(condition, seconds):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
