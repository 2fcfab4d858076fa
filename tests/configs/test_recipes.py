"""Every recipe on its datasets: it can be loaded, and built without data on disk."""

from pathlib import Path

import pytest
import torch
from detectron2.config import LazyConfig, instantiate
from helpers.builders import make_batch, own_images

from wsd_distill.data.datasets import get_dataset_info
from wsd_distill.distillation import StudentOutput
from wsd_distill.engine import ReduceLROnPlateauHook, resolve_schedule
from wsd_distill.losses import hard_label_loss
from wsd_distill.proposals.generators import DetectorProposer, EdgeBoxes
from wsd_distill.proposals.image_proposals import ImageProposals

ROOT = Path(__file__).parents[2] / "configs"
METHODS = ["soft_labels", "fitnets_hint", "fitnets", "attention_transfer"]
LATER_METHODS = ["l2d", "feature_distillation", "region_consistent"]  # published after the paper
KINDS = ["teacher", "student", "stage1", "stage2", *METHODS, *LATER_METHODS]
DATASETS = {
    "vgg16": ["coco_2014", "nus_wide", "voc_2007"],
    "efficientnet_lite0": ["voc5", "coco3k", "pets"],
    "small": ["digit_scenes"],
}
CASES = [(recipe, kind, name) for recipe, names in DATASETS.items() for kind in KINDS for name in names]
PAPER = DATASETS["vgg16"]
CLASSES = {"coco_2014": 80, "nus_wide": 81, "voc_2007": 20, "voc5": 5, "coco3k": 80, "pets": 2, "digit_scenes": 10}
IMAGES = {"coco_2014": 80_000, "nus_wide": 148_000, "voc_2007": 4_480}


@pytest.fixture
def load(load_config, tmp_path, restore_catalogs):
    """A function: recipe, kind, dataset and overrides -> config; "pets" is a list of one image."""

    def load(recipe, kind, name, *overrides):
        (tmp_path / "pets.csv").write_text("file,labels\n0.png,cat;dog\n")
        data = own_images(tmp_path / "pets.csv") if name == "pets" else [f"dataset.name={name}"]
        return load_config(f"{recipe}/{kind}.py", *data, *overrides)

    return load


@pytest.fixture
def load_schedule(load, monkeypatch):
    """``load``, and the length of the training for as many images as the dataset has; none is read."""

    def load_schedule(recipe, kind, name, *overrides):
        cfg = load(recipe, kind, name, *overrides)
        monkeypatch.setattr("wsd_distill.engine.training.get_dataset_dicts", lambda _: range(IMAGES[name]))
        resolve_schedule(cfg)
        return cfg

    return load_schedule


def build(model):
    """Build on the meta device, or on the CPU for timm's networks, because they run a test image when built."""
    with torch.device("cpu" if "timm" in str(model.backbone._target_) else "meta"):
        return instantiate(model)


def test_all_recipes_exist():
    files = {str(path.relative_to(ROOT)) for path in ROOT.glob("*/*.py") if path.parent.name != "common"}
    wanted = {f"{recipe}/{kind}.py" for recipe in DATASETS for kind in [*KINDS, "base"]}
    wanted |= {f"{recipe}/faster_rcnn.py" for recipe in ("efficientnet_lite0", "small")}
    wanted |= {f"{recipe}/region_consistent_trunk.py" for recipe in ("efficientnet_lite0", "vgg16")}
    more = ("classifier_teacher", "region_consistent_scores", "region_consistent_trunk_small")
    assert files == wanted | {f"efficientnet_lite0/{name}.py" for name in more}


def test_every_built_in_dataset_has_a_recipe_and_registered_splits():
    names = {"coco_2014", "coco_2017", "nus_wide", "voc_2007", "voc_2012", "voc5", "coco3k", "digit_scenes"}
    for name in names:  # a name that is not registered raises
        assert get_dataset_info(name).recipe in DATASETS


@pytest.mark.parametrize("recipe, kind, name", CASES)
def test_everything_but_the_data_can_be_built(load, recipe, kind, name):
    cfg = load(recipe, kind, name)
    model = build(cfg.model)
    cfg.optimizer.params.model = model
    trained = sum(len(group["params"]) for group in instantiate(cfg.optimizer).param_groups)
    assert trained == len([p for p in model.parameters() if p.requires_grad]) > 4
    K = cfg.dataset.num_classes
    assert CLASSES[name] == K
    mappers = [cfg.dataloader.train.mapper, *(test.loader.mapper for test in cfg.dataloader.test.values())]
    assert [(m.num_classes, m.image_format) for m in map(instantiate, mappers)] == [(K, model.image_format)] * len(
        mappers
    )
    assert cfg.train.output_dir == f"output/{name}/{recipe}_edge_boxes/{kind}"
    if kind == "teacher":
        assert_finds_what_its_loaders_read(model.proposer, cfg)
    if "distiller" in cfg:
        assert cfg.distiller.teacher_checkpoint == f"output/{name}/{recipe}_edge_boxes/teacher/model_final.pth"
        teacher, objectives = build(cfg.distiller.teacher), instantiate(cfg.distiller.objectives)
        assert (teacher.num_classes, teacher.image_format) == (K, model.image_format)
        assert all(loss.startswith("loss_") for loss in objectives)
        for objective in objectives.values():
            for pair in getattr(objective, "layers", []):
                assert pair.teacher in teacher.backbone.output_shape()
                assert pair.student in model.backbone.output_shape()
        assert all(model.get_submodule(name) for name in cfg.train.frozen)


def assert_finds_what_its_loaders_read(proposer, cfg):
    """Arbitrary images get proposals of the stores' generator, as many as the mapper takes."""
    assert isinstance(proposer, ImageProposals) and isinstance(proposer.proposer, EdgeBoxes)
    assert proposer.proposer.name == cfg.proposals.method
    mapper = cfg.dataloader.test.test.loader.mapper
    assert (proposer.num_proposals, proposer.image_format) == (mapper.num_proposals, cfg.model.image_format)
    assert proposer.proposer.max_boxes >= proposer.num_proposals


@pytest.mark.parametrize("recipe, name", [(recipe, names[0]) for recipe, names in DATASETS.items()])
def test_a_detector_sets_proposals_and_score_scale(load, monkeypatch, tmp_path, recipe, name):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    detector = [
        "proposals.method=detector",
        "detector.config=a.yaml",
        "detector.weights=a.pth",
        "detector.opts=[A,0.0]",
    ]
    count = {"vgg16": (500, 100), "efficientnet_lite0": (100, 100), "small": (32, 32)}[recipe]
    for overrides, method, R in (([], "edge_boxes", count[0]), (detector, "detector", count[1])):
        teacher, *stages = (load(recipe, kind, name, *overrides) for kind in ("teacher", "stage1", "stage2"))
        root = f"output/{name}/{recipe}_{method}"
        assert teacher.train.output_dir == f"{root}/teacher"
        store = instantiate(teacher.proposals.train)
        assert store.startswith("data/proposals/") and store.endswith(f"_{method}.arrow")
        for cfg in (teacher, *stages):
            assert cfg.dataloader.train.mapper.num_proposals == R
            assert instantiate(cfg.dataloader.train.proposals) == store
        scale = 1.0 if method == "detector" or recipe == "vgg16" else 4.0
        assert teacher.model.score_scale == scale
        for cfg in stages:
            assert cfg.distiller.teacher_checkpoint == f"{root}/teacher/model_final.pth"
            assert cfg.distiller.teacher.score_scale == scale
        assert len(instantiate(stages[1].distiller.objectives)["loss_class_aware"].temperatures.t_det) == R
    LazyConfig.save(teacher, str(tmp_path / "config.yaml"))  # as a training does; it reads stores, not the detector
    proposer = build(teacher.model).proposer
    assert isinstance(proposer, ImageProposals) and isinstance(proposer.proposer, DetectorProposer)
    node = teacher.image_proposals.proposer
    assert (node.config, node.weights, node.opts, node.max_boxes) == ("a.yaml", "a.pth", ["A", 0.0], 100)


def test_one_store_serves_a_holdout_and_its_source(load, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", "data")
    for name, source in zip(PAPER, ("coco_2014_train_mlc", "nuswide_train", "voc_2007_trainval_mlc")):
        cfg = load("vgg16", "teacher", name)
        stores = [instantiate(cfg.proposals[split]) for split in ("train", "val")]
        assert stores == [f"data/proposals/{source}_edge_boxes.arrow"] * 2


@pytest.mark.parametrize(
    "kind, reading", [("teacher", "all"), ("student", "none"), ("stage1", "train"), ("stage2", "train")]
)
def test_which_loaders_read_the_proposals_of_their_split(load, kind, reading):
    """T-WDet's loaders read them, S-Cls's only in training with distillation."""
    for recipe, _, name in (case for case in CASES if case[1] == kind):
        cfg = load(recipe, kind, name)
        loaders = {"train": cfg.dataloader.train, **{split: test.loader for split, test in cfg.dataloader.test.items()}}
        for split, loader in loaders.items():
            expected = reading in ("all", split)
            found = instantiate(loader.proposals)
            assert found == (instantiate(cfg.proposals[split]) if expected else None), (recipe, name, split)


@pytest.mark.parametrize("recipe, name", [("vgg16", "coco_2014"), ("small", "digit_scenes")])
def test_the_number_of_detections_of_an_image_can_be_set(load, recipe, name):
    cfg = load(recipe, "teacher", name, "model.test_topk_per_image=7")
    assert build(cfg.model).test_topk_per_image == 7


@pytest.mark.parametrize("recipe, kind, name", [case for case in CASES if case[1] in ("teacher", "student")])
def test_boxes_are_evaluated_for_t_wdet_if_the_dataset_has_boxes(load, recipe, kind, name):
    cfg = load(recipe, kind, name)
    boxes = kind == "teacher" and name not in ("nus_wide", "pets")
    assert {test.evaluator.boxes for test in cfg.dataloader.test.values()} == {boxes}


@pytest.mark.parametrize("name, boxes", [("voc5", True), ("nus_wide", False)])
def test_the_teacher_check_has_boxes_if_the_dataset_has_boxes(load, name, boxes):
    cfg = load("efficientnet_lite0", "stage1", name)
    assert cfg.trainer.teacher_check.boxes == boxes
    assert cfg.trainer.teacher_check.dataset_name == cfg.dataset.val


def test_a_minimum_area_of_proposals_reaches_every_mapper(load):
    cfg = load("small", "stage1", "digit_scenes", "proposals.min_area=0.05")
    mappers = [cfg.dataloader.train.mapper, cfg.trainer.teacher_check.loader.mapper, cfg.distiller.cache.mapper]
    cfg_teacher = load("small", "teacher", "digit_scenes", "proposals.min_area=0.05")
    mappers += [test.loader.mapper for test in cfg_teacher.dataloader.test.values()] + [cfg_teacher.image_proposals]
    assert [mapper.min_proposal_area for mapper in mappers] == [0.05] * 6


def test_a_dataset_with_two_splits_is_evaluated_once(load):
    cfg = load("efficientnet_lite0", "teacher", "voc5")
    assert list(cfg.dataloader.test) == ["test"] and cfg.dataset.val == cfg.dataset.test
    assert cfg.dataloader.test.test.evaluator.threshold_split is None
    cfg = load("efficientnet_lite0", "teacher", "coco3k")
    assert list(cfg.dataloader.test) == ["val", "test"]
    assert cfg.dataloader.test.test.evaluator.threshold_split == "val"


@pytest.mark.parametrize("name", PAPER)
def test_numbers_of_section_3_3(load_schedule, name):
    epoch = IMAGES[name] // 32
    for kind in ("teacher", "student", "stage1", "stage2"):
        cfg = load_schedule("vgg16", kind, name)
        assert instantiate(cfg.dataloader.train.total_batch_size) * cfg.trainer.accumulate == 32
        assert (cfg.optimizer.momentum, cfg.optimizer.weight_decay) == (0.9, 5e-4)
        assert cfg.optimizer.lr == (1e-5 if kind == "stage1" else 1e-4)
        mapper = cfg.dataloader.train.mapper
        assert mapper.sizes == ([480, 576, 672, 736, 832] if kind == "teacher" else [224])
        assert mapper.flip_prob == 0.5
        assert mapper.teacher_sizes == ([672] if kind.startswith("stage") else None)
        assert mapper.num_proposals == 500
        assert cfg.train.checkpointer.period == epoch
        assert cfg.train.max_iter == {"teacher": 20, "student": 30, "stage1": 100, "stage2": 30}[kind] * epoch
        if kind == "stage1":
            assert [instantiate(cfg.lr_multiplier)(where) for where in (0.0, 0.3, 1.0)] == [1, 1, 1]
        else:
            assert cfg.lr_multiplier.loader.dataset == cfg.dataset.val
            cfg.lr_multiplier.loader = []
            plateau = instantiate(cfg.lr_multiplier)
            assert isinstance(plateau, ReduceLROnPlateauHook)
            assert (plateau.options["factor"], plateau.period) == (0.1, epoch)
            for test in cfg.dataloader.test.values():
                assert test.loader.mapper.sizes == ([672] if kind == "teacher" else [224])


@pytest.mark.parametrize("name", PAPER)
def test_distillation_settings_of_the_paper(load, name):
    first = load("vgg16", "stage1", name)
    roi = first.distiller.objectives.loss_roi
    assert (roi.nms_thresh, roi.num_proposals, roi.pooler_size) == (0.4, 100, 7)
    assert [(pair.teacher, pair.student) for pair in roi.layers] == [("conv5_3", "conv5_3")]
    assert first.train.frozen == ["head", "classifier"]
    second = load("vgg16", "stage2", name)
    assert second.distiller.objectives.loss_class_aware.weight == 1
    assert second.train.frozen == []
    objective = instantiate(second.distiller.objectives)["loss_class_aware"]
    K = CLASSES[name]
    assert objective.temperatures.t_cls.tolist() == [1] * K and objective.temperatures.t_det.tolist() == [1] * 500
    assert second.train.init_checkpoint == f"{first.train.output_dir}/model_final.pth"


@pytest.mark.parametrize("name, temperatures", [("coco_2014", (1, 5)), ("nus_wide", (2, 5)), ("voc_2007", (1, 5))])
def test_compared_methods_of_section_4_2(load_schedule, name, temperatures):
    soft_labels, hint, fitnets, attention = (load_schedule("vgg16", kind, name) for kind in METHODS)
    for cfg in (soft_labels, fitnets, attention):
        loss = cfg.distiller.objectives.loss_soft_labels
        assert (loss.t_teacher, loss.t_student) == temperatures
        assert cfg.distiller.objectives.loss_hard
        assert (cfg.train.max_iter, cfg.optimizer.lr) == (30 * IMAGES[name] // 32, 1e-4)
    assert soft_labels.train.init_checkpoint == attention.train.init_checkpoint == hint.train.init_checkpoint
    assert fitnets.train.init_checkpoint == f"{hint.train.output_dir}/model_final.pth"
    (loss,) = instantiate(hint.distiller.objectives).values()
    assert loss.teacher_features == ["conv3_3"]
    maps = instantiate(attention.distiller.objectives)["loss_attention"].teacher_features
    assert maps == ["conv3_3", "conv4_3", "conv5_3"]
    model = build(hint.model)
    for frozen in hint.train.frozen:
        model.get_submodule(frozen).requires_grad_(False)
    trained = {name.split(".")[1] for name, p in model.named_parameters() if p.requires_grad}
    assert trained == {"conv1_1", "conv1_2", "conv2_1", "conv2_2", "conv3_1", "conv3_2", "conv3_3"}
    for cfg in (soft_labels, hint, fitnets, attention):
        assert cfg.dataloader.train.mapper.teacher_sizes == [672]


@pytest.mark.parametrize("recipe", DATASETS)
def test_l2d_has_the_weights_of_the_authors_code(load, recipe):
    name = DATASETS[recipe][0]
    objectives = instantiate(load(recipe, "l2d", name).distiller.objectives)
    embeddings = objectives["loss_embeddings"]
    weights = (objectives["loss_logits"].weight, embeddings.class_weight, embeddings.instance_weight)
    assert weights == (10 / 64, 100, 1000)
    assert (embeddings.label_weight, embeddings.num_classes) == (1, CLASSES[name])
    assert set(objectives) == {"loss_hard", "loss_logits", "loss_embeddings"}


@pytest.mark.parametrize("recipe", DATASETS)
def test_one_override_changes_the_pooling_of_t_wdet_and_of_stage_1(load, recipe):
    for pooler_type in ("ROIPool", "ROIAlignV2"):
        override = f"train.pooler_type={pooler_type}"
        teacher, stage1 = (load(recipe, kind, DATASETS[recipe][0], override) for kind in ("teacher", "stage1"))
        found = [teacher.model, stage1.distiller.teacher, stage1.distiller.objectives.loss_roi]
        assert [node.pooler_type for node in found] == [pooler_type] * 3


@pytest.mark.parametrize("accumulate, images", [(1, 32), (4, 8), (32, 1)])
def test_one_override_splits_the_batch(load, accumulate, images):
    cfg = load("vgg16", "stage2", "coco_2014", f"trainer.accumulate={accumulate}")
    assert instantiate(cfg.dataloader.train.total_batch_size) == images


def test_one_override_changes_the_backbone(load):
    """Head, channels and strides change with the backbone."""
    cfg = load("efficientnet_lite0", "stage1", "voc5", "train.backbone=resnet18")
    model, teacher = build(cfg.model), build(cfg.distiller.teacher)
    assert (model.backbone.output_shape()["stride32"].channels, model.classifier.in_features) == (512, 512)
    assert (teacher.backbone.output_shape()["stride32"].channels, teacher.cls_branch.in_features) == (512, 512)
    assert cfg.train.init_checkpoint == "pretrained://resnet18"
    cfg = load("efficientnet_lite0", "stage1", "voc5", "model.backbone.name=resnet18")  # of the student only
    teacher = build(cfg.distiller.teacher)
    (objective,) = instantiate(cfg.distiller.objectives).values()
    objective.build(model.backbone.output_shape(), teacher.backbone.output_shape())
    assert [p.shape for p in objective.adapters[0].parameters()] == [(320, 512, 1, 1), (320,)]


@pytest.mark.parametrize("kind", ["fitnets_hint", "attention_transfer"])
def test_more_feature_maps_change_no_weights(load, kind):
    """All methods have three maps; weights of a backbone with one map can be loaded too."""
    cfg, plain = load("efficientnet_lite0", kind, "voc5"), load("efficientnet_lite0", "stage2", "voc5")
    for node in (plain.model, plain.distiller.teacher):
        node.backbone.out_features = ["stride32"]
    for method, wanted in ((cfg.model, plain.model), (cfg.distiller.teacher, plain.distiller.teacher)):
        method, wanted = build(method), build(wanted)
        assert "stride8" in method.backbone.output_shape() and "stride8" not in wanted.backbone.output_shape()
        shapes = [{name: value.shape for name, value in x.state_dict().items()} for x in (method, wanted)]
        assert shapes[0] == shapes[1]


FAITHFUL = (  # at reduced sizes
    "train.in_feature=stride16 train.frozen_to=stride8 train.student_size=64 train.teacher_size=96 train.pooler_size=7"
)


@pytest.mark.parametrize("pooler_type", ["ROIPool", "ROIAlignV2"])
def test_the_papers_geometry_by_the_same_overrides_in_every_config(load, pooler_type):
    """Maps of stride 16, 7 x 7 bins and the layers after the map in the head; losses are finite in one step."""
    overrides = [*FAITHFUL.split(), f"train.pooler_type={pooler_type}"]
    teacher = build(load("efficientnet_lite0", "teacher", "voc5", *overrides).model).eval()
    assert list(teacher.backbone.output_shape()) == ["stride8", "stride16"]
    assert (teacher.box_pooler.output_size, teacher.head.output_size) == ((7, 7), 1280)
    batch = make_batch(sizes=(64, 96), num_classes=5)
    with torch.no_grad():
        outputs = teacher.compute_outputs([x["teacher"] for x in batch])
    assert outputs.features["stride16"].shape[-2:] == (6, 6)
    for kind in ("student", "stage1", "stage2", "l2d", "feature_distillation"):
        cfg = load("efficientnet_lite0", kind, "voc5", *overrides)
        assert instantiate(cfg.dataloader.train.mapper).sizes == [64]
        for test in cfg.dataloader.test.values():
            assert instantiate(test.loader.mapper).sizes == [64]
        model = build(cfg.model).eval()
        assert [name.split(".")[3] for name in model.state_dict() if name.startswith("backbone.net.blocks.")][-1] == "4"
        assert model.state_dict()["head.net.blocks.5.0.conv_pw.weight"].shape == (672, 112, 1, 1)
        if kind == "student":
            continue
        assert instantiate(cfg.dataloader.train.mapper).teacher_sizes == [96]
        assert build(cfg.distiller.teacher).state_dict().keys() == teacher.state_dict().keys()
        student = StudentOutput(model, batch, model.features(batch))
        for objective in instantiate(cfg.distiller.objectives).values():
            objective.build(model.backbone.output_shape(), teacher.backbone.output_shape())
            loss = objective(student, outputs)
            assert torch.isfinite(loss) and loss > 0


def test_an_unknown_map_is_an_error_that_lists_the_maps(load):
    cfg = load("efficientnet_lite0", "student", "voc5", "train.in_feature=stride4")
    with pytest.raises(Exception, match="no feature map 'stride4': set train.in_feature to one of stride8, stride16"):
        build(cfg.model)


@pytest.mark.parametrize("recipe", DATASETS)
def test_every_student_takes_another_loss(load, recipe):
    overrides = ["model.loss=asymmetric", "model.loss_options={gamma_neg: 2, clip: null}"]
    model = build(load(recipe, "student", DATASETS[recipe][0], *overrides).model)
    assert (model.loss.loss.gamma_neg, model.loss.loss.gamma_pos, model.loss.loss.clip) == (2, 1, None)
    assert build(load(recipe, "stage2", DATASETS[recipe][0]).model).loss is hard_label_loss
