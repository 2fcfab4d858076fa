"""The tools as a user runs them, on a few small scenes: both stages, evaluation, resume, two processes."""

import json
import runpy

import numpy as np
import pytest
import torch
from running import TESTS, run

from wsd_distill.files import locked

SMALL = [
    "dataloader.train.total_batch_size=4",
    "train.checkpointer.period=5",
    "train.log_period=1",
    "train.device=cpu",
    "trainer.amp=False",
]


def train(config, output, *overrides, data, check=True, flags=()):
    arguments = ["tools/train_net.py", "--config-file", f"configs/digit_scenes/{config}.py", *flags]
    return run(*arguments, f"train.output_dir={output}", *SMALL, *overrides, data=data, check=check)


def losses(output, name="total_loss"):
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    splits = [f"digit_scenes_{split}" for split in ("train", "val", "test")]
    run("tools/generate_proposals.py", "--dataset", *splits, "--max-boxes", 32, "--num-workers", 0, data=folder)
    return folder


@pytest.fixture(scope="module")
def teacher(data, tmp_path_factory):
    output = tmp_path_factory.mktemp("teacher")
    train("teacher", output, "train.max_iter=40", "optimizer.lr=0.001", data=data)
    return output


def test_teacher_learns_and_is_evaluated(teacher):
    values = losses(teacher)
    assert sum(values[-5:]) < 0.9 * sum(values[:5])
    results = json.loads((teacher / "results.json").read_text())
    assert set(results) == {"val", "test"}
    assert set(results["test"]) == {"multilabel", "localization"}
    assert 0 < results["test"]["multilabel"]["mAP"] <= 100
    assert 0 <= results["test"]["localization"]["CorLoc"] <= 100


def test_views_are_averaged_by_an_override_of_one_splits_mapper(teacher, data, tmp_path):
    mapper = "dataloader.test.test.loader.mapper"
    views = [f"{mapper}.average_views=True", f"{mapper}.sides=[128,96]"]
    train(
        "teacher",
        tmp_path,
        f"train.init_checkpoint={teacher}/model_final.pth",
        *views,
        data=data,
        flags=["--eval-only"],
    )
    folders = [folder / "inference" for folder in (teacher, tmp_path)]
    val, test = ([np.load(f / split / "scores.npz")["scores"] for f in folders] for split in ("val", "test"))
    assert np.abs(val[0] - val[1]).max() < 1e-5 and np.abs(test[0] - test[1]).max() > 1e-4


def test_both_stages_and_what_their_checkpoints_hold(teacher, data, tmp_path):
    weights = f"distiller.teacher_checkpoint={teacher}/model_final.pth"
    poor = "trainer.gate.allow_poor=True"
    first, second = tmp_path / "stage1", tmp_path / "stage2"
    train("stage1", first, "train.max_iter=10", weights, poor, data=data)
    init = f"train.init_checkpoint={first}/model_final.pth"
    train("stage2", second, "train.max_iter=10", weights, poor, init, data=data)
    assert losses(first, "loss_roi") and losses(second, "loss_hard") and losses(second, "loss_class_aware")
    states = [torch.load(f / "model_final.pth", map_location="cpu", weights_only=True) for f in (first, second)]
    student = {
        "backbone",
        "classifier",
        "pixel_mean",
        "pixel_std",
        "channel_order",
    }  # a head without weights between them; no teacher, no temperatures
    assert all({key.split(".")[0] for key in state["model"]} == student for state in states)
    assert "loss_class_aware.temperatures.log_t_cls" in states[1]["trainer"]["objectives"]

    # the file of stage 2 is one of a plain S-Cls, with the same figures
    output = tmp_path / "eval"
    train("student", output, f"train.init_checkpoint={second}/model_final.pth", data=data, flags=["--eval-only"])
    files = (output / "evaluation.json", second / "results.json")
    ours, theirs = (json.loads(file.read_text())["test"]["multilabel"] for file in files)
    assert ours["mAP"] == pytest.approx(theirs["mAP"], abs=1e-3)


def test_resume_goes_on_where_it_was(data, tmp_path):
    train("student", tmp_path, "train.max_iter=10", data=data)
    done = train("student", tmp_path, "train.max_iter=15", data=data, flags=["--resume"])
    assert "Starting training from iteration 10" in done.stdout
    iterations = [json.loads(line)["iteration"] for line in (tmp_path / "metrics.json").read_text().splitlines()]
    assert max(iterations) == 15 and len(set(iterations)) >= 15


def test_two_processes_over_gloo(data, tmp_path):
    done = train("student", tmp_path, "train.max_iter=5", data=data, flags=["--num-gpus", "2"])
    assert "World size: 2" in done.stdout
    assert set(json.loads((tmp_path / "results.json").read_text())) == {"val", "test"}


def test_a_mistyped_key_stops_before_anything_is_written(data, tmp_path):
    done = train("student", tmp_path / "out", "train.max_itr=5", data=data, check=False)
    assert done.returncode != 0 and "did you mean train.max_iter" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_teacher_without_a_checkpoint_stops_the_run(data, tmp_path):
    done = train("stage2", tmp_path, "distiller.teacher_checkpoint=none.pth", data=data, check=False)
    assert done.returncode != 0 and "distiller.teacher_checkpoint" in done.stderr


def test_a_schedule_that_looks_at_the_validation_loss(data, tmp_path):
    config = tmp_path / "plateau.py"
    config.write_text(
        "from detectron2.config import LazyConfig\n"
        "globals().update(LazyConfig.load('configs/digit_scenes/student.py'))\n"
        "lr_multiplier = LazyConfig.load('configs/common/optim.py').plateau\n"
    )
    never_better = ["lr_multiplier.threshold=0.99", "lr_multiplier.patience=0", "optimizer.lr=0.001"]
    overrides = [f"train.output_dir={tmp_path}/out", *SMALL, "train.max_iter=4", "train.checkpointer.period=2"]
    run("tools/train_net.py", "--config-file", config, *overrides, *never_better, data=data)
    assert losses(tmp_path / "out", "lr") == pytest.approx([1e-3] * 4)
    assert len(losses(tmp_path / "out", "val_loss")) > 0
    state = torch.load(tmp_path / "out" / "model_final.pth", map_location="cpu", weights_only=True)["trainer"]
    assert state["hooks"]["LowerOnPlateau"]["last_epoch"] == 2
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)


def test_evaluating_without_a_checkpoint_is_an_error_that_writes_nothing(data, tmp_path):
    done = train("student", tmp_path, data=data, flags=["--eval-only"], check=False)
    assert done.returncode != 0 and "train.init_checkpoint" in done.stderr
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_a_folder_takes_one_process_at_a_time(data, tmp_path, flags):
    with locked(tmp_path / "lock"):
        done = train("student", tmp_path, data=data, check=False, flags=flags)
    assert f"another process is at work in {tmp_path}: wait for it or stop it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_only_a_complete_run_has_results(data, tmp_path):
    results, marked = tmp_path / "results.json", '{"of": "an older run"}'

    def start(*overrides, flags=(), check=True):
        results.write_text(marked)
        return train("student", tmp_path, "train.max_iter=2", *overrides, data=data, flags=flags, check=check)

    assert start("dataloader.test=null", check=False).returncode != 0 and not results.exists()
    weights = f"train.init_checkpoint={tmp_path}/model_final.pth"
    start(weights, flags=["--eval-only"])
    assert results.read_text() == marked
    assert json.loads((tmp_path / "evaluation.json").read_text())["test"]["multilabel"]["mAP"] > 0
    broken = start("dataloader.test.test.evaluator.dataset_name=none", flags=["--resume"], check=False)
    assert broken.returncode != 0 and results.read_text() == marked  # complete, though not evaluated once more
    start("train.max_iter=3", "dataloader.test=null", flags=["--resume"], check=False)
    assert not results.exists()


def test_what_is_undefined_is_null():
    train_net = runpy.run_path(str(TESTS.parent / "tools" / "train_net.py"))
    found = {"test": {"multilabel": {"mAP": 50.0, "AP-cat": float("nan"), "n": 3}}, "val": {}}
    assert train_net["without_nan"](found) == {"test": {"multilabel": {"mAP": 50.0, "AP-cat": None, "n": 3}}, "val": {}}
