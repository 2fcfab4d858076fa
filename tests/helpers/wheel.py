"""The wheel that pip builds from the checkout, and commands that run outside the checkout."""

import os
import shutil
import subprocess
import sys

from .documents import ROOT

SOURCES = ("wsd_distill", "configs", "tools", "setup.py", "pyproject.toml", "README.md", "LICENSE")


def build_wheel(folder):
    """Build the wheel from a copy of the sources, as a build writes into them; return its path."""
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, source / name)
    pip(sys.executable, "wheel", "--no-deps", "--no-build-isolation", "-w", folder, source)
    (wheel,) = folder.glob("*.whl")
    return wheel


def pip(python, *arguments):
    """Run pip of an interpreter; CalledProcessError if it fails."""
    command = [python, "-m", "pip", arguments[0], "-q", "--disable-pip-version-check", *arguments[1:]]
    subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd="/")


def run_outside(command, cwd, path=""):
    """Run a command in the folder ``cwd`` with ``path`` as the only PYTHONPATH; return the finished process."""
    environment = {**os.environ, "PYTHONPATH": str(path), "OMP_NUM_THREADS": "1"}
    return subprocess.run(list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True)
