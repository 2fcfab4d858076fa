"""Every objective on images whose labels are unknown."""

import pytest
import torch
from helpers.builders import K, make_pair

from wsd_distill.distillation import (
    ClassAware,
    FeatureDistillation,
    LabelWiseEmbeddings,
    MultiLabelLogits,
    RegionConsistent,
    RoIAwareTransfer,
    SoftLabels,
)


def losses_with_labels(outputs, objective, labels):
    student, teacher = outputs
    torch.manual_seed(0)
    shapes = [{name: shape for name, shape in student.model.backbone.output_shape().items()}] * 2
    objective.build(*shapes)
    if isinstance(objective, RegionConsistent):
        objective.fit_step(student, teacher)
        objective.fit_end()
    for x, row in zip(student.batched_inputs, labels):
        x["labels"] = row
    return objective(student, teacher)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ClassAware(num_classes=K, num_proposals=7),
        lambda: SoftLabels(t_teacher=1.0, t_student=2.0),
        lambda: RegionConsistent(layer=make_pair()),
        lambda: RoIAwareTransfer(layers=[make_pair()]),
        lambda: FeatureDistillation(layer=make_pair()),
    ],
)
def test_objectives_on_the_teacher_alone_do_not_use_labels(outputs, make):
    known = losses_with_labels(outputs, make(), torch.eye(4, K))
    assert torch.equal(known, losses_with_labels(outputs, make(), torch.full((4, K), -1.0))) and known > 0


@pytest.mark.parametrize(
    "make", [lambda: MultiLabelLogits(), lambda: LabelWiseEmbeddings(layer=make_pair(), num_classes=K, num_heads=2)]
)
def test_objectives_on_labels_leave_unknown_ones_out(outputs, make):
    assert losses_with_labels(outputs, make(), torch.full((4, K), -1.0)) == 0
    assert losses_with_labels(outputs, make(), torch.eye(4, K)) > 0
