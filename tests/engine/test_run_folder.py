"""What a start may do in the folder of a run."""

import json

import pytest
import torch
from detectron2.config import LazyConfig
from omegaconf import OmegaConf

from wsd_distill.engine.run_folder import (
    ChangedConfigError,
    RunExistsError,
    check_start,
    describe_changes,
    describe_inputs,
    drop_later_metrics,
    get_earlier_inputs,
    lock_output_dir,
)
from wsd_distill.modeling.checkpoints.load import CheckpointError


@pytest.fixture
def start(load_config, tmp_path):
    """A function: overrides and options of a start in the folder -> changed settings."""

    def start(*overrides, resume=False, allow_changes=False, config="student", inputs=None):
        inputs = inputs or {"dataset.train": "1a"}
        cfg = load_config(f"small/{config}.py", f"train.output_dir={tmp_path}", *overrides)
        changes = check_start(cfg, inputs, resume=resume, allow_changes=allow_changes)
        LazyConfig.save(cfg, str(tmp_path / "config.yaml"))
        (tmp_path / "inputs.json").write_text(json.dumps(inputs))
        return changes

    return start


@pytest.mark.parametrize("name", ["results.json", "last_checkpoint", "model_0000004.pth", "model_final.pth"])
def test_a_new_start_in_the_folder_of_a_run_is_refused(start, tmp_path, name):
    assert start() == []
    assert start("optimizer.lr=0.5") == []  # the first start has left neither a checkpoint nor results
    (tmp_path / name).write_text("")
    before = (tmp_path / "config.yaml").read_text()
    message = (
        f"{tmp_path} holds a run \\({name}\\): continue it with --resume, set another train.output_dir or train.run"
    )
    with pytest.raises(RunExistsError, match=message):
        start()
    assert (tmp_path / "config.yaml").read_text() == before


def test_a_resume_with_other_settings_is_refused_unless_allowed(start, tmp_path):
    start()
    (tmp_path / "last_checkpoint").write_text("")
    assert start(resume=True) == []
    message = (
        rf"{tmp_path} was trained with other settings \(dataloader.train.mapper.sizes: \[40\] -> \[48\]; "
        r"optimizer.lr: 0.01 -> 0.5; train.epochs: 12 -> 13\): give the old ones, set another train.output_dir, or"
    )
    changed = ["optimizer.lr=0.5", "train.epochs=13", "dataloader.train.mapper.sizes=[48]"]
    with pytest.raises(ChangedConfigError, match=message):
        start(*changed, resume=True)
    assert len(start(*changed, resume=True, allow_changes=True)) == 3
    assert start(*changed, resume=True) == []  # the new ones are saved


def test_a_resume_with_other_labels_or_another_teacher_is_an_error(start, tmp_path):
    start(inputs={"dataset.train": "1a", "distiller.teacher_checkpoint": "2b"})
    (tmp_path / "last_checkpoint").write_text("")
    now = {"dataset.train": "1c", "distiller.teacher_checkpoint": "2d"}
    with pytest.raises(
        ChangedConfigError, match=r"content of dataset.train: 1a -> 1c; content of distiller.*: 2b -> 2d"
    ):
        start(resume=True, inputs=now)
    assert len(start(resume=True, inputs=now, allow_changes=True)) == 2


def test_inputs_are_hashes_of_labels_and_teacher(load_config, tmp_path, monkeypatch):
    records = [{"image_id": 0, "file_name": "a.jpg", "labels": [3]}]
    monkeypatch.setattr("wsd_distill.engine.run_folder.get_dataset_dicts", lambda name: records)
    torch.save({"model": {"w": torch.zeros(2)}}, tmp_path / "teacher.pth")
    cfg = load_config("small/stage2.py", f"distiller.teacher_checkpoint={tmp_path}/teacher.pth")
    before = describe_inputs(cfg)
    assert before == describe_inputs(cfg) and set(before) == {"dataset.train", "distiller.teacher_checkpoint"}
    records[0]["labels"] = [4]
    torch.save({"model": {"w": torch.ones(2)}}, tmp_path / "teacher.pth")
    assert all(before[key] != now for key, now in describe_inputs(cfg).items())


def test_the_start_of_a_penalty_is_an_input(load_config, tmp_path, monkeypatch):
    monkeypatch.setattr("wsd_distill.engine.run_folder.get_dataset_dicts", lambda name: [])
    start, hashes = f"train.init_checkpoint={tmp_path}/start.pth", set()
    for value in (0.0, 1.0):
        torch.save({"model": {"w": torch.full((2,), value)}}, tmp_path / "start.pth")
        assert set(describe_inputs(load_config("small/student.py", start))) == {"dataset.train"}
        cfg = load_config("small/student.py", start, "trainer.start_penalty=0.1")
        hashes.add(describe_inputs(cfg)["train.init_checkpoint"])
    assert len(hashes) == 2


@pytest.mark.parametrize("key", ["teacher_checkpoint", "trunk_checkpoint"])
def test_an_unreadable_teacher_names_its_key(load_config, tmp_path, monkeypatch, key):
    monkeypatch.setattr("wsd_distill.engine.run_folder.get_dataset_dicts", lambda name: [])
    torch.save({"model": {"w": torch.zeros(2)}}, tmp_path / "sound.pth")
    (tmp_path / "damaged.pth").write_bytes(b"nothing")
    files = {"teacher_checkpoint": tmp_path / "sound.pth", "trunk_checkpoint": tmp_path / "sound.pth"}
    files[key] = tmp_path / "damaged.pth"
    cfg = load_config("small/stage2.py", *(f"distiller.{name}={file}" for name, file in files.items()))
    with pytest.raises(CheckpointError, match=f"^distiller.{key}: {tmp_path}/damaged.pth is truncated"):
        describe_inputs(cfg)


def test_the_hash_of_a_teacher_is_of_its_weights_and_not_of_its_file(load_config, tmp_path, monkeypatch):
    monkeypatch.setattr("wsd_distill.engine.run_folder.get_dataset_dicts", lambda name: [])
    hashes = []
    for name in ("first.pth", "second.pth"):  # torch.save writes the name of the file into it
        torch.save({"model": {"w": torch.zeros(2)}}, tmp_path / name)
        cfg = load_config("small/stage2.py", f"distiller.teacher_checkpoint={tmp_path}/{name}")
        hashes.append(describe_inputs(cfg)["distiller.teacher_checkpoint"])
    assert hashes[0] == hashes[1]
    assert (tmp_path / "first.pth").read_bytes() != (tmp_path / "second.pth").read_bytes()


@pytest.mark.parametrize(
    "override",
    [
        "train.log_period=1",
        "train.checkpointer.period=5",
        "train.checkpointer.max_to_keep=3",
        "train.eval_period=7",
        "train.device=cuda",
        "dataloader.train.num_workers=3",
        "train.run=other",
        "dataloader.test.val.evaluator.output_dir=elsewhere",
    ],
)
def test_settings_that_change_no_result_may_differ(start, tmp_path, override):
    start()
    (tmp_path / "last_checkpoint").write_text("")
    assert start(override, resume=True) == []


def test_a_value_that_follows_a_harmless_one_is_listed():
    """The plateau schedule validates at every checkpoint."""
    configs = [
        {"train": {"checkpointer": {"period": n}}, "lr": {"period": "${train.checkpointer.period}"}} for n in (1, 2)
    ]
    assert describe_changes(*configs) == ["lr.period: 1 -> 2"]
    assert describe_changes(configs[0], configs[0]) == []
    assert describe_changes({"a": {"b": 1}}, {"a": {"c": [1, {"d": 2}]}}) == [
        "a.b: 1 -> not set",
        "a.c.0: not set -> 1",
        "a.c.1.d: not set -> 2",
    ]


def test_a_damaged_or_missing_config_is_named(start, tmp_path):
    start()
    (tmp_path / "last_checkpoint").write_text("")
    for content in ("a: [", "- 1", "x: 1"):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(
            ValueError, match=rf"{tmp_path}/config.yaml or inputs.json of the run to resume cannot be read .*--allow-ch"
        ):
            start(resume=True)
    (tmp_path / "config.yaml").unlink()
    with pytest.raises(ValueError, match="cannot be read .*No such file"):
        start(resume=True)
    assert start(resume=True, allow_changes=True)


def test_a_saved_config_runs_no_code(start, tmp_path):
    start()
    (tmp_path / "last_checkpoint").write_text("")
    path = tmp_path / "config.yaml"
    path.write_text(path.read_text() + f"x: !!python/object/apply:os.mkdir ['{tmp_path}/made']\n")
    with pytest.raises(ChangedConfigError, match="x: .*os.mkdir .* -> not set"):
        start(resume=True)
    assert not (tmp_path / "made").exists()


def test_a_random_seed_is_saved_and_kept(start, tmp_path):
    start("train.seed=-1")
    seed = OmegaConf.load(tmp_path / "config.yaml").train.seed
    assert seed >= 0
    (tmp_path / "last_checkpoint").write_text("")
    assert start("train.seed=-1", resume=True) == []
    assert OmegaConf.load(tmp_path / "config.yaml").train.seed == seed


def test_metrics_of_iterations_that_are_run_again_are_removed(tmp_path):
    drop_later_metrics(str(tmp_path), 0)
    assert not list(tmp_path.iterdir())
    lines = [json.dumps({"iteration": i, "loss": 1.0}) for i in range(4)]
    path = tmp_path / "metrics.json"
    path.write_text("\n".join([*lines, '{"iteration": 4, "lo']))
    drop_later_metrics(str(tmp_path), 3)
    assert path.read_text().splitlines() == lines[:3]


def test_a_run_removes_temporary_files_of_a_killed_one(tmp_path):
    """Also of a checkpoint that is never written again."""
    for name in ("model_0000122.pth.0a1b2c3d.tmp", "model_0000122.pth.backup.tmp"):
        (tmp_path / name).write_text("half")
    with lock_output_dir(str(tmp_path)):
        assert sorted(path.name for path in tmp_path.iterdir()) == ["lock", "model_0000122.pth.backup.tmp"]


def test_labels_of_before_a_change_are_kept(tmp_path):
    path, now = tmp_path / "inputs.json", {"dataset.train": "c", "train.init_checkpoint": "d"}
    assert get_earlier_inputs(path, now) == {}
    for before, earlier in (("c", {}), ("b", {"earlier": "b"})):
        path.write_text(json.dumps({"dataset.train": before, "train.init_checkpoint": "other weights"}))
        assert get_earlier_inputs(path, now) == earlier
    path.write_text(json.dumps({"dataset.train": "b", "earlier": "a"}))
    assert get_earlier_inputs(path, now) == {"earlier": "a b"}
    path.write_text(json.dumps({"dataset.train": "c", "earlier": "a b"}))
    assert get_earlier_inputs(path, now) == {"earlier": "a b"}
