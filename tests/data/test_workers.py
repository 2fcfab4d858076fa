import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.running import is_running, wait_for

from wsd_distill.data.workers import run_jobs

# One worker: its first job returns its process id, its second takes minutes, in small steps.
SCRIPT = """
import signal
from wsd_distill.data.workers import run_jobs

signal.signal(signal.SIGINT, signal.default_int_handler)  # background jobs of a shell ignore SIGINT
get_id = "__import__('os').getpid()"
step = "__import__('time').sleep(0.05) or workers.raise_if_cancelled()"
workers = "__import__('wsd_distill.data.workers', fromlist=['raise_if_cancelled'])"
minutes = f"[{step} for workers in [{workers}] for _ in range(10_000)]"
for result in run_jobs(eval, [(get_id,), (minutes,)], 1):
    print(result, flush=True)
"""


@pytest.mark.parametrize("num_workers", [0, 2])
def test_all_jobs_are_done(num_workers):
    assert sorted(run_jobs(divmod, [(7, 2), (9, 4), (5, 5)], num_workers)) == [(1, 0), (2, 1), (3, 1)]


def test_killed_worker_raises():
    with pytest.raises(RuntimeError, match="a worker process was killed"):
        list(run_jobs(os._exit, [(1,)], 1))


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_worker_ends_with_its_parent(how):
    command = [sys.executable, "-c", SCRIPT]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    worker = int(parent.stdout.readline())
    assert is_running(worker)
    parent.send_signal(how)
    assert parent.wait(timeout=60) != 0
    wait_for(lambda: not is_running(worker), 60)
