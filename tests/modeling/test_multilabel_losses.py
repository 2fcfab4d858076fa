"""Losses of S-Cls against plain loops, in which unknown labels do not exist."""

import math

import pytest
import timm.loss
import torch
from helpers.builders import CLASSES, PIXELS, K, make_batch, make_student
from torch.nn import functional as F

from wsd_distill.distillation import HardLabels
from wsd_distill.distillation.objectives.objective import StudentOutput
from wsd_distill.losses import hard_label_loss
from wsd_distill.modeling import GlobalPoolHead, MultiLabelClassifier, SmallConvNet
from wsd_distill.modeling.multilabel_losses import LOSSES, build_loss

LABELS = torch.tensor(
    [[1, 0, -1, 0, 1], [0, -1, 1, 0, -1], [-1, 1, -1, 1, -1], [0, 0, -1, 0, 0], [-1, -1, -1, -1, -1]]
).float()  # row 2 has no known negative, row 3 no positive, row 4 nothing; column 2 has no known negative
HARD = LABELS.clamp(min=0)
SOFT = torch.where(LABELS > 0, 0.7, torch.where(LABELS == 0, 0.2, -1.0))


def asymmetric(x, y, gamma_pos=1, gamma_neg=4, clip=0.05):
    """Eq. 7 of the paper for y in {0, 1}."""
    p = 1 / (1 + math.exp(-x))
    shifted = max(p - clip, 0)
    return -((1 - p) ** gamma_pos) * math.log(p) if y == 1 else -(shifted**gamma_neg) * math.log(1 - shifted)


def poly(x, y, epsilon=2):
    p = 1 / (1 + math.exp(-x))
    return -y * math.log(p) - (1 - y) * math.log(1 - p) + epsilon * (1 - y * p - (1 - y) * (1 - p))


def cross_entropy(x, y):
    return poly(x, y, epsilon=0)


def of_elements(term, logits, labels):
    pairs = [(x, y) for xs, ys in zip(logits.tolist(), labels.tolist()) for x, y in zip(xs, ys) if y >= 0]
    return sum(term(x, y) for x, y in pairs) / len(logits)


def split(row, labels):
    pairs = list(zip(row, labels))
    return [x for x, y in pairs if y == 1], [x for x, y in pairs if y == 0]


def zlpr(logits, labels):
    total = 0.0
    for row, y in zip(logits.tolist(), labels.tolist()):
        positive, negative = split(row, y)
        total += math.log(1 + sum(map(math.exp, negative))) + math.log(1 + sum(math.exp(-x) for x in positive))
    return total / len(logits)


def two_way(logits, labels, tp=4.0, tn=1.0):
    total = 0.0
    for x, y in ((logits, labels), (logits.T, labels.T)):
        terms = []
        for row, of_row in zip(x.tolist(), y.tolist()):
            positive, negative = split(row, of_row)
            if positive and negative:
                low = tp * math.log(sum(math.exp(-v / tp) for v in positive))
                terms.append(math.log(1 + math.exp(low + tn * math.log(sum(math.exp(v / tn) for v in negative)))))
            elif positive:
                terms.append(0.0)  # no negative is too high
        total += sum(terms) / max(len(terms), 1)
    return total


LOOPS = {
    "cross_entropy": lambda x, y: of_elements(cross_entropy, x, y),
    "asymmetric": lambda x, y: of_elements(asymmetric, x, y),
    "poly": lambda x, y: of_elements(poly, x, y),
    "two_way": two_way,
    "zlpr": zlpr,
}


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("labels", [LABELS, HARD])
def test_equal_plain_loops(name, labels):
    logits = 2 * torch.randn(5, 5)
    assert build_loss(name)(logits, labels).item() == pytest.approx(LOOPS[name](logits, labels), rel=1e-5)


@pytest.mark.parametrize("name", ["cross_entropy", "poly"])
def test_soft_labels_are_weights_of_both_terms(name):
    logits = 2 * torch.randn(5, 5)
    assert build_loss(name)(logits, SOFT).item() == pytest.approx(LOOPS[name](logits, SOFT), rel=1e-5)


def test_asymmetric_loss_takes_timms_soft_labels():
    logits = 2 * torch.randn(3, 4)
    labels = torch.rand(3, 4)
    expected = timm.loss.AsymmetricLossMultiLabel(reduction="batchmean")(logits, labels)
    torch.testing.assert_close(build_loss("asymmetric")(logits, labels), expected)


@pytest.mark.parametrize("name", ["two_way", "zlpr"])
def test_ranking_losses_name_a_soft_label(name):
    with pytest.raises(ValueError, match=r"a label is 0.7, and .* takes 0, 1 and -1 only: set dataloader.train.mix"):
        build_loss(name)(torch.zeros(5, 5), SOFT)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("extreme", [-80.0, 0.0, 80.0, math.inf])
def test_unknown_logits_have_no_effect(name, extreme):
    """Equal bits of value and gradient whatever the unknown logits are, and no gradient for them."""
    logits = torch.randn(5, 5)
    results = []
    for x in (logits, logits.masked_fill(LABELS < 0, min(extreme, 80.0) if name == "cross_entropy" else extreme)):
        x = x.clone().requires_grad_()
        value = build_loss(name)(x, LABELS)
        value.backward()
        results.append((value.detach(), x.grad))
    assert torch.equal(results[0][0], results[1][0]) and torch.equal(results[0][1], results[1][1])
    assert (results[0][1][LABELS < 0] == 0).all() and results[0][1].isfinite().all()
    assert (results[0][1][:2][LABELS[:2] >= 0] != 0).any()


@pytest.mark.parametrize("name", LOSSES)
def test_half_precision_is_computed_in_float32(name):
    logits = torch.randn(5, 5).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        found = build_loss(name)(logits, LABELS)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, build_loss(name)(logits.float(), LABELS), rtol=0, atol=0)


def test_asymmetric_loss_without_focusing_is_eq10():
    logits = torch.randn(5, 5)
    found = build_loss("asymmetric", {"gamma_neg": 0, "gamma_pos": 0, "clip": None})(logits, SOFT)
    torch.testing.assert_close(found, hard_label_loss(logits, SOFT))


def test_options_reach_timm():
    logits = 2 * torch.randn(5, 5)
    found = build_loss("asymmetric", {"gamma_neg": 2, "gamma_pos": 0, "clip": 0.1})(logits, LABELS)
    expected = of_elements(lambda x, y: asymmetric(x, y, 0, 2, 0.1), logits, LABELS)
    assert found.item() == pytest.approx(expected, rel=1e-5)
    found = build_loss("two_way", {"tp": 2.0, "tn": 3.0})(logits, LABELS)
    assert found.item() == pytest.approx(two_way(logits, LABELS, 2, 3), rel=1e-5)


@pytest.mark.parametrize(
    "name, options, message",
    [
        ("asl", {}, "loss='asl': choose from cross_entropy, asymmetric, poly, two_way, zlpr"),
        ("asymmetric", {"gama": 1}, "loss_options has 'gama', and asymmetric takes gamma_neg, gamma_pos, clip"),
        ("asymmetric", {"reduction": "sum"}, "loss_options has 'reduction', and asymmetric takes"),
        ("zlpr", {"tp": 1}, "loss_options has 'tp', and zlpr takes no options"),
        ("cross_entropy", {"smoothing": 0.1}, "loss_options has 'smoothing', and cross_entropy takes no options"),
        (3, {}, "loss=3: choose from"),
        (hard_label_loss, {"tp": 1}, "loss_options={'tp': 1}: they are for a loss by name"),
        ("two_way", {"tp": -1}, "loss_options={'tp': -1}: timm's TwoWayLoss does not accept these values"),
    ],
)
def test_wrong_names_and_options(name, options, message):
    with pytest.raises(ValueError, match=message.replace("{", r"\{")):
        build_loss(name, options)


def test_an_old_timm_is_named(monkeypatch):
    class Old(torch.nn.Module):
        def __init__(self, gamma_neg=4):
            super().__init__()

    monkeypatch.setattr(timm.loss, "AsymmetricLossMultiLabel", Old)
    monkeypatch.delattr(timm.loss, "ZlprLoss")
    for name in ("asymmetric", "zlpr"):
        with pytest.raises(ValueError, match="timm .* has no .*Loss.* install timm 1.0.31 or newer"):
            build_loss(name)
    assert build_loss("cross_entropy") is hard_label_loss


def make_classifier(**options):
    torch.manual_seed(0)
    return MultiLabelClassifier(
        backbone=SmallConvNet(channels=[4, 6], convs=[1, 1], norm=""),
        in_feature="conv2",
        head=GlobalPoolHead(channels=6),
        num_classes=K,
        class_names=CLASSES,
        **PIXELS,
        **options,
    )


def test_student_and_hard_labels_use_the_loss_and_weights_stay_loadable():
    model, batch = make_classifier(loss="asymmetric", loss_options={"gamma_neg": 2, "pos_weight": 3.0}), make_batch(3)
    batch[0]["labels"] = torch.tensor([1.0, -1.0, 0.0])
    labels = torch.stack([x["labels"] for x in batch])
    features = model.features(batch)
    expected = build_loss("asymmetric", {"gamma_neg": 2, "pos_weight": 3.0})(model.logits(features), labels)
    assert abs(expected - hard_label_loss(model.logits(features), labels)) > 0.1
    assert model.train()(batch) == {"loss_hard": expected}
    assert HardLabels()(StudentOutput(model, batch, features), None) == expected
    assert model.state_dict().keys() == make_student().state_dict().keys()


def test_a_function_may_be_the_loss():
    model = make_classifier(loss=lambda logits, labels: F.mse_loss(logits, labels))
    batch = make_batch(2)
    expected = F.mse_loss(model.logits(model.features(batch)), torch.stack([x["labels"] for x in batch]))
    assert model.train()(batch) == {"loss_hard": expected}
