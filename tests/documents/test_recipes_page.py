"""Every override in docs/recipes.md is one that the config that it is for takes, and does what the text says."""

import re
from pathlib import Path

import pytest
import torch
from detectron2.config import instantiate
from helpers.builders import make_student, make_teacher
from omegaconf import OmegaConf

from wsd_distill.data.datasets import register_from_config
from wsd_distill.engine import apply_overrides

TEXT = (Path(__file__).parent.parent / "docs" / "recipes.md").read_text()
RATES = "optimizer.params.new_lr_factor=10 optimizer.params.bias_lr_factor=2 optimizer.params.weight_decay_bias=0.0"
ALL_IMAGES = "dataset.train=coco_2014_train_mlc dataset.val=coco_2014_val_mlc"
ALL_REGIONS = "distiller.objectives.loss_roi.nms_thresh=1.0 distiller.objectives.loss_roi.num_proposals=500"
SOFT = "distiller.objectives.loss_class_aware.distance=bce distiller.objectives.loss_class_aware.temperatures=shared"
FILES = {"teacher": "teacher_vgg16_edgeboxes", "student": "student_vgg16"}
FILES.update({stage: f"{stage}_vgg16_edgeboxes" for stage in ("stage1", "stage2")})


@pytest.fixture
def released(load_config):
    """A function: config and the table's override, which has to be in the table -> LazyConfig."""

    def load(kind, override):
        assert f"`{override}` (" in TEXT
        return load_config(f"coco/{FILES[kind]}.py", *override.split())

    return load


def test_no_override_of_the_table_is_left_out():
    rows = [line for line in TEXT.split("| override |")[1].split("\n\n")[0].splitlines() if line.startswith("| ")]
    found = {row.split("`")[-2] for row in rows if "not an option" not in row}
    assert found == {
        RATES,
        ALL_IMAGES,
        ALL_REGIONS,
        SOFT,
        "train.batch_size=28",
        "model.score_scale=1.0 model.score_shift=0.0",
    }


@pytest.mark.parametrize(
    "kind, layer", [("teacher", "det_branch"), ("student", "classifier"), ("stage2", "classifier")]
)
def test_learning_rates(released, kind, layer):
    cfg = released(kind, RATES)
    model = make_teacher() if kind == "teacher" else make_student()
    cfg.optimizer.params.model = model
    groups = {id(p): g for g in instantiate(cfg.optimizer).param_groups for p in g["params"]}
    found = {name: (groups[id(p)]["lr"], groups[id(p)]["weight_decay"]) for name, p in model.named_parameters()}
    assert found["backbone.conv1.0.weight"] == (1e-4, 5e-4)
    assert found["backbone.conv1.0.bias"] == (2e-4, 0)
    assert found[f"{layer}.weight"] == (pytest.approx(1e-3), 5e-4)
    assert found[f"{layer}.bias"] == (pytest.approx(2e-3), 0)


def test_batch_of_stage_2(released):
    cfg = released("stage2", "train.batch_size=28")
    assert instantiate(cfg.dataloader.train.total_batch_size) == 28


def test_all_training_images(released, monkeypatch, restore_catalogs):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    cfg = released("stage2", ALL_IMAGES)
    register_from_config(cfg)
    assert cfg.dataloader.train.dataset == "coco_2014_train_mlc"
    assert cfg.lr_multiplier.loader.dataset == cfg.dataset.test == "coco_2014_val_mlc"
    stores = [instantiate(cfg.proposals[split]) for split in ("train", "val")]
    assert stores == [f"data/proposals/coco_2014_{split}_mlc_edge_boxes.arrow" for split in ("train", "val")]


def test_all_regions_in_stage_1(released):
    objective = instantiate(released("stage1", ALL_REGIONS).distiller.objectives)["loss_roi"]
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(500, 1)  # all the same: at 0.4 one would be left
    kept = objective._keep(boxes, torch.linspace(1, 0, 500))
    assert sorted(kept.tolist()) == list(range(500))


def test_soft_loss_of_stage_2(released):
    objective = instantiate(released("stage2", SOFT).distiller.objectives)["loss_class_aware"]
    assert objective.distance == "bce" and [p.tolist() for p in objective.parameters()] == [[0]] * 3


def overrides_in(text):
    """Code spans of ``key=value`` alone -> [[(key, value), ...], ...], without values of "...", the reader's own."""
    spans = [span.split() for span in re.findall(r"`([^`]+)`", text)]
    whole = [span for span in spans if all(re.fullmatch(r"[a-z_]\w*(\.\w+)*=\S*", word) for word in span)]
    return [[tuple(word.split("=", 1)) for word in span if not word.endswith("=...")] for span in whole]


DATA_SETS = {name: "_vgg16_edgeboxes" for name in ("coco", "nus_wide", "voc")}
DATA_SETS.update({name: "" for name in ("voc5", "image_list", "digit_scenes")})
METHODS = [line.strip("|").split("|") for line in TEXT.split("| method |")[1].split("\n\n")[0].splitlines()[2:]]


def overrides_of_methods():
    """Config file -> overrides in the methods' table; datasets before a code span are those that it is for."""
    found = {}
    for *_, kinds, cell in METHODS:
        parts = cell.split("`")
        named = [[name for name in DATA_SETS if re.search(rf"\b{name}\b", text)] for text in parts[::2]]
        others = [name for name in DATA_SETS if name not in sum(named, [])]
        for names, code in zip(named, parts[1::2]):
            for name in names or others:
                file = f"{name}/{kinds.split('`')[1]}{DATA_SETS[name]}.py"
                found.setdefault(file, []).extend(pair for span in overrides_in(f"`{code}`") for pair in span)
    return found


def arrived(cfg, key):
    """The value where it is read: in the objective, or for all else in the config itself."""
    *path, objective, option = key.split(".")
    if path != ["distiller", "objectives"]:
        return OmegaConf.select(cfg, key)
    found = instantiate(cfg.distiller.objectives[objective])
    if option == "temperatures":
        return {(): "fixed", (1, 1, 1): "shared"}[tuple(map(len, found.parameters()))]
    return found.scalars()["temperature/t_cls"] if option == "initial" else getattr(found, option)


@pytest.mark.parametrize("file, overrides", overrides_of_methods().items())
def test_every_override_of_the_methods_arrives(load_config, file, overrides):
    """One that the config has anyway is of use as a place to change: there another value arrives."""
    cfg = load_config(file, *(["dataset.name=own", "dataset.num_classes=3"] if file.startswith("image_list") else []))
    for key, value in overrides:
        before = OmegaConf.select(cfg, key)
        apply_overrides(cfg, [f"{key}={value}"])
        if OmegaConf.select(cfg, key) == before:
            apply_overrides(cfg, [f"{key}={2 * before}"])
        assert arrived(cfg, key) == OmegaConf.select(cfg, key) != before


def test_the_methods_table_is_read_whole():
    assert len(METHODS) == 8 and all(overrides_in(cell) for *_, cell in METHODS)


def test_every_other_override_of_the_text_is_one_of_the_papers_configs(load_config):
    text = "".join(line for line in re.sub(r"```.*?```", "", TEXT, flags=re.S).splitlines(True) if line[0] != "|")
    pairs = [pair for span in overrides_in(text) for pair in span]
    assert len(pairs) > 10
    cfg = load_config("coco/stage2_vgg16_edgeboxes.py")
    for key, value in pairs:
        assert str(OmegaConf.select(apply_overrides(cfg, [f"{key}={value}"]), key)) == value


def test_score_weighting(released, load_config):
    other = load_config("coco/teacher_vgg16_edgeboxes.py", "model.score_scale=2.0", "model.score_shift=0.5")
    with torch.device("meta"):
        teachers = [
            instantiate(cfg.model)
            for cfg in (released("teacher", "model.score_scale=1.0 model.score_shift=0.0"), other)
        ]
    assert [(teacher.score_scale, teacher.score_shift) for teacher in teachers] == [(1, 0), (2, 0.5)]
