"""The tools as a user runs them, on a few small scenes: both stages, evaluation, resume, two processes, make demo."""

import json
import shutil

import numpy as np
import pytest
import torch
from helpers.running import in_process, run
from omegaconf import OmegaConf
from PIL import Image
from sklearn.metrics import average_precision_score

from wsd_distill.engine.training import choose_weights, nan_to_none
from wsd_distill.io import file_lock
from wsd_distill.modeling.checkpoints.load import hash_state

SMALL = [
    "dataloader.train.total_batch_size=4",
    "train.checkpointer.period=5",
    "train.log_period=1",
    "train.device=cpu",
    "trainer.amp=False",
]


def train(config, output, *overrides, data, check=True, flags=()):
    arguments = ["tools/train_net.py", "--config-file", f"configs/small/{config}.py", *flags]
    return run(*arguments, f"train.output_dir={output}", *SMALL, *overrides, data=data, check=check)


def losses(output, name="total_loss"):
    lines = map(json.loads, (output / "metrics.json").read_text().splitlines())
    return [line[name] for line in lines if name in line]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("datasets")
    config = ["--config-file", "configs/small/teacher.py", "image_proposals.proposer.max_boxes=32"]
    run("tools/generate_proposals.py", *config, "--num-workers", 0, data=folder)
    return folder


def read(output, split="test", file="results.json"):
    """Return the reported mAP of a run, and its scores and labels, (N, K) each."""
    results = json.loads((output / file).read_text())
    with np.load(output / "inference" / split / "scores.npz") as content:
        return results[split]["multilabel"]["mAP"], content["scores"], content["labels"]


def mean_average_precision(scores, labels):
    """Compute mAP in percent with scikit-learn, over the classes that occur in the scenes."""
    held = labels.any(axis=0)
    return 100 * average_precision_score(labels[:, held], scores[:, held], average="macro")


def labels_on_disk(data, split="test"):
    """Return (N, K) labels of the scenes, sorted by id, from the dataset's own file."""
    content = json.loads((data / "digit_scenes_v2" / f"instances_{split}.json").read_text())
    labels = np.zeros((len(content["images"]), 10), int)
    for annotation in content["annotations"]:
        labels[annotation["image_id"], annotation["category_id"]] = 1
    return labels


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folder of one seed, in the layout of tools/reproduce.py."""
    return tmp_path_factory.mktemp("runs") / "seed0"


@pytest.fixture(scope="module")
def teacher(data, runs):
    train("teacher", runs / "teacher", "train.max_iter=40", "optimizer.lr=0.001", data=data)
    return runs / "teacher"


@pytest.fixture(scope="module")
def stages(teacher, data, runs):
    """Stage 1 and stage 2."""
    first, second = runs / "stage1", runs / "stage2"
    common = ["train.max_iter=10", f"distiller.teacher_checkpoint={teacher}/model_final.pth"]
    common.append("trainer.teacher_check.warn_only=True")
    train("stage1", first, *common, data=data)
    train("stage2", second, *common, f"train.init_checkpoint={first}/model_final.pth", data=data)
    return first, second


@pytest.fixture(scope="module")
def student(data, runs):
    """Ten iterations of S-Cls and, resumed, five more: the folder, and the output of the second run."""
    train("student", runs / "student", "train.max_iter=10", data=data)
    flags = ["--resume", "--allow-changes"]
    return runs / "student", train("student", runs / "student", "train.max_iter=15", data=data, flags=flags)


def test_teacher_learns_and_is_evaluated(teacher, data):
    values = losses(teacher)
    assert sum(values[-5:]) < 0.9 * sum(values[:5])
    results = json.loads((teacher / "results.json").read_text())
    assert set(results) == {"val", "test"}
    assert set(results["test"]) == {"multilabel", "localization"}
    assert {"CorLoc", "AP50"} <= set(results["test"]["localization"])
    for split in ("val", "test"):
        found, scores, labels = read(teacher, split)
        np.testing.assert_array_equal(labels, labels_on_disk(data, split))
        assert found == pytest.approx(mean_average_precision(scores, labels))


def test_views_are_averaged_by_an_override_of_one_splits_mapper(teacher, data, tmp_path):
    mapper = "dataloader.test.test.loader.mapper"
    views = [f"{mapper}.tta=True", f"{mapper}.sizes=[128,96]"]
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


def test_both_stages_and_the_content_of_their_checkpoints(stages, data, tmp_path):
    first, second = stages
    assert losses(first, "loss_roi") and losses(second, "loss_hard") and losses(second, "loss_class_aware")
    states = [torch.load(f / "model_final.pth", map_location="cpu", weights_only=True) for f in (first, second)]
    # A head without weights between them; no teacher, no temperatures.
    student = {"backbone", "classifier", "pixel_mean", "pixel_std", "channel_order", "class_names"}
    for state in states:
        names = {key.split(".")[0] for key in state["model"]}
        assert {"class_names" if name.startswith("class_names_") else name for name in names} == student
    assert "loss_class_aware.temperatures.log_t_cls" in states[1]["trainer"]["objectives"]

    # the checkpoint of stage 2 can be evaluated as a plain S-Cls, with the same results
    output = tmp_path / "eval"
    train("student", output, f"train.init_checkpoint={second}/model_final.pth", data=data, flags=["--eval-only"])
    assert read(output, file="evaluation.json")[0] == pytest.approx(read(second)[0], abs=1e-3)


def test_resume_continues_at_the_last_iteration(student):
    output, done = student
    assert "Starting training from iteration 10" in done.stdout
    assert "Resuming with other settings, as of --allow-changes: train.max_iter: 10 -> 15" in done.stdout
    iterations = [json.loads(line)["iteration"] for line in (output / "metrics.json").read_text().splitlines()]
    assert max(iterations) == 15 and len(set(iterations)) >= 15


def test_two_processes_over_gloo(teacher, data, tmp_path):
    """Stage 2: both pass the teacher check, fill the teacher's cache and train; each scene is evaluated once."""
    both, cache = tmp_path / "both", tmp_path / "cache"
    weights = [f"distiller.teacher_checkpoint={teacher}/model_final.pth", f"distiller.cache.folder={cache}"]
    options = [*weights, "trainer.teacher_check.warn_only=True", "train.init_checkpoint=", "train.max_iter=3"]
    done = train("stage2", both, *options, data=data, flags=["--num-gpus", "2"])
    assert "World size: 2" in done.stdout and "the teacher's mAP on 12 images is" in done.stdout
    assert np.load(cache / "logits.index.npy")["input"].all()
    assert len(losses(both, "loss_class_aware")) == 3
    found, scores, labels = read(both)
    np.testing.assert_array_equal(labels, labels_on_disk(data))
    assert found == pytest.approx(mean_average_precision(scores, labels))

    alone = tmp_path / "alone"
    train("student", alone, f"train.init_checkpoint={both}/model_final.pth", data=data, flags=["--eval-only"])
    again, same_scores, _ = read(alone, file="evaluation.json")
    assert again == pytest.approx(found, abs=1e-3)
    np.testing.assert_allclose(same_scores, scores, atol=1e-5)


def test_the_end_of_make_demo(teacher, stages, student, data, runs):
    """Table, speed, figure and page of finished runs."""
    shutil.copytree(student[0], runs / "student_long")
    output, page = runs.parent, runs.parent / "page"
    options = ["--dataset", "digit_scenes", "--seeds", 1, "--output", output, "--print-only", "--report", page]
    printed = run("tools/reproduce.py", *options, data=data).stdout
    table = (output / "table.md").read_text()
    assert table in printed
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines() if line[:1] == "|"]
    folders = [teacher, student[0], runs / "student_long", stages[1]]
    names = ["T-WDet", "S-Cls (w/o)", "S-Cls (w/o), epochs of both stages", "S-Cls (w/)"]
    assert rows[0] == ["method", "mAP", "CF1", "OF1", "CF1-top3", "OF1-top3", "CorLoc", "images/s"]
    assert [row[:2] for row in rows[2:]] == [[name, f"{read(f)[0]:.1f}"] for name, f in zip(names, folders)]
    assert all(float(row[-1]) > 0 for row in rows[2:])
    assert f"S-Cls (w/) minus S-Cls (w/o): {read(stages[1])[0] - read(student[0])[0]:.1f} mAP" in table
    with Image.open(output / "scenes.png") as figure:
        assert figure.width > 1000 and len(figure.convert("RGB").getcolors(1 << 24)) > 1000
    html = (page / "index.html").read_text()
    assert html.count("data:image/png;base64,") == 1
    assert all(name in html for name in (*names, "S-Cls (w/), stage 1")) and "not finished" not in html


def test_a_mistyped_key_stops_before_anything_is_written(data, tmp_path):
    done = train("student", tmp_path / "out", "train.max_itr=5", data=data, check=False)
    assert done.returncode != 0 and "did you mean train.max_iter" in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_stage_before_the_one_it_starts_from_is_an_error_that_writes_nothing(teacher, data, tmp_path):
    weights = [f"distiller.teacher_checkpoint={teacher}/model_final.pth", f"train.init_checkpoint={tmp_path}/none.pth"]
    done = train("stage2", tmp_path / "out", *weights, data=data, check=False)
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert f"{tmp_path}/none.pth does not exist: run the config that writes it first" in done.stderr.splitlines()[-1]


def test_a_teacher_without_a_checkpoint_stops_the_run(data, tmp_path):
    done = train("stage2", tmp_path, "distiller.teacher_checkpoint=none.pth", data=data, check=False)
    assert done.returncode != 0 and "distiller.teacher_checkpoint" in done.stderr


def test_mixed_images_of_a_ranking_loss_are_an_error_before_the_teacher_runs(teacher, data, tmp_path):
    weights, mix = f"distiller.teacher_checkpoint={teacher}/model_final.pth", "dataloader.train.mix.mixup=0.4"
    cache = f"distiller.cache.folder={tmp_path}/cache"
    done = train("soft_labels", tmp_path / "out", weights, mix, cache, "model.loss=zlpr", data=data, check=False)
    assert done.returncode == 2 and not (tmp_path / "cache").exists()
    assert "labels of mixed images are between 0 and 1, and ZlprLoss takes" in done.stderr.splitlines()[-1]


def test_an_evaluation_of_nothing_is_an_error_that_writes_nothing(data, tmp_path):
    done = train("student", tmp_path / "out", "dataloader.test=null", data=data, check=False, flags=["--eval-only"])
    assert done.returncode == 2 and not (tmp_path / "out").exists()
    assert "--eval-only evaluates dataloader.test, which is null" in done.stderr.splitlines()[-1]


def test_a_schedule_that_depends_on_the_validation_loss(data, tmp_path):
    config = tmp_path / "plateau.py"
    config.write_text(
        "from detectron2.config import LazyConfig\n"
        "globals().update(LazyConfig.load('configs/small/student.py'))\n"
        "lr_multiplier = LazyConfig.load('configs/common/train.py').plateau\n"
    )
    never_better = ["lr_multiplier.threshold=0.99", "lr_multiplier.patience=0", "optimizer.lr=0.001"]
    overrides = [f"train.output_dir={tmp_path}/out", *SMALL, "train.max_iter=4", "train.checkpointer.period=2"]
    run("tools/train_net.py", "--config-file", config, *overrides, *never_better, data=data)
    assert losses(tmp_path / "out", "lr") == pytest.approx([1e-3] * 4)
    assert len(losses(tmp_path / "out", "val_loss")) > 0
    state = torch.load(tmp_path / "out" / "model_final.pth", map_location="cpu", weights_only=True)["trainer"]
    assert state["hooks"]["ReduceLROnPlateauHook"]["last_epoch"] == 2
    assert state["optimizer"]["param_groups"][0]["lr"] == pytest.approx(1e-4)


def test_a_plain_student_with_every_option(data, tmp_path):
    """The evaluated and saved weights are the averaged ones; training goes on with others."""
    options = ["model.loss=asymmetric", "model.loss_options={gamma_neg: 2}", "trainer.ema=0.9"]
    options += ["dataloader.train.mapper.color_augment=rand-m9-n2-mstd0.5", "train.max_iter=4", "train.eval_period=2"]
    train("student", tmp_path, *options, data=data)
    content = torch.load(tmp_path / "model_final.pth", map_location="cpu", weights_only=True)
    averaged, raw = content["model"], content["trainer"]["raw_model"]
    assert (averaged["classifier.weight"] - raw["classifier.weight"]).abs().max() > 1e-4
    with np.load(tmp_path / "inference" / "test" / "scores.npz") as scores:
        found = str(scores["weights_digest"])
    digests = [hash_state(state) for state in (averaged, raw)]
    assert found == digests[0] != digests[1]


def test_the_saved_config_trains_and_evaluates_the_same(student, data, tmp_path):
    """Its keys are sorted, "test" before "val"; the threshold of test still comes from val of the same evaluation."""
    folder, _ = student
    config = tmp_path / "config.yaml"
    shutil.copy(folder / "config.yaml", config)
    run("tools/train_net.py", "--eval-only", "--config-file", config, data=data)  # of the run's own weights
    found, expected = (json.loads((folder / f"{name}.json").read_text()) for name in ("evaluation", "results"))
    assert found.pop("weights") == str(folder / "model_final.pth")
    assert list(found) == ["val", "test"]
    for split in found:
        assert found[split]["multilabel"] == pytest.approx(expected[split]["multilabel"], nan_ok=True, abs=1e-4)
    first, second = tmp_path / "first", tmp_path / "second"
    train("student", first, "train.max_iter=3", data=data)
    run("tools/train_net.py", "--config-file", first / "config.yaml", f"train.output_dir={second}", data=data)
    assert losses(first) == losses(second) and len(losses(first)) == 3
    assert read(first)[0] == read(second)[0]


def test_the_weights_that_are_evaluated(tmp_path, caplog):
    """Never those that the config starts from."""
    cfg = OmegaConf.create({"train": {"output_dir": str(tmp_path), "init_checkpoint": "start.pth"}})
    with pytest.raises(FileNotFoundError, match=r"has no weights .*train.init_checkpoint=FILE"):
        choose_weights(cfg, ["train.run=a"])
    for name in ("model_0000004.pth", "model_0000009.pth"):
        (tmp_path / name).touch()
    assert choose_weights(cfg, []) == f"{tmp_path}/model_0000009.pth"
    assert caplog.messages == [f"{tmp_path} is not complete: evaluating its last checkpoint, model_0000009.pth"]
    (tmp_path / "model_final.pth").touch()
    assert choose_weights(cfg, []) == f"{tmp_path}/model_final.pth"
    assert choose_weights(cfg, ["train.init_checkpoint=start.pth"]) == "start.pth"


def test_evaluating_without_a_checkpoint_is_an_error_that_writes_nothing(data, tmp_path):
    done = train("student", tmp_path, data=data, flags=["--eval-only"], check=False)
    assert done.returncode != 0 and "train.init_checkpoint" in done.stderr
    assert not list(tmp_path.glob("*.json"))


@pytest.mark.parametrize("flags", [[], ["--eval-only"]])
def test_a_folder_is_used_by_one_process_at_a_time(data, tmp_path, flags):
    with file_lock(tmp_path / "lock"):
        done = train("student", tmp_path, data=data, check=False, flags=flags)
    assert f"another process is using {tmp_path}: wait for it or stop it" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["lock"]


def test_only_a_complete_run_has_results(data, tmp_path):
    results, config = tmp_path / "results.json", tmp_path / "config.yaml"

    def start(*overrides, flags=(), check=True):
        return train("student", tmp_path, "train.max_iter=2", *overrides, data=data, flags=flags, check=check)

    (tmp_path / "file").touch()
    failing = f"dataloader.test.test.evaluator.output_dir={tmp_path}/file/inside"
    assert start(failing, check=False).returncode != 0 and not results.exists()
    start(flags=["--resume", "--allow-changes"])
    before = results.read_text(), config.read_text()
    weights = f"train.init_checkpoint={tmp_path}/model_final.pth"
    start(weights, "dataloader.test.test.loader.batch_size=3", flags=["--eval-only"])
    assert (results.read_text(), config.read_text()) == before
    assert json.loads((tmp_path / "evaluation.json").read_text())["test"]["multilabel"]["mAP"] > 0
    start("train.max_iter=3", failing, flags=["--resume", "--allow-changes"], check=False)
    assert not results.exists()
    start("train.max_iter=3", "dataloader.test=null", flags=["--resume", "--allow-changes"])
    assert json.loads(results.read_text()) == {}


def snapshot(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in ("log.txt")}


@pytest.mark.parametrize(
    "flags, override, message",
    [
        ([], "train.max_iter=15", "holds a run (results.json): continue it with --resume, set another"),
        (["--resume"], "optimizer.lr=0.5", "was trained with other settings (optimizer.lr: 0.01 -> 0.5"),
        (["--resume"], "train.max_iter=20", "was trained with other settings (train.max_iter: 15 -> 20"),
    ],
)
def test_a_refused_start_changes_nothing(student, capsys, flags, override, message):
    folder, before = student[0], snapshot(student[0])
    words = ["--config-file", "configs/small/student.py", f"train.output_dir={folder}", *SMALL, "train.max_iter=15"]
    with pytest.raises(SystemExit) as ended:
        in_process("tools/train_net.py", *flags, *words, override)
    assert ended.value.code == 2 and message in capsys.readouterr().err.splitlines()[-1]
    assert snapshot(folder) == before


def test_a_complete_run_is_not_trained_again(student, data):
    before = snapshot(student[0])
    options = ["train.max_iter=15", "dataloader.train.num_workers=1"]  # of no effect on the results
    done = train("student", student[0], *options, data=data, flags=["--resume"])
    assert "is complete, nothing to do; --eval-only evaluates it again" in done.stdout
    assert snapshot(student[0]) == before


def test_errors_of_a_training_are_one_line_and_a_traceback_in_the_log(data, tmp_path):
    """The image is read by a loader process."""
    broken = tmp_path / "datasets" / "digit_scenes_v2"
    shutil.copytree(data / "digit_scenes_v2", broken)
    image = sorted((broken / "train").glob("*.*"))[0]
    image.write_bytes(b"")
    limit = ["dataloader.train.max_corrupt_images=0", "dataloader.train.num_workers=1", "train.max_iter=20"]
    done = train("student", tmp_path / "out", *limit, data=tmp_path / "datasets", check=False)
    assert done.returncode == 2 and "Traceback" not in done.stdout + done.stderr
    last = done.stderr.splitlines()[-1]
    assert f"error: {image} cannot be read as an image (EOFError: the file is empty)" in last
    assert last.endswith(f"(traceback: {tmp_path}/out/log.txt)")
    assert "Traceback" in (tmp_path / "out" / "log.txt").read_text()


def test_undefined_metrics_are_null():
    found = {"test": {"multilabel": {"mAP": 50.0, "AP-cat": float("nan"), "n": 3}}, "val": {}, "weights": "a.pth"}
    expected = {"test": {"multilabel": {"mAP": 50.0, "AP-cat": None, "n": 3}}, "val": {}, "weights": "a.pth"}
    assert nan_to_none(found) == expected
