import numpy as np
import pytest
import torch
from detectron2.layers import ShapeSpec
from helpers.builders import make_batch, make_pair, make_student, make_teacher
from torch.nn.functional import adaptive_avg_pool2d
from torchvision.ops import roi_align

from wsd_distill.distillation import Distiller, Objectives, RegionConsistent, StudentOutput
from wsd_distill.modeling import WSDDNOutput

IMAGES = 4


def build(channels=6, **options):
    objective = RegionConsistent(layer=make_pair(), **options)
    shapes = ({"conv2": ShapeSpec(channels, stride=2)}, {"conv2": ShapeSpec(6, stride=2)})
    objective.build(*shapes)
    return objective


def outputs(channels=6, seed=0, batch=None):
    """Random maps: the student's 8 x 8 of 16 pixels, the teacher's 16 x 16 of 32 pixels."""
    generator = torch.Generator().manual_seed(seed)
    batch = batch or make_batch(IMAGES)
    student_map = torch.rand(IMAGES, channels, 8, 8, generator=generator, requires_grad=True)
    teacher_map = torch.rand(IMAGES, 6, 16, 16, generator=generator) * torch.arange(1.0, 7)[:, None, None]
    boxes = [x["teacher"]["proposals"].proposal_boxes for x in batch]
    student = StudentOutput(make_student(channels=channels), batch, {"conv2": student_map})
    return student, WSDDNOutput({"conv2": teacher_map}, boxes, [], [])


def fit(objective, *batches):
    for student, teacher in batches:
        objective.fit_step(student, teacher)
    objective.fit_end()
    return objective


def cells(maps):
    return maps.detach().movedim(1, -1).flatten(0, 2).double().numpy()


def test_the_loss_of_the_view_is_the_mean_of_standardized_squares():
    objective, (student, teacher) = build(adapter="identity", weight=3.0), outputs()
    fit(objective, (student, teacher))
    target, found = cells(adaptive_avg_pool2d(teacher.features["conv2"], 8)), cells(student.features["conv2"])
    deviation = target.std(0)
    np.testing.assert_allclose(objective.deviation.numpy(), deviation, rtol=1e-5)
    expected = 3 * np.mean(((target - found) / deviation) ** 2)
    assert objective(student, teacher).item() == pytest.approx(expected, rel=1e-5)


def test_the_loss_of_proposals_is_over_their_pooled_features():
    objective, (student, teacher) = (
        build(adapter="identity", regions="proposals", weight=1.0, num_proposals=3),
        outputs(),
    )
    fit(objective, (student, teacher))
    terms = []
    for i, x in enumerate(student.batched_inputs):
        for j in range(3):
            box, student_box = (y["proposals"].proposal_boxes.tensor[j : j + 1] for y in (x["teacher"], x))
            rois = [
                roi_align(maps[i : i + 1], [b], 3, spatial_scale=0.5, sampling_ratio=0, aligned=True)
                for maps, b in ((teacher.features["conv2"], box), (student.features["conv2"], student_box))
            ]
            terms.append(((rois[0] - rois[1]) / objective.deviation[:, None, None]).square())
    expected = torch.stack(terms).mean().item()
    assert objective(student, teacher).item() == pytest.approx(expected, rel=1e-5)
    view = fit(build(adapter="identity", regions="view", weight=1.0), (student, teacher))(student, teacher).item()
    both = fit(build(adapter="identity", regions="both", weight=1.0, num_proposals=3), (student, teacher))
    assert both(student, teacher).item() == pytest.approx((view + expected) / 2, rel=1e-5)


def test_psi_starts_at_the_least_squares_fit():
    batches = [outputs(channels=5, seed=seed) for seed in range(3)]
    objective = fit(build(channels=5, ridge=0.0), *batches)
    x = np.concatenate([cells(student.features["conv2"]) for student, _ in batches])
    y = np.concatenate([cells(adaptive_avg_pool2d(teacher.features["conv2"], 8)) for _, teacher in batches])
    solution = np.linalg.lstsq(np.hstack([x, np.ones((len(x), 1))]), y, rcond=None)[0]
    np.testing.assert_allclose(objective.adapter.weight.detach().numpy()[:, :, 0, 0], solution[:-1].T, atol=1e-4)
    np.testing.assert_allclose(objective.adapter.bias.detach().numpy(), solution[-1], atol=1e-4)


def test_a_linear_teacher_is_fitted_exactly():
    student, teacher = outputs(channels=5)
    weight = torch.rand(6, 5, generator=torch.Generator().manual_seed(3))
    linear = torch.einsum("ks,nshw->nkhw", weight, student.features["conv2"].detach()) + 0.5
    teacher.features["conv2"] = torch.nn.functional.interpolate(linear, (16, 16))
    objective = fit(build(channels=5, ridge=0.0), (student, teacher))
    assert objective(student, teacher).item() < 1e-6


def test_gradients_reach_the_student_and_psi_but_not_the_deviations():
    student, teacher = outputs(channels=5)
    objective = fit(build(channels=5), (student, teacher))
    objective(student, teacher).backward()
    assert student.features["conv2"].grad.abs().sum() > 0 and objective.adapter.weight.grad.abs().sum() > 0
    assert "deviation" in objective.state_dict()


def test_a_constant_channel_does_not_divide_by_zero():
    student, teacher = outputs()
    teacher.features["conv2"][:, 2] = 0.25
    objective = fit(build(adapter="identity"), (student, teacher))
    assert torch.isfinite(objective(student, teacher))


@pytest.mark.parametrize(
    "options, message",
    [
        ({"regions": "boxes"}, 'regions must be "view", "proposals" or "both"'),
        ({"adapter": "random"}, 'adapter must be "identity" or "least_squares"'),
        ({"adapter": "identity", "channels": 5}, "teacher's conv2 6: set distiller.objectives.loss_regions.ada"),
    ],
)
def test_wrong_options_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_a_loss_before_the_fit_and_proposals_that_are_missing_are_errors():
    student, teacher = outputs()
    with pytest.raises(RuntimeError, match="deviations of the teacher's channels are not measured: call"):
        build()(student, teacher)
    objective = fit(build(adapter="identity", regions="proposals"), (student, teacher))
    with pytest.raises(ValueError, match="regions is not view, and there are no proposals: set dataloader.train.prop"):
        objective(student, WSDDNOutput(teacher.features, [], [], []))


def test_teachers_of_the_project_are_accepted():
    for teacher in (make_teacher(), make_student()):
        objective = RegionConsistent(layer=make_pair())
        objective.build(make_student().backbone.output_shape(), teacher.backbone.output_shape())


@pytest.mark.parametrize("is_main", [True, False])
def test_psi_is_fitted_to_the_student_as_it_trains(tmp_path, monkeypatch, capsys, is_main):
    """With BatchNorm from scratch: the first loss of the training is that of the fit, and statistics are unchanged.

    The main process alone shows the progress.
    """
    monkeypatch.setattr("detectron2.utils.comm.is_main_process", lambda: is_main)
    torch.manual_seed(0)
    teacher = make_teacher()
    torch.save(teacher.state_dict(), tmp_path / "teacher.pth")
    objective = RegionConsistent(layer=make_pair(), weight=1.0, fit_images=8)
    distiller = Distiller(
        student=make_student(norm="BN"),
        teacher=make_teacher(),
        teacher_checkpoint=str(tmp_path / "teacher.pth"),
        objectives=Objectives(loss_regions=objective),
    ).train()
    batches = [make_batch(4, seed=seed) for seed in range(2)]
    before = {name: value.clone() for name, value in distiller.student.named_buffers()}
    distiller.fit_objectives(batches)
    assert ("feature statistics: 100%" in capsys.readouterr().err) == is_main
    assert all(torch.equal(value, before[name]) for name, value in distiller.student.named_buffers())
    assert distiller(batches[0])["loss_regions"] < 1.05  # a constant, the worst fit, has 1
