import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from detectron2.structures import Boxes, Instances
from helpers.builders import K, make_batch, make_teacher, make_view
from scipy.special import softmax
from torchvision.ops import batched_nms

from wsd_distill.data.mapper import top_proposals
from wsd_distill.modeling import WSDDN, WSDDNOutput


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
    (result,) = model.inference([scores], [scores], [record])
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
    record = {"image": torch.zeros(3, 64, 64), "proposals": proposals}
    (result,) = make_teacher().inference([scores], [scores], [record])
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


def test_an_image_of_another_size_is_an_error():
    model, (record,) = make_teacher().eval(), inputs(1)
    model.input_size = 64
    with pytest.raises(ValueError, match="has 32 x 32 pixels, and the model takes squares of 64: .*MultiLabelMapper"):
        model([record])
    model.input_size = 32
    assert model([record])[0]["image_scores"].shape == (K,)


BOXES, PRIOR = torch.tensor([[0.0, 0, 0.5, 0.5], [0.2, 0.2, 0.8, 0.9], [0, 0, 1, 1]]), torch.tensor([0.9, 0.5, 0.2])


def compute_outputs(teacher, boxes, prior):
    """Outputs for an image of noise with the given proposals."""
    view = make_view(torch.Generator().manual_seed(1), 32, boxes, prior)
    with torch.no_grad():
        return teacher.eval().compute_outputs([view])


def test_an_image_with_few_boxes_keeps_its_objectness():
    """S' is that of a softmax over its three boxes, not over 32 with copies, which would divide it by 11."""
    kept = top_proposals(BOXES.numpy(), PRIOR.numpy(), 32, 0.0, (32, 32), "an image")
    output = compute_outputs(make_teacher(), *map(torch.as_tensor, kept))
    c, d = output.cls_logits[0].double().numpy(), output.det_logits[0].double().numpy()
    expected = (softmax(c, 1) * softmax(d, 0)).sum(1)
    assert output.objectness[0].tolist() == pytest.approx(expected.tolist(), rel=1e-5)
    assert output.objectness[0].sum().item() == pytest.approx(output.image_scores.sum().item(), rel=1e-6)


def test_image_scores_are_the_same_for_boxes_that_are_all_repeated_equally():
    """p is a mean over boxes within the softmax, s' is shared by the copies."""
    teacher = make_teacher()
    once = compute_outputs(teacher, BOXES, PRIOR)
    often = compute_outputs(teacher, BOXES.repeat(4, 1), PRIOR.repeat(4))
    torch.testing.assert_close(often.image_scores, once.image_scores)
    torch.testing.assert_close(often.objectness[0].reshape(4, 3).sum(0), once.objectness[0])


@pytest.mark.parametrize("refinements", [0, 3])
def test_images_of_several_sizes_share_a_training_batch(refinements):
    """The smaller image is padded, its boxes are not moved; the larger one has the same outputs as alone."""
    teacher, generator = make_teacher(num_refinements=refinements).train(), torch.Generator().manual_seed(2)
    batch = [{**make_view(generator, side, BOXES, PRIOR), "labels": torch.tensor([1.0, 0, 0])} for side in (32, 48)]
    output = teacher.compute_outputs(batch)
    assert [boxes.tensor.max().item() for boxes in output.boxes] == [32, 48]
    torch.testing.assert_close(output.scores[1], teacher.compute_outputs(batch[1:]).scores[0])
    losses = teacher(batch)
    assert len(losses) == 1 + refinements and all(torch.isfinite(loss) for loss in losses.values())


def test_images_with_different_numbers_of_proposals_share_a_batch():
    """Scores averaged over views; training and detection run."""
    teacher, batch = make_teacher(), inputs(4)
    assert [len(x["proposals"]) for x in batch] == [4, 5, 6, 7]
    with torch.no_grad():
        together = teacher.eval().compute_outputs(batch)
        views = [{**x, "views": [x, x]} for x in batch]
        for averaged, scores in zip(teacher.average_scores(views)[0], together.scores):
            torch.testing.assert_close(averaged, scores)
        assert [len(r["instances"]) > 0 for r in teacher(views)] == [True] * 4
    assert torch.isfinite(teacher.train()(batch)["loss_image"])
