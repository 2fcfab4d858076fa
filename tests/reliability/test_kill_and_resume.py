import os
import subprocess
import sys
from pathlib import Path

from helpers.running import ENVIRONMENT


def test_three_kills_change_nothing(tmp_path):
    script = Path(__file__).with_name("kill_and_resume.py")
    command = [
        sys.executable,
        script,
        "--kills",
        "3",
        "--stages",
        "proposals",
        "teacher",
        "stage1",
        "--output",
        tmp_path,
    ]
    done = subprocess.run(
        list(map(str, command)), env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stdout + done.stderr
    rows = [line.split() for line in done.stdout.splitlines()[-3:]]
    assert [row[0] for row in rows] == ["proposals", "teacher", "stage1"]
    assert all(row[-1] == "yes" for row in rows) and sum(int(row[1]) for row in rows) == 3
