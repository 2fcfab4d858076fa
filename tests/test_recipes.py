"""Every override in the table of docs/recipes.md does what the table says."""

from pathlib import Path

import pytest
import torch
from builders import make_student, make_teacher
from detectron2.config import instantiate

from wsd_distill.data.datasets import register_from

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


def test_all_training_images(released, monkeypatch, forget):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    cfg = released("stage2", ALL_IMAGES)
    register_from(cfg)
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


def test_every_override_of_the_methods_is_understood(load_config):
    rows = [line for line in TEXT.split("| method |")[1].split("\n\n")[0].splitlines()[2:]]
    assert len(rows) == 8
    for row in rows:
        *_, kinds, override = (cell.strip() for cell in row.strip("|").split("|"))
        kind = kinds.split("`")[1]
        wanted = override.split("`")[1].split()
        cfg = load_config(f"coco/{kind}_vgg16_edgeboxes.py", *(x for x in wanted if not x.endswith("=")))
        assert len(instantiate(cfg.distiller.objectives)) == len(cfg.distiller.objectives) - 1


def test_nms_without_weighting(load_config):
    cfg = load_config("coco/stage1_vgg16_edgeboxes.py", "distiller.objectives.loss_roi.weighted=False")
    assert not instantiate(cfg.distiller.objectives)["loss_roi"].weighted


def test_score_weighting(released):
    with torch.device("meta"):
        teacher = instantiate(released("teacher", "model.score_scale=1.0 model.score_shift=0.0").model)
    assert (teacher.score_scale, teacher.score_shift) == (1, 0)
