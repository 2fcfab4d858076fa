"""Runs tools as a user does: in a process of their own, with a digit_scenes of a few images, or in this one."""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent


def run(*arguments, data, check=True):
    """``python <arguments>`` with the data sets in ``data``; unless ``check`` is False it has to succeed."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(data), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS / "tools"), str(TESTS.parent)])
    command = [sys.executable, "-W", "ignore", "-m", "small_scenes", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=TESTS.parent, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done


def in_process(tool, *arguments):
    """The same in this process: quicker, with the data sets that the test registers and the errors that it expects."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(TESTS.parent)
        patch.setattr(sys, "argv", [tool, *map(str, arguments)])
        runpy.run_path(tool, run_name="__main__")
