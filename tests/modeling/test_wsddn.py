from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from detectron2.config import get_cfg
from detectron2.engine import DefaultPredictor
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, BoxMode, Instances
from helpers.builders import K, make_batch, make_teacher, make_view
from torchvision.ops import batched_nms

from wsd_distill.config import add_wsd_distill_config
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.modeling import WSDDN, WSDDNOutput
from wsd_distill.proposals.generators.edge_boxes import EdgeBoxes


def inputs(images=3):
    return [x["teacher"] for x in make_batch(images)]


def test_is_registered():
    assert META_ARCH_REGISTRY.get("WSDDN") is WSDDN


def test_one_class_is_refused():
    options = {
        "backbone": None,
        "in_feature": "",
        "head": None,
        "pixel_mean": [],
        "pixel_std": [],
        "image_format": "RGB",
    }
    with pytest.raises(ValueError, match="num_classes=1: T-WDet needs 2 classes or more, add a background class"):
        WSDDN(num_classes=1, **options)


def test_each_image_has_a_softmax_over_its_own_proposals():
    """Images with 4, 5 and 6 proposals have the same scores in one batch as alone."""
    model, batch = make_teacher().eval(), inputs()
    together = model.compute_outputs(batch)
    assert [len(s) for s in together.scores] == [4, 5, 6]
    for i, record in enumerate(batch):
        alone = model.compute_outputs([record])
        torch.testing.assert_close(together.scores[i], alone.scores[0])
        torch.testing.assert_close(together.det_logits[i].softmax(0).sum(0), torch.ones(K))


def test_training_loss_is_the_cross_entropy_of_the_image_scores():
    model, batch = make_teacher(), inputs()
    labels = torch.stack([x["labels"] for x in batch])
    p = model.compute_outputs(batch).image_scores
    expected = torch.nn.BCELoss(reduction="sum")(p, labels) / 3
    assert (p > 1e-4).all() and (p < 1 - 1e-4).all()  # not clamped
    torch.testing.assert_close(model.train()(batch)["loss_image"], expected)


def test_output_sums_by_hand():
    """S of two proposals and two classes with uniform branches: 1/2 * 1/2 everywhere."""
    zeros = torch.zeros(2, 2)
    output = WSDDNOutput({}, [Boxes(torch.zeros(2, 4))], [zeros], [zeros])
    assert output.image_scores.tolist() == [[0.5, 0.5]]
    assert output.objectness[0].tolist() == [0.5, 0.5]


def test_pooled_features_are_multiplied_by_the_prior_score():
    """The input of the head is scaled by s_R (Eq. 2)."""
    model, (record,) = make_teacher().eval(), inputs(1)
    seen = []
    model.head.register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    model.compute_outputs([record])
    prior, record["proposals"].scores = record["proposals"].scores, torch.ones(4)
    model.compute_outputs([record])
    torch.testing.assert_close(seen[0], seen[1] * prior[:, None, None, None])
    model.score_scale, model.score_shift, record["proposals"].scores = 0.5, 2.0, prior
    model.compute_outputs([record])
    torch.testing.assert_close(seen[2], seen[1] * (0.5 * prior + 2)[:, None, None, None])


def test_boxes_of_the_ground_truth_do_not_affect_loss_and_gradients():
    """Inputs with boxes of the ground truth have the same loss and gradients as inputs without."""
    results = []
    for seed in (None, 0, 1):
        torch.manual_seed(0)
        model, batch = make_teacher(), inputs()
        for record in batch if seed is not None else []:
            generator = torch.Generator().manual_seed(seed)
            boxes = Boxes(torch.rand(2, 4, generator=generator) * 30)
            record["instances"] = Instances((32, 32), gt_boxes=boxes, gt_classes=torch.tensor([seed, 2]))
            record["annotations"] = [{"bbox": boxes.tensor[0].tolist(), "category_id": seed}]
        loss = model(batch)["loss_image"]
        loss.backward()
        results.append([loss.detach(), *(p.grad for p in model.parameters())])
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other))


def test_inference_applies_nms_per_class_and_scales_to_the_original_image():
    model = make_teacher()
    boxes = Boxes(torch.tensor([[0.0, 0, 16, 16], [0, 0, 16, 15], [16, 16, 32, 32]]))
    scores = torch.tensor([[0.5, 0.001, 0.1], [0.4, 0.002, 0.1], [1e-7, 0.3, 0.1]])
    proposals = Instances((32, 32), proposal_boxes=boxes)
    record = {"image": torch.zeros(3, 32, 32), "proposals": proposals, "height": 64, "width": 96}
    (result,) = model.inference([scores], [record])
    torch.testing.assert_close(result["image_scores"], scores.sum(0))
    found = result["instances"]
    assert found.image_size == (64, 96)
    by_class = {k: sorted(found.scores[found.pred_classes == k].tolist(), reverse=True) for k in range(K)}
    # of two overlapping boxes (IoU 15/16) the best of each class is kept, with its score
    assert by_class[0] == pytest.approx([0.5, 1e-7]) and by_class[1] == pytest.approx([0.3, 0.002])
    assert len(by_class[2]) == 2
    assert found.pred_boxes.tensor[0].tolist() == [0, 0, 48, 32]


def test_detections_equal_torchvisions_batched_nms():
    boxes = torch.rand(60, 4) * 20
    boxes[:, 2:] += boxes[:, :2]
    scores = torch.rand(60, K)
    proposals = Instances((64, 64), proposal_boxes=Boxes(boxes))
    (result,) = make_teacher().inference([scores], [{"image": torch.zeros(3, 64, 64), "proposals": proposals}])
    found, classes = result["instances"], torch.arange(K).repeat(60)
    keep = batched_nms(boxes.repeat_interleave(K, 0), scores.flatten(), classes, 0.4)
    assert 100 < len(keep) < 150  # of 180
    assert torch.equal(found.scores, scores.flatten()[keep]) and torch.equal(found.pred_classes, classes[keep])
    assert torch.equal(found.pred_boxes.tensor, boxes.repeat_interleave(K, 0)[keep])


def test_scores_are_averaged_over_views_and_boxes_are_in_pixels_of_the_image():
    """Two images with two views each: the image itself and another one with the same proposals."""
    model, batch, generator = make_teacher().eval(), inputs(2), torch.Generator().manual_seed(5)
    others = [make_view(generator, 24, x["proposals"].proposal_boxes.tensor / 32, x["proposals"].scores) for x in batch]
    alone = [[model.compute_outputs([view]).scores[0] for view in pair] for pair in zip(batch, others)]
    seen = [{**x, "views": [x, other]} for x, other in zip(batch, others)]
    assert (alone[0][0] - alone[0][1]).abs().max() > 1e-4
    for (first, second), result, x in zip(alone, model(seen), batch):
        mean = (first + second) / 2
        torch.testing.assert_close(result["image_scores"], mean.sum(0))
        row, k = divmod(mean.argmax().item(), K)
        best = result["instances"][0]
        assert (best.pred_classes.item(), best.scores.item()) == (k, pytest.approx(mean.max().item()))
        torch.testing.assert_close(best.pred_boxes.tensor[0], x["proposals"].proposal_boxes.tensor[row])


def test_an_image_without_proposals_is_an_error_that_names_it():
    model, (record,) = make_teacher(), inputs(1)
    record["file_name"] = "a.jpg"
    del record["proposals"]
    with pytest.raises(ValueError, match="a.jpg has no proposals, .* set a proposal store"):
        model.eval()([record])
    model.proposer = lambda x: pytest.fail("called in training")
    with pytest.raises(ValueError, match="a.jpg has no proposals"):
        model.train()([record])


def test_the_proposer_is_only_called_for_inputs_without_proposals():
    model, (first, second) = make_teacher().eval(), inputs(2)
    expected = model([first, second])
    without = {key: value for key, value in first.items() if key != "proposals"}
    calls = []
    model.proposer = lambda x: calls.append(x) or first["proposals"]
    for output, expected_output in zip(model([without, second]), expected):
        assert torch.equal(output["instances"].scores, expected_output["instances"].scores)
    assert len(calls) == 1 and calls[0] is without
    assert "proposals" not in without


def test_topk_keeps_the_best_detections():
    model = make_teacher().eval()
    model.test_topk_per_image = 2
    (result,) = model(inputs(1))
    assert len(result["instances"]) == 2


def test_image_scores_are_probabilities_even_after_rounding():
    model = make_teacher().eval()
    with torch.no_grad():
        model.cls_branch.bias[0] = 200.0  # class 0 for every proposal: p_0 is 1 up to rounding
    for result in model(inputs(4)):
        assert 0.999 < result["image_scores"][0] <= 1


@pytest.mark.parametrize("kind", ["vgg16", "resnet50_c4"])
def test_default_predictor_equals_the_mapper_path(kind, tmp_path):
    """The YAML configs of T-WDet with a small network: proposals of the original image, resized to the square."""
    cfg = get_cfg()
    add_wsd_distill_config(cfg)
    cfg.merge_from_file(str(Path(__file__).parents[2] / "configs" / "yaml" / f"teacher_{kind}.yaml"))
    cfg.MODEL.DEVICE, cfg.MODEL.BACKBONE.NAME = "cpu", "build_small_conv_net"
    cfg.MODEL.IMAGE_LEVEL.update({"NUM_CLASSES": K, "IN_FEATURE": "conv3", "FC_DIMS": [8], "HEAD": "fc"})
    cfg.MODEL.WSDDN.PROPOSER = "wsd_distill.proposals.image_proposals.ImageProposals"
    cfg.MODEL.WSDDN.update({"INPUT_SIZE": 160, "NUM_PROPOSALS": 20})
    pixels = np.random.default_rng(0).integers(40, 60, (90, 130, 3), dtype=np.uint8)
    pixels[30:70, 40:120] = (230, 180, 40)
    path = str(tmp_path / "a.png")
    cv2.imwrite(path, pixels[..., ::-1])
    boxes, scores = EdgeBoxes()(pixels)
    record = {"file_name": path, "image_id": 0, "height": 90, "width": 130, "labels": []}
    proposals = {"proposal_boxes": boxes, "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}
    mapper = MultiLabelMapper(
        is_train=False, num_classes=K, sizes=[160], image_format=cfg.INPUT.FORMAT, num_proposals=20
    )
    predictor = DefaultPredictor(cfg)
    with torch.no_grad():
        (expected,) = predictor.model([mapper({**record, **proposals})])
    found = predictor(cv2.imread(path))
    assert torch.equal(found["image_scores"], expected["image_scores"])
    assert found["instances"].image_size == (90, 130) and len(found["instances"]) > 3
    torch.testing.assert_close(found["instances"].scores, expected["instances"].scores)
    boxes, others = (x["instances"].pred_boxes.tensor for x in (found, expected))
    torch.testing.assert_close(boxes, others, rtol=0, atol=1e-3)
    assert boxes[:, 2].max() > 110  # in pixels of the original image


def test_an_image_of_another_size_is_resized_with_its_proposals():
    model, (record,) = make_teacher(), inputs(1)
    model.input_size = 64
    resized = model.resize_to_input(record)
    assert resized["image"].shape == (3, 64, 64) and (resized["height"], resized["width"]) == (32, 32)
    boxes = record["proposals"].proposal_boxes.tensor
    torch.testing.assert_close(resized["proposals"].proposal_boxes.tensor, 2 * boxes)
    assert torch.equal(resized["proposals"].scores, record["proposals"].scores)
    assert model.resize_to_input(resized) is resized
    (result,) = model.eval()([record])
    assert result["instances"].image_size == (32, 32)  # boxes are in pixels of the given image
