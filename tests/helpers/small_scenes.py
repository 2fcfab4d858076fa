"""Run a tool with a few images of digit_scenes and without waiting for locks.

python -m helpers.small_scenes tools/train_net.py ...
"""

import runpy
import sys

import wsd_distill  # noqa: F401

# isort: split
from wsd_distill import io
from wsd_distill.data.datasets import digit_scenes

io.LOCK_TIMEOUT = 0.0
digit_scenes.IMAGES.update(train=24, val=12, test=12)

if __name__ == "__main__":
    sys.argv = sys.argv[1:]
    runpy.run_path(sys.argv[0], run_name="__main__")
