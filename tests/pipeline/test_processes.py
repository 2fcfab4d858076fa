"""Child processes end with their parent."""

import os
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from helpers.running import is_running, wait_for

SOURCE = Path(__file__).parents[2] / "wsd_distill" / "pipeline" / "processes.py"
SLEEP = """
import os, sys, time
if sys.argv[1]: os.fork()
open(f"pids/{os.getpid()}", "w")
time.sleep(60)
"""
# Loads the module from its file, because importing the package takes seconds.
STARTER = """
import os, runpy, sys, time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
module = runpy.run_path(sys.argv[1])
with ThreadPoolExecutor(2) as executor, module["ChildProcesses"]() as children:
    for name in "ab":
        process = children.start([sys.executable, "-S", "-c", *sys.argv[2:]], dict(os.environ))
        executor.submit(module["follow"], process, name, Path(name))
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc and prctl")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_child_processes_end_with_their_parent(tmp_path, number):
    """Their own children too, such as a loader's workers. After SIGKILL Linux ends direct children only."""
    (tmp_path / "pids").mkdir()
    fork = "" if number == signal.SIGKILL else "fork"
    command = [sys.executable, "-c", STARTER, str(SOURCE), SLEEP, fork]
    reset = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)  # background jobs of a shell ignore it
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL, preexec_fn=reset)
    wait_for(lambda: len(os.listdir(tmp_path / "pids")) == (4 if fork else 2), 30)
    process.send_signal(number)
    assert process.wait(30) == (143 if number == signal.SIGTERM else -number)
    wait_for(lambda: not any(is_running(pid) for pid in os.listdir(tmp_path / "pids")), 10)
