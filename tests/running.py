"""Runs a tool as a user does, in a process of its own, with a digit_scenes of a few images."""

import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parent


def run(*arguments, data, check=True, cwd=TESTS.parent):
    """``python <arguments>`` with the data sets in ``data``; unless ``check`` is False it has to succeed."""
    environment = {**os.environ, "DETECTRON2_DATASETS": str(data), "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS / "tools"), str(TESTS.parent)])
    command = [sys.executable, "-W", "ignore", "-m", "small_scenes", *map(str, arguments)]
    done = subprocess.run(command, env=environment, cwd=cwd, capture_output=True, text=True, timeout=240)
    assert not check or done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    return done
