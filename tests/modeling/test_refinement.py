import wsd_distill  # noqa: F401

# isort: split
import numpy as np
import pytest
import torch
from helpers.builders import K, make_batch, make_teacher
from scipy.special import log_softmax, softmax

from wsd_distill.engine import param_groups
from wsd_distill.modeling.refinement import pseudo_labels, refined_scores, refinement_losses


def inputs(count):
    return [x["teacher"] for x in make_batch(count)]


def iou(a, b):
    """IoU of two boxes, written out."""
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (sum(areas) - width * height)


def plain_loss(scores, logits, boxes, labels):
    """Loss of one branch by a loop over regions, as Tang et al. describe it."""
    scores, seeds = np.array(scores), []
    for k in np.flatnonzero(labels == 1):
        row = int(np.argmax(scores[:, k]))
        seeds.append((row, k, scores[row, k]))
        scores[row] = 0
    if not seeds:
        return 0.0
    known = [*np.flatnonzero(labels >= 0), len(labels)]  # background is last
    total = 0.0
    for box, row in zip(boxes, logits):
        overlaps = [iou(box, boxes[seed]) for seed, *_ in seeds]
        best = int(np.argmax(overlaps))
        target = seeds[best][1] if overlaps[best] > 0.5 else len(labels)
        total -= seeds[best][2] * log_softmax(row[known])[known.index(target)]
    return total / len(boxes)


@pytest.mark.parametrize("labels", [[1, 0, 0, 0], [1, 0, 1, 1], [1, -1, 0, 1], [0, 0, 0, 0], [-1, -1, -1, -1]])
def test_losses_equal_plain_loops(labels):
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 10, (25, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(8, 14, (25, 2))], axis=1)
    scores, logits = rng.random((25, 4)) / 25, rng.normal(size=(25, 3, 5))
    scores[:, 3] = scores[:, 0]  # two classes with one best region: the second takes its second best
    labels = np.array(labels)
    expected, source = [], scores
    for b in range(3):
        expected.append(plain_loss(source, logits[:, b], boxes, labels))
        source = softmax(logits[:, b], axis=1)[:, :-1]
    found = refinement_losses(*(torch.from_numpy(x).float() for x in (scores, logits, boxes, labels)))
    assert found.tolist() == pytest.approx(expected, rel=1e-5)
    assert (labels == 1).any() == (min(expected) > 0)


def test_pseudo_labels_by_hand():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 8], [0, 0, 10, 5], [20, 20, 30, 30], [20, 20, 40, 40]])
    scores = torch.tensor([[0.6, 0.1, 0.9], [0.2, 0.1, 0.0], [0.1, 0.1, 0.0], [0.1, 0.3, 0.0], [0.1, 0.2, 0.0]])
    targets, weights = pseudo_labels(scores, boxes, torch.tensor([1.0, 1, -1]))
    # Region 0 is the seed of class 0, region 3 of class 1; class 2, unknown, has none. Region 2 has an IoU of 0.5 with
    # its seed, which is not above the threshold.
    assert targets.tolist() == [0, 0, 3, 1, 3]
    assert weights.tolist() == pytest.approx([0.6, 0.6, 0.6, 0.3, 0.3])


def test_a_single_region_can_be_the_seed_of_one_class_only():
    targets, weights = pseudo_labels(torch.tensor([[0.2, 0.7]]), torch.tensor([[0.0, 0, 9, 9]]), torch.ones(2))
    assert targets.tolist() == [0] and weights.tolist() == pytest.approx([0.2])


def test_pseudo_labels_and_unknown_classes_have_no_gradient():
    scores = torch.rand(6, 3, requires_grad=True)
    logits = torch.randn(6, 2, 4, requires_grad=True)
    boxes = torch.tensor([[0.0, 0, 5, 5]]) + torch.arange(6)[:, None]
    refinement_losses(scores, logits, boxes, torch.tensor([1.0, 0, -1])).sum().backward()
    assert scores.grad is None
    assert torch.isfinite(logits.grad).all() and (logits.grad[..., 2] == 0).all() and (logits.grad[..., 1] > 0).all()


def test_detections_use_the_mean_of_the_branches_and_image_scores_do_not():
    model, (record, _) = make_teacher(num_refinements=2).eval(), inputs(2)
    with torch.no_grad():
        model.refinement.classifiers.bias.copy_(torch.arange(8.0))
        output = model.compute_outputs([record])
        (result,) = model([record])
        (viewed,) = model([{**record, "views": [record, record]}])
    logits = output.refined_logits[0]
    assert logits.shape == (4, 2, K + 1)
    mean = softmax(logits.numpy(), axis=2)[..., :K].mean(axis=1)
    assert output.detection_scores[0].numpy() == pytest.approx(mean, rel=1e-5)
    assert result["instances"].scores[0].item() == pytest.approx(mean.max(), rel=1e-5)
    torch.testing.assert_close(result["image_scores"], output.scores[0].sum(0))
    torch.testing.assert_close(viewed["instances"].scores, result["instances"].scores)
    assert refined_scores(logits).sum(2).max() < 1  # the rest is background


def test_training_lowers_every_loss():
    torch.manual_seed(0)
    model, batch = make_teacher(num_refinements=3).train(), inputs(6)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    history = []
    for _ in range(150):
        losses = model(batch)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        # The weights of the pseudo labels grow with the scores of their seeds: compare the loss per weight.
        with torch.no_grad():
            output = model.compute_outputs(batch)
        share = [
            (r.softmax(2)[..., :K] * x["labels"]).sum(2).amax(0) for r, x in zip(output.refined_logits, batch)
        ]  # (B,): probability of the positive class in its best region
        history.append((losses["loss_image"].item(), *torch.stack(share).mean(0).tolist()))
    assert set(losses) == {"loss_image", "loss_refine1", "loss_refine2", "loss_refine3"}
    assert history[-1][0] < history[0][0] / 2
    assert min(history[-1][1:]) > 0.6 > 0.4 > max(history[0][1:])


def test_the_branches_are_new_layers_and_ones_of_another_number_are_an_error():
    model = make_teacher(num_refinements=3)
    groups = param_groups(model, base_lr=1.0, new_layers=["refinement"], new_lr_factor=10.0)
    fast = [p for group in groups if group["lr"] == 10 for p in group["params"]]
    assert {id(p) for p in fast} == {id(p) for p in model.refinement.parameters()}
    with pytest.raises(RuntimeError, match="not in the model: refinement.classifiers"):
        make_teacher().load_state_dict(model.state_dict())
    assert not any(key.startswith("refinement") for key in make_teacher().state_dict())
