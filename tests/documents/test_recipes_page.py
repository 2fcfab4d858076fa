"""Every override in docs/recipes.md: its config accepts it, and it has the described effect."""

import re

import pytest
import torch
from detectron2.config import instantiate
from helpers.builders import make_student, make_teacher
from helpers.documents import ROOT
from omegaconf import OmegaConf

from wsd_distill.engine import apply_overrides

TEXT = (ROOT / "docs" / "recipes.md").read_text()
RATES = "optimizer.params.new_lr_factor=10 optimizer.params.bias_lr_factor=2 optimizer.params.weight_decay_bias=0.0"
ALL_IMAGES = "dataset.train=coco_2014_train_mlc dataset.val=coco_2014_val_mlc"
ALL_REGIONS = "distiller.objectives.loss_roi.nms_thresh=1.0 distiller.objectives.loss_roi.num_proposals=500"
SOFT = "distiller.objectives.loss_class_aware.distance=bce distiller.objectives.loss_class_aware.temperatures=shared"


@pytest.fixture
def released(load_config):
    """A function: config and an override, which must be in the table -> config."""

    def load(kind, override):
        assert f"`{override}` (" in TEXT
        return load_config(f"vgg16/{kind}.py", "dataset.name=coco_2014", *override.split())

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


def test_all_training_images(released, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    cfg = released("stage2", ALL_IMAGES)
    assert cfg.dataloader.train.dataset == "coco_2014_train_mlc"
    assert cfg.lr_multiplier.loader.dataset == cfg.dataset.test == "coco_2014_val_mlc"
    stores = [instantiate(cfg.proposals[split]) for split in ("train", "val")]
    assert stores == [f"data/proposals/coco_2014_{split}_mlc_edge_boxes.arrow" for split in ("train", "val")]


def test_all_regions_in_stage_1(released):
    objective = instantiate(released("stage1", ALL_REGIONS).distiller.objectives)["loss_roi"]
    boxes = torch.tensor([[0.0, 0, 10, 10]]).repeat(500, 1)  # equal boxes: at 0.4 one would be left
    kept = objective._select_proposals(boxes, torch.linspace(1, 0, 500))
    assert sorted(kept.tolist()) == list(range(500))


def test_soft_loss_of_stage_2(released):
    objective = instantiate(released("stage2", SOFT).distiller.objectives)["loss_class_aware"]
    assert objective.distance == "bce" and [p.tolist() for p in objective.parameters()] == [[0]] * 3


def overrides_in(text):
    """Code spans that have only ``key=value`` -> [[(key, value), ...], ...]; the value "..." is left out."""
    spans = [span.split() for span in re.findall(r"`([^`]+)`", text)]
    overrides = [span for span in spans if all(re.fullmatch(r"[a-z_]\w*(\.\w+)*=\S*", word) for word in span)]
    return [[tuple(word.split("=", 1)) for word in span if not word.endswith("=...")] for span in overrides]


DATASETS = {"vgg16": "coco_2014", "efficientnet_lite0": "voc5", "small": "digit_scenes"}  # recipe -> dataset
METHODS = [line.strip("|").split("|") for line in TEXT.split("| method |")[1].split("\n\n")[0].splitlines()[2:]]


def overrides_of_methods():
    """(recipe, config) -> overrides of the methods' table; recipe names before a code span restrict it to them."""
    found = {}
    for *_, kinds, cell in METHODS:
        parts = cell.split("`")
        named = [[name for name in DATASETS if re.search(rf"\b{name}\b", text)] for text in parts[::2]]
        others = [name for name in DATASETS if not any(name in names for names in named)]
        for names, code in zip(named, parts[1::2]):
            for name in names or others:
                pairs = [pair for span in overrides_in(f"`{code}`") for pair in span]
                found.setdefault((name, kinds.split("`")[1]), []).extend(pairs)
    return [(*key, overrides) for key, overrides in found.items()]


def used_value(cfg, key):
    """Return the value that is used: of the objective, or of the config for all other keys."""
    *path, objective, option = key.split(".")
    if path != ["distiller", "objectives"]:
        return OmegaConf.select(cfg, key)
    found = instantiate(cfg.distiller.objectives[objective])
    if option == "temperatures":
        return {(): "fixed", (1, 1, 1): "shared"}[tuple(map(len, found.parameters()))]
    return found.scalars()["temperature/t_cls"] if option == "initial" else getattr(found, option)


@pytest.mark.parametrize("recipe, kind, overrides", overrides_of_methods())
def test_every_override_of_the_methods_has_an_effect(load_config, recipe, kind, overrides):
    """An override that equals the config shows where to set another value: then another value is tried."""
    cfg = load_config(f"{recipe}/{kind}.py", f"dataset.name={DATASETS[recipe]}")
    for key, value in overrides:
        before = OmegaConf.select(cfg, key)
        apply_overrides(cfg, [f"{key}={value}"])
        if OmegaConf.select(cfg, key) == before:
            apply_overrides(cfg, [f"{key}={2 * before}"])
        assert used_value(cfg, key) == OmegaConf.select(cfg, key) != before


def test_all_rows_of_the_methods_table_are_read():
    assert len(METHODS) == 15 and all(overrides_in(cell) for *_, cell in METHODS)


def test_every_other_override_of_the_text_is_accepted(load_config):
    text = "".join(line for line in re.sub(r"```.*?```", "", TEXT, flags=re.S).splitlines(True) if line[0] != "|")
    pairs = [pair for span in overrides_in(text) for pair in span]
    assert len(pairs) > 10
    cfg = load_config("vgg16/stage2.py", "dataset.name=coco_2014")
    for key, value in pairs:
        assert str(OmegaConf.select(apply_overrides(cfg, [f"{key}={value}"]), key)).replace(" ", "") == value


@pytest.mark.parametrize("kind", ["teacher", "student", "stage1", "stage2", "l2d", "feature_distillation"])
def test_the_papers_geometry_has_the_same_overrides_in_every_config(load_config, kind):
    """Cells of S-Cls and T-WDet, and bins, as the text says: 14, 42 and 7."""
    table = TEXT.split("| option | default | paper |")[1].split("\n\n")[0]
    overrides = [f"{key}={value}" for span in overrides_in(table) for key, value in span]
    assert len(overrides) == 5 and f"--opts {' '.join(overrides)}" in TEXT
    cfg = load_config(f"efficientnet_lite0/{kind}.py", "dataset.name=voc5", *overrides)
    stride = int(cfg.model.in_feature.removeprefix("stride"))
    cells = [size // stride for size in cfg.dataloader.train.mapper.sizes]
    assert cells == ([42] if kind == "teacher" else [14])
    teacher = cfg.model
    if "distiller" in cfg:
        teacher = cfg.distiller.teacher
        assert list(cfg.dataloader.train.mapper.teacher_sizes) == [672]
    assert kind == "student" or (teacher.in_feature, teacher.pooler_size) == ("stride16", 7)
    if kind == "stage1":
        roi = cfg.distiller.objectives.loss_roi
        assert [(pair.teacher, pair.student) for pair in roi.layers] == [("stride16", "stride16")]
        assert roi.pooler_size == 7


def test_score_weighting(released, load_config):
    overrides = ["model.score_scale=2.0", "model.score_shift=0.5"]
    other = load_config("vgg16/teacher.py", "dataset.name=coco_2014", *overrides)
    with torch.device("meta"):
        teachers = [
            instantiate(cfg.model)
            for cfg in (released("teacher", "model.score_scale=1.0 model.score_shift=0.0"), other)
        ]
    assert [(teacher.score_scale, teacher.score_shift) for teacher in teachers] == [(1, 0), (2, 0.5)]
