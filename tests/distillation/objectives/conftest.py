import pytest
import torch
from helpers.builders import make_batch, make_student, make_teacher

from wsd_distill.distillation import StudentOutput


@pytest.fixture
def outputs():
    """Outputs of student and teacher for the same four images, with 4, 5, 6 and 7 proposals."""
    student, batch = make_student(), make_batch(4)
    with torch.no_grad():
        teacher = make_teacher().eval().compute_outputs([x["teacher"] for x in batch])
    return StudentOutput(student, batch, student.features(batch)), teacher
