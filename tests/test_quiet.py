"""Commands print no warning that a user can do nothing about, in worker processes either."""

import logging
import os
import subprocess
import sys
import warnings

import pytest
from helpers.running import ENVIRONMENT, TESTS, run

from wsd_distill import compat

CPU = ["train.device=cpu", "trainer.amp=False"]
FOREIGN = [  # message, module that raises it
    ("`torch.jit.script` is deprecated. Please switch to `torch.compile` or `torch.export`.", "torch.jit._script"),
    ("`torch.jit.script` is not supported in Python 3.14+ and may break.", "torch.jit._script"),
    ("torch.meshgrid: in an upcoming release, it will be required to pass", "torch.functional"),
    ("TypedStorage is deprecated. It will be removed in the future", "detectron2.utils.comm"),
    ("`torch.cuda.amp.GradScaler(args...)` is deprecated.", "detectron2.engine.train_loop"),
    ("You are using `torch.load` with `weights_only=False`", "fvcore.common.checkpoint"),
    ("pkg_resources is deprecated as an API.", "detectron2.model_zoo.model_zoo"),
]


@pytest.fixture(scope="module")
def generation(tmp_path_factory):
    """Datasets folder, and the finished process that filled it with the help of two workers."""
    folder = tmp_path_factory.mktemp("datasets")
    config = ["--config-file", "configs/small/teacher.py", "--num-workers", 2]
    return folder, run("tools/generate_proposals.py", *config, data=folder)


def test_proposal_workers_raise_no_warning(generation):
    assert "Warning" not in generation[1].stderr


def test_training_on_two_ranks_with_loader_workers_prints_nothing_on_stderr(generation, tmp_path):
    config = ["--config-file", "configs/small/student.py", "--num-gpus", 2, f"train.output_dir={tmp_path}"]
    small = ["train.max_iter=2", "dataloader.train.total_batch_size=4", "dataloader.train.num_workers=1"]
    assert run("tools/train_net.py", *config, *small, *CPU, data=generation[0]).stderr == ""


def test_training_a_detector_prints_nothing_on_stderr(generation, tmp_path):
    config = ["--config-file", "configs/small/faster_rcnn.py", f"train.output_dir={tmp_path}"]
    small = ["train.max_iter=2", "dataloader.train.total_batch_size=2"]
    assert run("tools/train_net.py", *config, *small, *CPU, data=generation[0]).stderr == ""


@pytest.mark.parametrize("tool", ["train_net", "generate_proposals", "predict"])
def test_imports_raise_no_warning(tool):
    command = [sys.executable, "-W", "default", f"tools/{tool}.py", "--help"]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(command, cwd=TESTS.parent, env=environment, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")


def warned(message, module):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        compat.apply()
        for category in (UserWarning, FutureWarning, DeprecationWarning):
            warnings.warn_explicit(message, category, "file.py", 1, module=module)
    return len(caught)


@pytest.mark.parametrize("message, module", FOREIGN)
def test_foreign_warnings_are_hidden(message, module):
    assert warned(message, module) == 0


@pytest.mark.parametrize("message, module", FOREIGN)
def test_all_other_warnings_are_shown(message, module):
    assert warned(message, "wsd_distill.engine.trainer") == 3
    assert warned("the images are too small", module) == 3


def test_only_the_note_about_a_cuda_toolkit_is_dropped_from_the_log():
    logger = logging.getLogger("torch.utils.cpp_extension")
    messages = ["No CUDA runtime is found, using CUDA_HOME='%s'", "the compiler %s is too old"]
    records = [logging.LogRecord(logger.name, logging.WARNING, "file.py", 1, text, ("x",), None) for text in messages]
    assert [bool(logger.filter(record)) for record in records] == [False, True]
