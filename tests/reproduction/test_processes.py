"""No process outlives the one that started it."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.running import is_running, wait_for

SOURCE = Path(__file__).parents[2] / "wsd_distill" / "reproduction" / "processes.py"
SLEEP = """
import os, sys, time
if sys.argv[1]: os.fork()
open(f"pids/{os.getpid()}", "w")
time.sleep(60)
"""
# The module by its file, for importing the package takes seconds.
STARTER = """
import os, runpy, sys, time
from pathlib import Path
module = runpy.run_path(sys.argv[1])
with module["terminate_on_exit"]() as children:
    for name in "ab":
        command = [sys.executable, "-S", "-c", *sys.argv[2:]]
        module["start"](children, command, dict(os.environ), name, Path(name), lambda: None)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc, and Linux alone ends a killed process's children")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_the_one_that_started_it(tmp_path, number):
    """Nor do its own children, such as a loader's workers; after SIGKILL, Linux ends the process itself alone."""
    (tmp_path / "pids").mkdir()
    fork = "" if number == signal.SIGKILL else "fork"
    command = [sys.executable, "-c", STARTER, str(SOURCE), SLEEP, fork]
    heard = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # a shell's background jobs do not hear it
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, preexec_fn=heard)
    wait_for(lambda: len(os.listdir(tmp_path / "pids")) == (4 if fork else 2), 30)
    process.send_signal(number)
    assert process.wait(30) == (143 if number == signal.SIGTERM else -number)
    wait_for(lambda: not any(is_running(pid) for pid in os.listdir(tmp_path / "pids")), 10)
