"""The supervised detectors of Table 5, from their configs to a store of proposals."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from detectron2.config import instantiate
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.structures import Boxes, BoxMode, Instances
from detectron2.utils.events import EventStorage
from helpers.running import in_process, run
from PIL import Image

from wsd_distill.data.proposal_store import ProposalStore
from wsd_distill.proposals.generators import DetectorProposer

CONFIG = "configs/small/faster_rcnn.py"
RECIPES = {"digit_scenes": "small", "voc5": "efficientnet_lite0"}
SIDES = {"digit_scenes": 128, "voc5": 256}
TEACHER = "configs/small/teacher.py"
LOSSES = {"loss_rpn_cls", "loss_rpn_loc", "loss_cls", "loss_box_reg"}


@pytest.fixture(params=SIDES)
def detector(request, load_config, restore_catalogs):
    name = request.param
    return name, load_config(f"{RECIPES[name]}/faster_rcnn.py", f"dataset.name={name}")


def noise(side):
    return torch.randint(0, 256, (3, side, side), dtype=torch.uint8)


def test_a_step_has_detectron2s_losses_and_trains_every_parameter(detector):
    name, cfg = detector
    model, side = instantiate(cfg.model), SIDES[name]
    truth = Instances((side, side))
    truth.gt_boxes = Boxes(torch.tensor([[0.1, 0.1, 0.25, 0.35], [0.5, 0.4, 0.7, 0.75]]) * side)
    truth.gt_classes = torch.tensor([0, cfg.dataset.num_classes - 1])
    with EventStorage():
        losses = model.train()([{"image": noise(side), "instances": truth} for _ in range(2)])
    assert set(losses) == LOSSES
    sum(losses.values()).backward()
    gradients = {key: p.grad for key, p in model.named_parameters() if p.requires_grad}
    assert [key for key, gradient in gradients.items() if not (gradient.isfinite().all() and gradient.any())] == []
    cfg.optimizer.params.model = model
    trained = sum(len(group["params"]) for group in instantiate(cfg.optimizer).param_groups)
    assert trained == len(gradients)


def test_inference_has_no_score_threshold(detector):
    """Unlike Detectron2's 0.05: of K + 1 equally likely classes, all boxes have a score of 1 / (K + 1)."""
    name, cfg = detector
    cfg.model.roi_heads.box_predictor.test_nms_thresh = 1.0
    model, side = instantiate(cfg.model).eval(), SIDES[name]
    torch.nn.init.zeros_(model.roi_heads.box_predictor.cls_score.weight)
    with torch.no_grad():
        output = model([{"image": noise(side), "height": side // 2, "width": side * 2}])
    found = output[0]["instances"]
    assert found.image_size == (side // 2, side * 2)
    torch.testing.assert_close(found.scores, torch.full((100,), 1 / (cfg.dataset.num_classes + 1)))
    assert found.pred_boxes.tensor.shape == (100, 4) and len(found.pred_classes) == 100
    assert (found.pred_boxes.tensor.amax(0) <= torch.tensor([side * 2, side // 2] * 2)).all()


@pytest.fixture
def splits(tmp_path, restore_catalogs):
    """Names of a training and a test split of three images each: left half bright, right half dark, one box."""
    for split in ("train", "test"):
        records = []
        for number in range(3):
            image = Image.new("RGB", (80, 40))
            image.paste((200, 200, 200), (0, 0, 40, 40))
            file = tmp_path / f"{split}{number}.png"
            image.save(file)
            box = {"bbox": [10, 20, 30, 10], "bbox_mode": BoxMode.XYWH_ABS, "category_id": number, "iscrowd": 0}
            record = {
                "file_name": str(tmp_path / f"{split}{number}.png"),
                "image_id": number,
                "height": 40,
                "width": 80,
            }
            records.append({**record, "labels": [number], "annotations": [box]})
        DatasetCatalog.register(f"boxed_{split}", lambda records=records: records)
        MetadataCatalog.get(f"boxed_{split}").thing_classes = ["a", "b", "c"]
    return {split: f"boxed_{split}" for split in ("train", "test")}


def test_boxes_come_from_the_training_split_only(detector, splits):
    name, cfg = detector
    cfg.dataset.update(splits)
    side, drawn = SIDES[name], []
    for batch, _ in zip(instantiate(cfg.dataloader.train), range(4)):
        drawn += batch
    assert {Path(x["file_name"]).stem for x in drawn} == {"train0", "train1", "train2"}
    mirrored = 0
    for x in drawn:
        flipped = bool(x["image"][0, 0, 0] == 0)
        mirrored += flipped
        left, right = (0.5, 0.875) if flipped else (0.125, 0.5)  # 10 and 40 of 80 pixels, or mirrored
        expected = torch.tensor([[left, 0.5, right, 0.75]]) * side
        torch.testing.assert_close(x["instances"].gt_boxes.tensor, expected)
        assert x["instances"].gt_classes.tolist() == [x["image_id"]]
        assert "annotations" not in x
    assert 0 < mirrored < len(drawn) if name == "voc5" else mirrored == 0  # digits are not mirror-symmetric


def test_no_box_of_the_test_split_reaches_the_model(detector, splits):
    name, cfg = detector
    cfg.dataset.update(splits)
    (batch,) = instantiate(cfg.dataloader.test.test.loader)
    assert [Path(x["file_name"]).stem for x in batch] == ["test0", "test1", "test2"]
    assert all(not {"annotations", "instances"} & set(x) for x in batch)
    assert all((x["image"].shape, x["height"], x["width"]) == ((3, *[SIDES[name]] * 2), 40, 80) for x in batch)


def test_the_recipe_is_a_config_for_detector_proposals(tmp_path, load_config):
    """The recipe works like a saved config, with the classes of the dataset."""
    torch.save({"model": instantiate(load_config("small/faster_rcnn.py").model).state_dict()}, tmp_path / "a.pth")
    boxes, scores = DetectorProposer(CONFIG, str(tmp_path / "a.pth"), device="cpu")(np.zeros((40, 80, 3), np.uint8))
    assert boxes.shape == (100, 4) and scores.shape == (100,)


def test_from_a_training_to_a_store(tmp_path, monkeypatch):
    """The tools as a user runs them: the config that a training saves is the detector's."""
    small = ["train.device=cpu", "trainer.amp=False", "train.max_iter=2"]
    run("tools/train_net.py", "--config-file", CONFIG, f"train.output_dir={tmp_path}/run", *small, data=tmp_path)
    found = json.loads((tmp_path / "run" / "results.json").read_text())["test"]["bbox"]
    assert {"AP", "AP50", "AP-nine"} <= set(found) and 0 <= found["AP50"] <= 100
    detector = [f"detector.config={tmp_path}/run/config.yaml", f"detector.weights={tmp_path}/run/model_final.pth"]
    only_val = ["dataset.train=digit_scenes_val", "dataset.test=digit_scenes_val", "train.device=cpu"]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    in_process("tools/generate_proposals.py", "--config-file", TEACHER, "--method", "detector", *detector, *only_val)
    store = ProposalStore(tmp_path / "proposals" / "digit_scenes_val_detector.arrow")
    assert (len(store), store.metadata.failures) == (12, {})
    assert (store.metadata.generator, store.metadata.parameters["config"]) == ("detector", "config.yaml")
    for _, (boxes, scores) in store.items():
        assert 32 <= len(boxes) <= 100 and boxes.min() >= 0 and boxes.max() <= 128
        assert (np.diff(scores) <= 0).all() and scores[-1] >= 0 and scores[0] <= 1
