import logging

import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.structures import Boxes, BoxMode
from helpers.builders import K, make_batch, make_student, make_teacher

from wsd_distill.distillation import TeacherCheck, WeakTeacherError
from wsd_distill.modeling import WSDDNOutput


class FakeTeacher:
    """Returns the scores that are in the input."""

    def compute_outputs(self, batch):
        return type("Output", (), {"image_scores": torch.stack([x["scores"] for x in batch])})


def loader(scores, labels):
    return [[{"scores": s, "labels": y} for s, y in zip(scores, labels)]]


def test_a_good_teacher_passes_and_its_map_is_logged(caplog):
    labels = torch.eye(K).repeat(20, 1)
    scores = labels * 0.5
    scores[0] = 0.0  # class 0: 19 positives first, the last one tied with 40 negatives: 19/20 + 1/20 * 20/60
    with caplog.at_level(logging.INFO):
        found = TeacherCheck(loader(scores, labels))(FakeTeacher())
    assert found == pytest.approx(100 * (19 / 20 + 1 / 60 + 2) / 3)
    assert "the teacher's mAP on 60 images is 98.9" in caplog.text


def test_ignored_labels():
    """As above, but the 20 images of class 1 are ignored for class 0: its last positive is tied with 20, not 40."""
    labels = torch.eye(K).repeat(20, 1)
    scores = labels * 0.5
    scores[0] = 0.0
    labels[1::3, 0] = -1
    assert TeacherCheck(loader(scores, labels))(FakeTeacher()) == pytest.approx(
        100 * (19 / 20 + 1 / 20 * 20 / 40 + 2) / 3
    )


def test_a_teacher_at_chance_level_is_an_error_or_a_warning(caplog):
    labels = (torch.rand(100, K) < 0.3).float()
    scores = torch.rand(100, K)
    with pytest.raises(WeakTeacherError, match="trainer.teacher_check.warn_only=True"):
        TeacherCheck(loader(scores, labels))(FakeTeacher())
    with caplog.at_level(logging.WARNING):
        TeacherCheck(loader(scores, labels), warn_only=True)(FakeTeacher())
    assert "must be above" in caplog.text


def test_constant_scores_are_at_chance_level():
    labels = (torch.rand(100, K) < 0.3).float()
    with pytest.raises(WeakTeacherError):
        TeacherCheck(loader(torch.full((100, K), 0.5), labels))(FakeTeacher())


def test_nan_scores_are_an_error_even_with_warn_only():
    labels = torch.eye(K).repeat(5, 1)
    with pytest.raises(WeakTeacherError, match="not finite. .* distiller.teacher_checkpoint"):
        TeacherCheck(loader(labels * float("nan"), labels), warn_only=True)(FakeTeacher())


def colourful_batches(count=5):
    """Noise images in which channel k is bright if label k is positive."""
    batches = []
    for seed in range(count):
        batch = [record["teacher"] for record in make_batch(6, seed)]
        for record in batch:
            record["image"][record["labels"] == 0] //= 4
        batches.append(batch)
    return batches


def test_a_trained_wsddn_passes_and_a_random_one_does_not():
    teacher = make_teacher(norm="BN", dropout=0.5)
    with pytest.raises(WeakTeacherError):
        TeacherCheck(colourful_batches(20))(teacher.eval())
    optimizer = torch.optim.Adam(teacher.parameters(), lr=0.01)
    for batch in colourful_batches() * 6:
        optimizer.zero_grad()
        teacher.train()(batch)["loss_image"].backward()
        optimizer.step()
    assert TeacherCheck(colourful_batches())(teacher.eval()) > 90


def box_record(image_id, k, box, **flags):
    annotation = {"bbox": box, "bbox_mode": BoxMode.XYXY_ABS, "category_id": k, **flags}
    return {"image_id": image_id, "height": 100, "width": 200, "annotations": [annotation]}


@pytest.fixture
def box_check(restore_catalogs):
    """A function: number of images of 20 in which the top box is right -> a check with boxes.

    The view has 50 x 50 pixels, the image 200 x 100. The last image has no object that counts.
    """

    def make(right):
        objects = [[0, 0, 100, 50]] * 20
        records = [box_record(i, i % K, box) for i, box in enumerate(objects)]
        records.append(box_record(20, 0, objects[0], difficult=1))
        DatasetCatalog.register("check_test", lambda: records[::-1])
        batch = []
        for record in records:
            k = record["annotations"][0]["category_id"]
            left, wrong = [0.0, 0, 25, 25], [25.0, 25, 50, 50]
            boxes = torch.tensor([wrong, left] if record["image_id"] < right else [left, wrong])
            size = {key: record[key] for key in ("image_id", "height", "width")}
            batch.append({**size, "image": torch.zeros(3, 50, 50), "boxes": boxes, "labels": torch.eye(K)[k]})
        return TeacherCheck([batch[:8], batch[8:]], dataset_name="check_test", boxes=True)

    return make


class FakeDetector:
    """The second of two boxes has the higher score for every class."""

    def compute_outputs(self, batch):
        cls = [(10 * x["labels"]).repeat(2, 1) for x in batch]
        det = [torch.tensor([[0.0], [1.0]]).repeat(1, K)] * len(batch)
        return WSDDNOutput({}, [Boxes(x["boxes"]) for x in batch], cls, det)


@pytest.mark.parametrize("right, expected", [(20, "100.0"), (10, "50.0"), (3, "15.1"), (0, "0.0")])
def test_corloc_is_logged_and_a_low_one_explained(box_check, right, expected, caplog):
    """Classes 0, 1 and 2 have 7, 7 and 6 images in turn: 10 right ones are 4/7, 3/7 and 3/6, 3 are 1/7, 1/7 and 1/6."""
    with caplog.at_level(logging.INFO):
        box_check(right)(FakeDetector())
    assert f"CorLoc on 21 images is {expected}" in caplog.text
    assert ("region weights s' and softened scores of regions carry little" in caplog.text) == (right < 10)


def test_images_without_positive_labels_are_an_error():
    with pytest.raises(ValueError, match="no positive label. .* dataset.val or trainer.teacher_check.loader.dataset"):
        TeacherCheck(loader(torch.rand(5, K), -torch.eye(K).repeat(2, 1)[:5]))(FakeTeacher())


@pytest.mark.parametrize(
    "labels", [torch.eye(K)[[0] * 200], torch.eye(K)[[0, 1, 0, 1, 0]], torch.ones(7, 1)], ids=["one", "few", "all"]
)
def test_too_few_or_too_uniform_images_are_a_warning(labels, caplog):
    """Images of one class, as in a list sorted by class; five images of two classes; one class for all images."""
    for scores in (labels * 0.5, 1 - labels * 0.5):
        caplog.clear()
        TeacherCheck(loader(scores, labels))(FakeTeacher())
        (warning,) = (x.getMessage() for x in caplog.records if x.levelno == logging.WARNING)
        assert "too few or too uniform to judge the teacher" in warning
        assert "trainer.teacher_check.loader.dataset" in warning


def test_a_classifier_is_checked_by_its_scores():
    student = make_student().eval()
    batch = make_batch()
    labels = torch.stack([x["labels"] for x in batch])
    with torch.no_grad():
        scores = torch.stack([x["image_scores"] for x in student(batch)])
    expected = TeacherCheck(loader(scores, labels), warn_only=True)(FakeTeacher())
    assert TeacherCheck([batch], warn_only=True, boxes=True, dataset_name="unused")(student) == pytest.approx(expected)
