import math

import pytest
import torch
from torch.autograd import gradcheck

from wsd_distill import losses

ONE = torch.ones


def test_fused_scores_by_hand():
    cls_logits = torch.tensor([[0.0, math.log(3)], [0.0, 0.0]])  # rows: 1/4, 3/4 and 1/2, 1/2
    det_logits = torch.tensor([[0.0, math.log(4)], [0.0, 0.0]])  # columns: 1/2, 1/2 and 4/5, 1/5
    expected = torch.tensor([[1 / 8, 3 / 5], [1 / 4, 1 / 10]])
    torch.testing.assert_close(losses.fused_scores(cls_logits, det_logits), expected)


def test_softened_scores_with_temperature_one_equal_fused_scores():
    cls_logits, det_logits = torch.randn(5, 3), torch.randn(5, 3)
    softened = losses.softened_scores(cls_logits, det_logits, ONE(3), ONE(5))
    assert torch.equal(softened, losses.fused_scores(cls_logits, det_logits))


def test_softened_scores_by_hand():
    """Eq. 7: logits of class k are divided by t^c_k, logits of proposal r by t^d_r, before each softmax."""
    cls_logits = torch.tensor([[2 * math.log(3), 0.0], [0.0, 0.0]])
    det_logits = torch.tensor([[math.log(9), 0.0], [0.0, 0.0]])
    scores = losses.softened_scores(cls_logits, det_logits, torch.tensor([2.0, 1.0]), torch.tensor([2.0, 1.0]))
    # class softmax: (3/4, 1/4), (1/2, 1/2); proposal softmax of class 0: 3/4, 1/4, of class 1: 1/2, 1/2
    torch.testing.assert_close(scores, torch.tensor([[9 / 16, 1 / 8], [1 / 8, 1 / 4]]))


def test_image_level_bce_by_hand():
    """Two images, three classes, -(ln .8 + ln .9 + ln .6) and -(ln .5 + ln .25 + ln .3), divided by two images."""
    scores = torch.tensor([[0.8, 0.1, 0.4], [0.5, 0.75, 0.3]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [1.0, 0.0, 1.0]])
    expected = -sum(map(math.log, [0.8, 0.9, 0.6, 0.5, 0.25, 0.3])) / 2
    assert losses.image_level_bce(scores, labels).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("score, label", [(0.0, 1.0), (1.0, 0.0), (1.0 + 1e-6, 0.0)])
def test_image_level_bce_is_limited_at_1e_4(score, label):
    loss = losses.image_level_bce(torch.tensor([[score]]), torch.tensor([[label]]))
    assert loss.item() == pytest.approx(-math.log(1e-4), rel=1e-3)


@pytest.mark.parametrize("eps", [1e-4, 1e-7])
def test_image_level_bce_keeps_its_gradient_outside_the_limit(eps):
    """As in CrossEntropyLossLayer of the released code; 0 where the label is ignored."""
    values = [0.0, 2e-7, 5e-5, 1e-4, 0.3, 0.5, 0.9999, 0.99997, 1.0, 1.0 + 1e-6]
    p = torch.tensor([values] * 3, dtype=torch.float64, requires_grad=True)
    labels = torch.tensor([[1.0], [0.0], [-1.0]]).expand(3, len(values))
    loss = losses.image_level_bce(p, labels, eps=eps)
    loss.backward()
    positive, negative = ([max(x, eps) for x in values], [max(1 - x, eps) for x in values])
    assert loss.item() == pytest.approx(-sum(map(math.log, positive + negative)) / 3, rel=1e-9)
    expected = [[-1 / x / 3 for x in positive], [1 / x / 3 for x in negative], [0] * len(values)]
    torch.testing.assert_close(p.grad, torch.tensor(expected, dtype=torch.float64), rtol=1e-6, atol=0)


def test_a_positive_that_no_proposal_scores_is_learned():
    """80 classes, p = 2e-7 of the positive one: the gradient of its logit is 2e-7 / 1e-4, as in the released layer."""
    cls_logits = torch.zeros(1, 80)
    cls_logits[0, 0] = math.log(2e-7 * 79)
    cls_logits.requires_grad_()
    p = losses.fused_scores(cls_logits, torch.zeros(1, 80)).sum(0)[None]
    losses.image_level_bce(p[:, :1], torch.ones(1, 1)).backward()
    assert p[0, 0].item() == pytest.approx(2e-7, rel=1e-3)
    assert cls_logits.grad[0, 0].item() == pytest.approx(-2e-3, rel=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_image_level_bce_survives_autocast_and_half_precision(dtype):
    scores = torch.tensor([[0.9999]], dtype=dtype)
    assert scores.item() == 1  # so is 1 - eps: without float32 this loss would be infinite
    with torch.autocast("cpu", dtype=dtype):
        loss = losses.image_level_bce(scores, torch.tensor([[0.0]]))
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(-math.log(1e-4), rel=1e-3)


def test_hard_label_loss_by_hand():
    """Eq. 10 with p = 3/4, 1/5, 2/3 and 1/2, 1/2, 1/2: sums over classes, mean over images."""
    logits = torch.tensor([[math.log(3), -math.log(4), math.log(2)], [0.0, 0.0, 0.0]])
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    expected = -sum(map(math.log, [3 / 4, 4 / 5, 1 / 3, 1 / 2, 1 / 2, 1 / 2])) / 2
    assert losses.hard_label_loss(logits, labels).item() == pytest.approx(expected, rel=1e-6)


def test_labels_of_minus_one_are_ignored():
    """Image one: classes 0 and 2 with p = 3/4 and 2/3; image two: class 1 with p = 1/2. No gradient elsewhere."""
    logits = torch.tensor([[math.log(3), 5.0, math.log(2)], [-7.0, 0.0, 7.0]], requires_grad=True)
    labels = torch.tensor([[1.0, -1.0, 0.0], [-1.0, 1.0, -1.0]])
    expected = -sum(map(math.log, [3 / 4, 1 / 3, 1 / 2])) / 2
    for loss in (losses.hard_label_loss(logits, labels), losses.image_level_bce(logits.sigmoid(), labels)):
        assert loss.item() == pytest.approx(expected, rel=1e-6)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert torch.equal(gradient == 0, labels == -1)


def test_softened_sigmoid_by_hand():
    softened = losses.softened_sigmoid(torch.tensor([[2 * math.log(3), -math.log(4)]]), torch.tensor([2.0, 1.0]))
    torch.testing.assert_close(softened, torch.tensor([[3 / 4, 1 / 5]]))


def test_class_aware_loss_by_hand():
    """Eq. 5: (0.3^2 + 0.4^2 + 0.5^2 + 0 + 1 + 0) / (2 * 2)."""
    teacher = torch.tensor([[0.5, 0.9, 0.5], [0.2, 1.0, 0.7]])
    student = torch.tensor([[0.2, 0.5, 0.0], [0.2, 0.0, 0.7]])
    assert losses.class_aware_loss(teacher, student).item() == pytest.approx(1.5 / 4)


def test_roi_feature_loss_by_hand():
    """Image one has two proposals, image two one: (1/2 (0.5^2 * 4 + 0.1^2 * 4 * 4) + 1^2 * 4 * 9) / (2 * 2)."""
    difference = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(3, 1, 2, 2)
    student = torch.randn(3, 1, 2, 2)
    loss = losses.roi_feature_loss(student + difference, student, torch.tensor([0.5, 0.1, 1.0]), [2, 1])
    assert loss.item() == pytest.approx((0.5 * (1.0 + 0.16) + 36) / 4, rel=1e-5)


def test_roi_feature_loss_leaves_out_masked_bins():
    """As above; one bin of the first proposal and all bins of the third are masked, and image three has no proposal."""
    difference = torch.tensor([1.0, 2.0, 3.0])[:, None, None, None].expand(3, 1, 2, 2)
    mask = torch.ones(3, 1, 2, 2, dtype=torch.bool)
    mask[0, 0, 1, 1], mask[2] = False, False
    loss = losses.roi_feature_loss(difference, 0 * difference, torch.tensor([0.5, 0.1, 1.0]), [2, 1, 0], mask)
    assert loss.item() == pytest.approx(0.5 * (0.25 * 3 + 0.16) / 6, rel=1e-5)


def test_one_versus_all_loss_by_hand():
    """KL of [0.2, 0.8] from [0.6, 0.4], and of the limit 1e-4 from 1/2; the unknown label has neither."""
    logits = torch.tensor([[math.log(1.5), 0.0, 3.0]])
    expected = 0.2 * math.log(0.2 / 0.6) + 0.8 * math.log(0.8 / 0.4)
    expected += 1e-4 * math.log(2e-4) + (1 - 1e-4) * math.log(2 * (1 - 1e-4))
    loss = losses.one_versus_all_loss(torch.tensor([[0.2, 0.0, 0.9]]), logits, torch.tensor([[1.0, 0.0, -1.0]]))
    assert loss.item() == pytest.approx(expected, rel=1e-5)


def test_embedding_structure_loss_by_hand():
    """Distances 1, 3, 2 and 3, 3, 0, both with mean 2: differences 1, 0, 1, each for two ordered pairs."""
    teacher, student = torch.tensor([[[0.0], [1.0], [3.0], [9.0]]]), torch.tensor([[[0.0, 0], [0, 3], [0, 3], [1, 1]]])
    members = torch.tensor([[True, True, True, False]])
    assert losses.embedding_structure_loss(teacher, student, members).item() == pytest.approx(2 * 1 / 3, rel=1e-5)
    assert losses.embedding_structure_loss(teacher, 7 * teacher, members).item() == pytest.approx(0, abs=1e-6)
    assert losses.embedding_structure_loss(teacher, student, members & (teacher[..., 0] > 2)).item() == 0


def test_soft_label_loss_by_hand():
    """sigmoid(m / t) = 3/4, 1/5 and 1/2, 1/2; -(q ln p + (1 - q) ln(1 - p)) over both classes, for two images."""
    logits = torch.tensor([[2 * math.log(3), -math.log(4)], [0.0, 0.0]])
    target = torch.tensor([[0.5, 0.1], [1.0, 0.3]])
    image_one = 0.5 * math.log(3 / 4) + 0.5 * math.log(1 / 4) + 0.1 * math.log(1 / 5) + 0.9 * math.log(4 / 5)
    expected = -(image_one + 2 * math.log(1 / 2)) / 2
    assert losses.soft_label_loss(target, logits, torch.tensor([2.0, 1.0])).item() == pytest.approx(expected, rel=1e-6)
    over = losses.soft_label_loss(torch.tensor([[1 + 1e-3]]), torch.zeros(1, 1), 1.0)
    assert over.item() == pytest.approx(math.log(2), rel=1e-6)  # targets are clamped to 1


def test_soft_label_divergence_is_zero_for_equal_predictions_and_has_a_gradient_at_0_and_1():
    logits = torch.tensor([[2.0, -1.0, 0.5]])
    divergence = losses.soft_label_divergence((logits / 3).sigmoid(), logits, 3.0)
    assert divergence.item() == pytest.approx(0, abs=1e-6)
    q, p = torch.tensor([[0.2]]), torch.tensor([[0.6]])
    by_hand = 0.2 * math.log(0.2 / 0.6) + 0.8 * math.log(0.8 / 0.4)
    assert losses.soft_label_divergence(q, torch.logit(p), 1.0).item() == pytest.approx(by_hand, rel=1e-5)
    ends = torch.tensor([[0.0, 1.0]], requires_grad=True)
    loss = losses.soft_label_divergence(ends, torch.zeros(1, 2), 1.0)
    loss.backward()
    assert loss.item() == pytest.approx(2 * math.log(2), rel=2e-3)
    at_limit = math.log(1e-4 / (1 - 1e-4))  # d/dq of q log(q / p) + (1 - q) log((1 - q) / (1 - p)) at p = 1/2
    assert ends.grad[0].tolist() == pytest.approx([at_limit, -at_limit], rel=1e-3)


def test_hint_loss_by_hand():
    """Differences 1, 2, 3 and 4 in the four cells of one channel, 0 in the other channel: 30 / 8 / 2."""
    student = torch.randn(1, 2, 2, 2)
    difference = torch.tensor([[[1.0, 2.0], [3.0, 4.0]], [[0.0, 0.0], [0.0, 0.0]]])
    assert losses.hint_loss(student + difference, student).item() == pytest.approx(30 / 16, rel=1e-5)


def test_attention_by_hand():
    """Channels (1, -2) and (2, 0) make 5 and 4 of two cells; maps (3, 4) and (4, 3) differ by (1/5)^2 in both cells."""
    features = torch.tensor([[[[1.0, 2.0]], [[-2.0, 0.0]]]])
    assert losses.attention_map(features).tolist() == [[[5.0, 4.0]]]
    teacher, student = torch.tensor([[[3.0, 4.0]], [[1.0, 0.0]]]), torch.tensor([[[40.0, 30.0]], [[2.0, 0.0]]])
    assert losses.attention_loss(teacher, student).item() == pytest.approx((0.04 + 0.04) / 4, rel=1e-5)


def test_attention_of_a_zero_map_is_finite():
    student = torch.zeros(1, 2, 2, 2, requires_grad=True)
    loss = losses.attention_loss(torch.ones(1, 2, 2), losses.attention_map(student))
    loss.backward()
    assert loss.item() == pytest.approx(1 / 4) and torch.isfinite(student.grad).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_comparisons_survive_autocast(dtype):
    target, logits = torch.tensor([[1.0, 0.0]], dtype=dtype), torch.tensor([[9.0, -9.0]], dtype=dtype)
    large = torch.full((1, 2, 2, 2), 300.0, dtype=dtype)  # its square overflows in float16
    with torch.autocast("cpu", dtype=dtype):
        soft = losses.soft_label_loss(target, logits, 1.0)
        divergence = losses.soft_label_divergence(target, logits, 1.0)
        attention = losses.attention_map(large)
        hint = losses.hint_loss(large, torch.zeros_like(large))
    assert {x.dtype for x in (soft, divergence, attention, hint)} == {torch.float32}
    assert soft.item() == pytest.approx(2 * math.log1p(math.exp(-9)), rel=1e-2) and torch.isfinite(divergence)
    assert attention.flatten().tolist() == pytest.approx([2 * large[0, 0, 0, 0].item() ** 2] * 4)
    assert hint.item() == pytest.approx(large[0, 0, 0, 0].item() ** 2 / 2)


def test_eq9_gradients_of_the_sigmoid():
    """Eq. 9 with m_hat = m / t: dL/dm = dL/dm_hat / t and dL/dt_k = sum over images of dL/dm_hat * (-m / t^2)."""
    m = torch.randn(4, 3, dtype=torch.float32, requires_grad=True)
    t = (torch.rand(3) + 0.5).requires_grad_()
    target = torch.rand(4, 3)
    losses.class_aware_loss(target, losses.softened_sigmoid(m, t)).backward()
    with torch.no_grad():
        p = (m / t).sigmoid()
        upstream = (p - target) / 4 * p * (1 - p)  # dL/dm_hat
        torch.testing.assert_close(m.grad, upstream / t)
        torch.testing.assert_close(t.grad, (upstream * (-m / t**2)).sum(0))


def test_eq9_gradients_of_both_softmaxes():
    cls_logits, det_logits = torch.randn(5, 3, requires_grad=True), torch.randn(5, 3, requires_grad=True)
    t_cls, t_det = (torch.rand(3) + 0.5).requires_grad_(), (torch.rand(5) + 0.5).requires_grad_()
    upstream = torch.randn(5, 3)
    (losses.softened_scores(cls_logits, det_logits, t_cls, t_det) * upstream).sum().backward()
    with torch.no_grad():
        c = (cls_logits / t_cls).softmax(1)
        d = (det_logits / t_det[:, None]).softmax(0)
        to_c = c * (upstream * d - (upstream * d * c).sum(1, keepdim=True))  # softmax's own gradient, to m_hat
        to_d = d * (upstream * c - (upstream * c * d).sum(0, keepdim=True))
        torch.testing.assert_close(cls_logits.grad, to_c / t_cls)
        torch.testing.assert_close(det_logits.grad, to_d / t_det[:, None])
        torch.testing.assert_close(t_cls.grad, (to_c * -cls_logits / t_cls**2).sum(0))
        torch.testing.assert_close(t_det.grad, (to_d * -det_logits / t_det[:, None] ** 2).sum(1))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    "function, shapes",
    [
        (losses.fused_scores, [(4, 3), (4, 3)]),
        (lambda c, d: losses.softened_scores(c, d, ONE(3), ONE(4)), [(4, 3), (4, 3)]),
        (lambda m: losses.hard_label_loss(m, torch.eye(3)), [(3, 3)]),
        (lambda m: losses.softened_sigmoid(m, 2 * ONE(3)), [(4, 3)]),
        (losses.class_aware_loss, [(4, 3), (4, 3)]),
        (lambda t, s, w: losses.roi_feature_loss(t, s, w, [3, 1]), [(4, 2, 2, 2), (4, 2, 2, 2), (4,)]),
        (lambda q, m: losses.soft_label_loss(q, m, 5.0), [(4, 3), (4, 3)]),
        (lambda q, m: losses.soft_label_divergence(q, m, 2 * ONE(3)), [(4, 3), (4, 3)]),
        (lambda q, m: losses.one_versus_all_loss(q, m, torch.eye(4)[:, :3]), [(4, 3), (4, 3)]),
        (lambda t, s: losses.embedding_structure_loss(t, s, torch.ones(2, 4) > 0), [(2, 4, 3), (2, 4, 5)]),
        (losses.pooled_feature_loss, [(4, 3), (4, 3)]),
        (losses.hint_loss, [(4, 2, 2, 2), (4, 2, 2, 2)]),
        (losses.attention_map, [(4, 2, 2, 2)]),
        (losses.attention_loss, [(4, 2, 2), (4, 2, 2)]),
    ],
    ids=[
        *["fused", "softened", "hard", "sigmoid", "class_aware", "roi"],
        *["soft_label", "divergence", "one_versus_all", "structure", "pooled", "hint", "attention_map", "attention"],
    ],
)
def test_half_precision_inputs_have_float32_results(function, shapes, dtype):
    halves = [torch.randn(*shape).to(dtype) for shape in shapes]
    result = function(*halves)
    assert result.dtype == torch.float32
    torch.testing.assert_close(result, function(*(x.float() for x in halves)), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    "function, inputs",
    [
        (losses.fused_scores, [(4, 3), (4, 3)]),
        (lambda c, d, tc, td: losses.softened_scores(c, d, tc.exp(), td.exp()), [(4, 3), (4, 3), (3,), (4,)]),
        (lambda p: losses.image_level_bce(p.sigmoid(), torch.eye(3)), [(3, 3)]),
        (lambda m: losses.hard_label_loss(m, torch.eye(3)), [(3, 3)]),
        (lambda m, t: losses.softened_sigmoid(m, t.exp()), [(4, 3), (3,)]),
        (losses.class_aware_loss, [(4, 3), (4, 3)]),
        (lambda s, w: losses.roi_feature_loss(torch.ones(3, 2, 2, 2), s, w, [2, 1]), [(3, 2, 2, 2), (3,)]),
        (lambda q, m, t: losses.soft_label_loss(q.sigmoid(), m, t.exp()), [(4, 3), (4, 3), (3,)]),
        (lambda q, m, t: losses.soft_label_divergence(q.sigmoid(), m, t.exp()), [(4, 3), (4, 3), (3,)]),
        (lambda m: losses.one_versus_all_loss(torch.full((4, 3), 0.3).double(), m, torch.eye(4)[:, :3]), [(4, 3)]),
        (lambda t, s: losses.embedding_structure_loss(t, s, torch.ones(2, 4) > 0), [(2, 4, 3), (2, 4, 5)]),
        (losses.pooled_feature_loss, [(4, 3), (4, 3)]),
        (losses.hint_loss, [(3, 2, 2, 2), (3, 2, 2, 2)]),
        (lambda a, b: losses.attention_loss(*map(losses.attention_map, (a, b))), [(3, 2, 2, 2), (3, 4, 2, 2)]),
    ],
    ids=[
        *["fused", "softened", "bce", "hard", "sigmoid", "class_aware", "roi"],
        *["soft_label", "divergence", "one_versus_all", "structure", "pooled", "hint", "attention"],
    ],
)
def test_gradcheck(function, inputs):
    tensors = [torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in inputs]
    assert gradcheck(function, tensors)
