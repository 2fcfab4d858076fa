"""Every config that can be run: it loads, and what it describes can be built without data on disk."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from helpers.builders import own_images

from wsd_distill.data.datasets import register_from_config
from wsd_distill.engine import ReduceLROnPlateauHook
from wsd_distill.proposals.generators.detector import Detector
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes
from wsd_distill.proposals.image_proposals import ImageProposals

ROOT = Path(__file__).parent.parent / "configs"
PARTS = {"common", "yaml"}
RUNS = sorted(
    str(path.relative_to(ROOT))
    for path in ROOT.glob("*/*.py")
    if path.parent.name not in PARTS and path.stem not in ("data", "models", "faster_rcnn")  # test_faster_rcnn.py
)
PAPER = ["coco", "nus_wide", "voc"]
METHODS = ["soft_labels", "fitnets_hint", "fitnets", "attention_transfer"]
EPOCH = {"coco": 80_000 / 32, "nus_wide": 148_000 / 32, "voc": 4_480 / 32}


@pytest.fixture
def load(load_config, tmp_path, restore_catalogs):
    def load(name, *overrides):
        if name.startswith("image_list/"):
            (tmp_path / "pets.csv").write_text("file,labels\n0.png,cat;dog\n")
            overrides = [*own_images(tmp_path / "pets.csv"), *overrides]
        cfg = load_config(name, *overrides)
        register_from_config(cfg)
        return cfg

    return load


def build(model):
    """On no device; timm's networks are tried out when they are built, which takes a real one."""
    with torch.device("cpu" if "timm" in str(model.backbone._target_) else "meta"):
        return instantiate(model)


def test_all_configs_are_there():
    files = [
        f"{kind}_vgg16_{way}.py" for kind in ("teacher", "stage1", "stage2") for way in ("edgeboxes", "fasterrcnn")
    ]
    files += [f"{kind}_vgg16_edgeboxes.py" for kind in METHODS]
    wanted = {f"{name}/{file}" for name in PAPER for file in [*files, "student_vgg16.py"]}
    small = ("digit_scenes", "image_list", "voc5")
    wanted |= {f"{name}/{kind}.py" for name in small for kind in ("teacher", "student", "stage1", "stage2", *METHODS)}
    assert set(RUNS) == wanted


@pytest.mark.parametrize("name", RUNS)
def test_everything_but_the_data_can_be_built(load, name):
    cfg = load(name)
    model = build(cfg.model)
    cfg.optimizer.params.model = model
    trained = sum(len(group["params"]) for group in instantiate(cfg.optimizer).param_groups)
    assert trained == len([p for p in model.parameters() if p.requires_grad]) > 4
    K = instantiate(cfg.dataset.num_classes)
    mappers = [cfg.dataloader.train.mapper, *(test.loader.mapper for test in cfg.dataloader.test.values())]
    assert [(m.num_classes, m.image_format) for m in map(instantiate, mappers)] == [(K, model.image_format)] * len(
        mappers
    )
    if Path(name).stem in ("teacher", "teacher_vgg16_edgeboxes"):
        assert_finds_what_its_loaders_read(model.proposer, cfg)
    if "distiller" in cfg:
        teacher, objectives = build(cfg.distiller.teacher), instantiate(cfg.distiller.objectives)
        assert (teacher.num_classes, teacher.image_format) == (K, model.image_format)
        assert all(loss.startswith("loss_") for loss in objectives)
        with torch.device("meta"):
            for objective in objectives.values():
                objective.build(model.backbone.output_shape(), teacher.backbone.output_shape())
        assert all(model.get_submodule(name) for name in cfg.distiller.frozen)


def assert_finds_what_its_loaders_read(proposer, cfg):
    """Photos of no dataset: proposals of the stores' generator, as many as the mapper takes."""
    assert isinstance(proposer, ImageProposals) and isinstance(proposer.proposer, EdgeBoxes)
    assert proposer.proposer.name == cfg.proposals.method
    mapper = cfg.dataloader.test.test.loader.mapper
    assert (proposer.num_proposals, proposer.image_format) == (mapper.num_proposals, cfg.model.image_format)
    assert proposer.proposer.max_boxes >= proposer.num_proposals


@pytest.mark.parametrize("name", PAPER)
def test_on_image_of_a_detectors_t_wdet_is_the_detector_once_it_is_named(load, tmp_path, name):
    cfg = load(f"{name}/teacher_vgg16_fasterrcnn.py")
    assert cfg.model.proposer is None
    LazyConfig.save(cfg, str(tmp_path / "config.yaml"))  # as a training does, which needs no detector
    assert "detector.Detector" in (tmp_path / "config.yaml").read_text()
    named = [
        "model.proposer=${image_proposals}",
        "image_proposals.proposer.config=a.yaml",
        "image_proposals.proposer.weights=a.pth",
    ]
    found = load(f"{name}/teacher_vgg16_fasterrcnn.py", *named, "image_proposals.proposer.opts=[A,0.0]").model.proposer
    assert (found._target_, found.num_proposals, found.image_format) == (ImageProposals, 100, "BGR")
    assert found.proposer._target_ == Detector
    assert (found.proposer.config, found.proposer.weights, found.proposer.opts) == ("a.yaml", "a.pth", ["A", 0.0])


@pytest.mark.parametrize(
    "kind, reading", [("teacher", "all"), ("student", "none"), ("stage1", "train"), ("stage2", "train")]
)
def test_which_loaders_read_the_proposals_of_their_split(load, kind, reading):
    """T-WDet's all do; S-Cls is trained, without distillation, and tested without any."""
    for name in (name for name in RUNS if Path(name).stem.split("_")[0] == kind):
        cfg = load(name)
        loaders = {"train": cfg.dataloader.train, **{split: test.loader for split, test in cfg.dataloader.test.items()}}
        for split, loader in loaders.items():
            wanted = reading in ("all", split)
            assert instantiate(loader.proposals) == (instantiate(cfg.proposals[split]) if wanted else None), (
                name,
                split,
            )


@pytest.mark.parametrize("name", ["coco/teacher_vgg16_edgeboxes", "digit_scenes/teacher", "image_list/teacher"])
def test_how_many_detections_an_image_has_can_be_set(load, name):
    cfg = load(f"{name}.py", "model.test_topk_per_image=7")
    assert build(cfg.model).test_topk_per_image == 7


@pytest.mark.parametrize("name", PAPER)
def test_numbers_of_section_3_3(load, name):
    for kind in ("teacher", "student", "stage1", "stage2"):
        cfg = load(f"{name}/{kind}_vgg16{'' if kind == 'student' else '_edgeboxes'}.py")
        assert instantiate(cfg.dataloader.train.total_batch_size) * cfg.trainer.accumulate == 32
        assert (cfg.optimizer.momentum, cfg.optimizer.weight_decay) == (0.9, 5e-4)
        assert cfg.optimizer.lr == (1e-5 if kind == "stage1" else 1e-4)
        mapper = cfg.dataloader.train.mapper
        assert mapper.sides == ([480, 576, 672, 736, 832] if kind == "teacher" else [224])
        assert mapper.flip_prob == 0.5
        assert mapper.teacher_sizes == ([672] if kind.startswith("stage") else None)
        assert mapper.num_proposals == 500
        assert cfg.train.checkpointer.period == EPOCH[name]
        if kind == "stage1":
            assert cfg.train.max_iter == 100 * EPOCH[name]
            assert [instantiate(cfg.lr_multiplier)(where) for where in (0.0, 0.3, 1.0)] == [1, 1, 1]
        else:
            assert cfg.lr_multiplier.loader.dataset == cfg.dataset.val
            cfg.lr_multiplier.loader = []
            plateau = instantiate(cfg.lr_multiplier)
            assert isinstance(plateau, ReduceLROnPlateauHook)
            assert (plateau.options["factor"], plateau.period) == (0.1, EPOCH[name])
            for test in cfg.dataloader.test.values():
                assert test.loader.mapper.sides == ([672] if kind == "teacher" else [224])


@pytest.mark.parametrize("name", PAPER)
def test_what_is_distilled(load, name):
    first = load(f"{name}/stage1_vgg16_edgeboxes.py")
    roi = first.distiller.objectives.loss_roi
    assert (roi.nms_thresh, roi.num_proposals, roi.pooler_size) == (0.4, 100, 7)
    assert [(pair.teacher, pair.student) for pair in roi.layers] == [("conv5_3", "conv5_3")]
    assert first.distiller.frozen == ["head", "classifier"]
    second = load(f"{name}/stage2_vgg16_edgeboxes.py")
    assert second.distiller.objectives.loss_class_aware.weight == 1
    assert second.distiller.frozen == []
    objective = instantiate(second.distiller.objectives)["loss_class_aware"]
    K = {"coco": 80, "nus_wide": 81, "voc": 20}[name]
    assert objective.temperatures.t_cls.tolist() == [1] * K and objective.temperatures.t_det.tolist() == [1] * 500
    assert second.train.init_checkpoint == f"{first.train.output_dir}/model_final.pth"


@pytest.mark.parametrize("name, temperatures", [("coco", (1, 5)), ("nus_wide", (2, 5)), ("voc", (1, 5))])
def test_compared_methods_of_section_4_2(load, name, temperatures):
    soft_labels, hint, fitnets, attention = (load(f"{name}/{kind}_vgg16_edgeboxes.py") for kind in METHODS)
    for cfg in (soft_labels, fitnets, attention):
        loss = cfg.distiller.objectives.loss_soft_labels
        assert (loss.t_teacher, loss.t_student) == temperatures
        assert cfg.distiller.objectives.loss_hard
        assert (cfg.train.max_iter, cfg.optimizer.lr) == (30 * EPOCH[name], 1e-4)
    assert soft_labels.train.init_checkpoint == attention.train.init_checkpoint == hint.train.init_checkpoint
    assert fitnets.train.init_checkpoint == f"{hint.train.output_dir}/model_final.pth"
    (loss,) = instantiate(hint.distiller.objectives).values()
    assert loss.teacher_features == ["conv3_3"]
    maps = instantiate(attention.distiller.objectives)["loss_attention"].teacher_features
    assert maps == ["conv3_3", "conv4_3", "conv5_3"]
    model = build(hint.model)
    for frozen in hint.distiller.frozen:
        model.get_submodule(frozen).requires_grad_(False)
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"}
    for kind, cfg in zip(METHODS, (soft_labels, hint, fitnets, attention)):
        assert cfg.train.output_dir == f"output/{name}/{kind}_vgg16_edge_boxes"
        assert cfg.dataloader.train.mapper.teacher_sizes == [672]


@pytest.mark.parametrize("kind", ["fitnets_hint", "attention_transfer"])
def test_one_more_map_changes_no_weights(load, kind):
    cfg, plain = load(f"voc5/{kind}.py"), load("voc5/stage2.py")
    for method, wanted in ((cfg.model, plain.model), (cfg.distiller.teacher, plain.distiller.teacher)):
        method, wanted = build(method), build(wanted)
        assert "stride8" in method.backbone.output_shape() and "stride8" not in wanted.backbone.output_shape()
        shapes = [{name: value.shape for name, value in x.state_dict().items()} for x in (method, wanted)]
        assert shapes[0] == shapes[1]


@pytest.mark.parametrize("name", PAPER)
def test_faster_rcnn_changes_proposals_and_what_is_named_after_them(load, monkeypatch, name):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    source = {"coco": "coco_2014_train_mlc", "nus_wide": "nuswide_train", "voc": "voc_2007_trainval_mlc"}[name]
    for way, method, count in (("edgeboxes", "edge_boxes", 500), ("fasterrcnn", "detector", 100)):
        teacher, *stages = (load(f"{name}/{kind}_vgg16_{way}.py") for kind in ("teacher", "stage1", "stage2"))
        assert teacher.train.output_dir == f"output/{name}/teacher_vgg16_{method}"
        stores = [instantiate(teacher.proposals[split]) for split in ("train", "val")]
        assert stores == [f"data/proposals/{source}_{method}.arrow"] * 2
        for cfg in (teacher, *stages):
            assert cfg.dataloader.train.mapper.num_proposals == count
            assert instantiate(cfg.dataloader.train.proposals) == stores[0]
        for cfg in stages:
            assert cfg.distiller.teacher_checkpoint == f"{teacher.train.output_dir}/model_final.pth"
        assert len(instantiate(stages[1].distiller.objectives)["loss_class_aware"].temperatures.t_det) == count


@pytest.mark.parametrize("accumulate, images", [(1, 32), (4, 8), (32, 1)])
def test_one_override_splits_the_batch(load, accumulate, images):
    cfg = load("coco/stage2_vgg16_edgeboxes.py", f"trainer.accumulate={accumulate}")
    assert instantiate(cfg.dataloader.train.total_batch_size) == images
