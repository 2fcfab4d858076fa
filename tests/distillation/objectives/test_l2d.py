import math

import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from helpers.builders import K, make_pair
from scipy.special import expit, rel_entr
from torchvision.ops import roi_align

from wsd_distill.distillation import LabelWiseEmbeddings, MultiLabelLogits

SHAPES = {"conv2": ShapeSpec(channels=6, stride=2)}  # as in helpers.builders
LABELS = [[1.0, 1, 0], [1, 1, 1], [-1, 1, 0], [0, 0, 1]]


@pytest.fixture
def labeled(outputs):
    """Outputs for four images with 2, 3, 1 and 1 positive labels of three classes; one label is unknown."""
    for record, labels in zip(outputs[0].batched_inputs, LABELS):
        record["labels"] = torch.tensor(labels)
    return outputs


def build(**options):
    torch.manual_seed(0)
    objective = LabelWiseEmbeddings(layer=make_pair(), num_classes=K, dim=8, num_heads=2, **options)
    objective.build(SHAPES, SHAPES)
    return objective


def test_logits_by_scipy(labeled):
    """KL([q, 1 - q] || [p, 1 - p]) of each known label, summed over classes, averaged over images."""
    student, teacher = labeled
    q, p = teacher.image_scores.double().numpy(), expit(student.logits.detach().double().numpy())
    assert q.min() > 1e-4 and q.max() < 1 - 1e-4
    known = np.array(LABELS) >= 0
    expected = (known * (rel_entr(q, p) + rel_entr(1 - q, 1 - p))).sum() / 4
    assert MultiLabelLogits(weight=2.5)(student, teacher).item() == pytest.approx(2.5 * expected, rel=1e-4)
    MultiLabelLogits()(student, teacher).backward(inputs=[student.logits], retain_graph=True)
    (gradient,) = torch.autograd.grad(MultiLabelLogits()(student, teacher), student.logits)
    assert (gradient == 0).tolist() == [[x == -1 for x in row] for row in LABELS]


def test_teacher_embeddings_by_plain_loops(labeled):
    """The sum over regions of S times the mean of the region's RoIAlign bins."""
    _, teacher = labeled
    found = build(pooler_size=2).teacher_embeddings(teacher)
    assert found.shape == (4, K, 6)
    for i, (boxes, scores) in enumerate(zip(teacher.boxes, teacher.scores)):
        expected = torch.zeros(K, 6)
        for r in range(len(boxes)):
            box = boxes.tensor[r : r + 1]
            bins = roi_align(teacher.features["conv2"][i : i + 1], [box], 2, 1 / 2, sampling_ratio=0, aligned=True)
            for k in range(K):
                expected[k] += scores[r, k] * bins[0].mean((1, 2))
        torch.testing.assert_close(found[i], expected)


def distance_loss(teacher, student):
    """One class or image in plain loops: M embeddings -> Huber's function of distances relative to their mean."""
    count, relative = len(teacher), []
    for embeddings in (teacher, student):
        d = [[math.dist(a, b) for b in embeddings] for a in embeddings]
        mean = sum(map(sum, d)) / (count * (count - 1))
        relative.append([x / mean for row in d for x in row])
    differences = [abs(a - b) for a, b in zip(*relative)]
    return sum(x**2 / 2 if x <= 1 else x - 0.5 for x in differences) / count


@pytest.mark.parametrize("class_weight, instance_weight", [(1, 0), (0, 1), (100, 1000)])
def test_embeddings_by_plain_loops(labeled, class_weight, instance_weight):
    student, teacher = labeled
    objective = build(class_weight=class_weight, instance_weight=instance_weight, label_weight=0.0)
    e_t = objective.teacher_embeddings(teacher).tolist()
    e_s = objective.encoder(student.features["conv2"])[0].tolist()
    total, groups = 0.0, 0
    for k in range(K):
        images = [i for i in range(4) if LABELS[i][k] == 1]
        total += class_weight * distance_loss([e_t[i][k] for i in images], [e_s[i][k] for i in images])
    for i in range(4):
        classes = [k for k in range(K) if LABELS[i][k] == 1]
        if len(classes) > 1:
            groups += 1
            total += instance_weight * distance_loss([e_t[i][k] for k in classes], [e_s[i][k] for k in classes])
    assert groups == 2
    assert objective(student, teacher).item() == pytest.approx(total / 4, rel=1e-4)


def test_the_encoder_attends_per_class_and_classifies_each_embedding(labeled):
    """Attention by softmax in plain loops with a single head."""
    student, _ = labeled
    encoder = build().encoder
    attention = torch.nn.MultiheadAttention(8, 1, batch_first=True)
    encoder.attention = attention
    embeddings, logits = encoder(student.features["conv2"])
    query_w, key_w, value_w = attention.in_proj_weight.chunk(3)  # in_proj_bias is 0
    cells = encoder.project(student.features["conv2"][1].flatten(1).T).relu()  # (h * w, D)
    for k in range(K):
        weights = ((key_w @ cells.T).T @ (query_w @ encoder.queries[k]) / 8**0.5).softmax(0)
        attended = attention.out_proj((weights[:, None] * (cells @ value_w.T)).sum(0))
        expected = encoder.norm(encoder.queries[k] + attended)
        torch.testing.assert_close(embeddings[1, k], expected)
        expected_logit = encoder.classifier.weight[k] @ expected + encoder.classifier.bias[k]
        torch.testing.assert_close(logits[1, k], expected_logit)


def test_label_loss_is_the_classification_loss_of_the_embeddings(labeled):
    student, teacher = labeled
    objective = build(class_weight=0.0, instance_weight=0.0, label_weight=0.5)
    _, logits = objective.encoder(student.features["conv2"])
    p, y = expit(logits.detach().double().numpy()), np.array(LABELS)
    terms = np.where(y == 1, -np.log(p), np.where(y == 0, -np.log(1 - p), 0))
    assert objective(student, teacher).item() == pytest.approx(0.5 * terms.sum() / 4, rel=1e-5)


def test_gradients_reach_the_encoder_and_the_student_only(labeled):
    student, teacher = labeled
    objective = build()
    objective(student, teacher).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in objective.parameters())
    assert student.model.backbone.conv1[0].weight.grad.abs().sum() > 0
    assert not objective.teacher_embeddings(teacher).requires_grad
    assert objective.teacher_features == ["conv2"]


def test_an_image_without_regions_or_positive_labels_has_finite_gradients(labeled):
    """Two images without regions have equal teacher embeddings: all distances of a class may be 0."""
    student, teacher = labeled
    for name in ("boxes", "cls_logits", "det_logits"):
        setattr(teacher, name, [x[:0] for x in getattr(teacher, name)])
    student.batched_inputs[3]["labels"] = torch.full((K,), -1.0)
    objective = build()
    assert objective.teacher_embeddings(teacher).abs().max() == 0
    loss = objective(student, teacher) + MultiLabelLogits()(student, teacher)
    loss.backward()
    assert torch.isfinite(loss) and all(torch.isfinite(p.grad).all() for p in objective.parameters())
