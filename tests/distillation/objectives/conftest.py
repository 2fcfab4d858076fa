import pytest
import torch
from builders import make_batch, make_student, make_teacher

from wsd_distill.distillation import StudentView


@pytest.fixture
def views():
    """A student's and a teacher's view of the same four images, which have 4, 5, 6 and 7 proposals."""
    student, batch = make_student(), make_batch(4)
    with torch.no_grad():
        teacher = make_teacher().eval().extract([x["teacher"] for x in batch])
    return StudentView(student, batch, student.features(batch)), teacher
