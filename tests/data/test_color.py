"""RandAugment of colors: its operations, channel order, random numbers and place in the mapper."""

import random

import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from PIL import Image, ImageEnhance
from timm.data.auto_augment import rand_augment_transform

from wsd_distill.data.color import ColorAugment
from wsd_distill.data.mapper import MultiLabelMapper

POLICY = "rand-m9-n2-mstd0.5"
GEOMETRIC = {"Rotate", "ShearX", "ShearY", "TranslateXRel", "TranslateYRel"}


def seed(value):
    np.random.seed(value)
    random.seed(value)


@pytest.fixture
def pixels():
    return torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 12, 16), np.uint8))


def operations(augment):
    return {operation.name for operation in augment._augment.ops}


@pytest.mark.parametrize("suffix, count", [("", 10), ("-inc1", 10), ("-tweights", 10), ("-t3a", 3), ("-t3aw", 11)])
def test_operations_are_those_of_timm_that_move_no_pixels(suffix, count):
    all_of_timm = {operation.name for operation in rand_augment_transform(POLICY + suffix, transforms=None).ops}
    found = operations(ColorAugment(POLICY + suffix))
    assert found == all_of_timm - GEOMETRIC and len(found) == count


def test_options_reach_timm():
    augment = ColorAugment("rand-m7-n3-p0.25-mstd1.5-mmax12")._augment
    assert augment.num_layers == 3
    for operation in augment.ops:
        assert (operation.magnitude, operation.prob, operation.magnitude_std) == (7, 0.25, 1.5)
        assert operation.magnitude_max == 12
    weights = ColorAugment("rand-tweights")._augment.choice_weights
    assert weights.sum() == pytest.approx(1) and weights.max() == pytest.approx(0.25 / (3 * 0.25 + 7 * 0.05))


def test_nothing_moves():
    """Two flat halves stay flat and in their place, except where sharpness blends over the edge, a pixel each time."""
    pixels = torch.zeros(3, 16, 16, dtype=torch.uint8)
    pixels[0, :, :8], pixels[1, :, 8:] = 200, 90
    augment, changed = ColorAugment("rand-m9-n2-p1.0-mstd0.5"), 0
    seed(0)
    for _ in range(50):
        out = augment(pixels)
        assert out.shape == pixels.shape and out.dtype == torch.uint8
        for half in (out[:, :, :6], out[:, :, 10:]):
            assert (half == half[:, :1, :1]).all()
        changed += not torch.equal(out, pixels)
    assert changed > 40


def test_bgr_images_change_as_rgb_images(pixels):
    for value in range(20):
        seed(value)
        expected = ColorAugment("rand-n2-p1.0", "RGB")(pixels)
        seed(value)
        assert torch.equal(ColorAugment("rand-n2-p1.0", "BGR")(pixels.flip(0)).flip(0), expected)


def test_an_operation_against_pillow(pixels):
    """The only operation left is Color at magnitude 5: a blend with the gray image by 0.1 + 1.8 * 5 / 10."""
    augment = ColorAugment("rand-m5-n1-p1.0")
    augment._augment.ops = [operation for operation in augment._augment.ops if operation.name == "Color"]
    image = Image.fromarray(pixels.permute(1, 2, 0).numpy().copy())
    expected = np.asarray(ImageEnhance.Color(image).enhance(1.0))
    assert torch.equal(augment(pixels).permute(1, 2, 0), torch.from_numpy(expected.copy()))


def test_random_numbers_are_of_python_and_numpy(pixels):
    augment, before = ColorAugment(POLICY), torch.get_rng_state()
    results = []
    for value in (1, 1, 2, 3):
        seed(value)
        results.append([augment(pixels) for _ in range(8)])
    same = [all(torch.equal(a, b) for a, b in zip(results[0], other)) for other in results[1:]]
    assert same == [True, False, False]
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("policy", ["", "m9", "rand-x3", "rand-m9.5", "rand-n0", "augmix-m3", "rand-tfoo", "rand-inc2"])
def test_a_wrong_policy(policy):
    with pytest.raises(ValueError, match=f"color_augment='{policy}' .*: give a RandAugment policy of timm"):
        ColorAugment(policy)


@pytest.fixture
def photo(tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 40, 3), np.uint8)
    Image.fromarray(values).save(tmp_path / "photo.png")
    boxes = {"proposal_boxes": np.float32([[4, 2, 20, 10]]), "proposal_objectness_logits": np.float32([1])}
    record = {"file_name": str(tmp_path / "photo.png"), "image_id": 0, "height": 20, "width": 40, "labels": [1]}
    return {**record, **boxes, "proposal_bbox_mode": BoxMode.XYXY_ABS}


def mapped(photo, value, **options):
    seed(value)
    options = {"is_train": True, "sizes": [10, 12], "teacher_sizes": [20, 24], **options}
    return MultiLabelMapper(num_classes=2, **options)(photo)


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_mapper_changes_the_students_pixels_only(photo, image_format):
    changed = 0
    for value in range(10):
        plain = mapped(photo, value, image_format=image_format)
        colored = mapped(photo, value, image_format=image_format, color_augment="rand-n2-p1.0")
        changed += not torch.equal(plain["image"], colored["image"])
        assert colored["image"].shape == plain["image"].shape and colored["geometry"] == plain["geometry"]
        assert torch.equal(colored["teacher"]["image"], plain["teacher"]["image"])
        for ours, theirs in ((colored, plain), (colored["teacher"], plain["teacher"])):
            boxes = [x["proposals"].proposal_boxes.tensor for x in (ours, theirs)]
            assert torch.equal(*boxes)
        again = mapped(photo, value, image_format=image_format, color_augment="rand-n2-p1.0")
        assert torch.equal(again["image"], colored["image"])
    assert changed > 7


def test_no_color_augmentation_at_test_time(photo):
    options = {"is_train": False, "tta": True}
    plain, colored = (mapped(photo, 0, color_augment=policy, **options) for policy in (None, "rand-n2-p1.0"))
    for ours, theirs in zip([colored, *colored["views"]], [plain, *plain["views"]]):
        assert torch.equal(ours["image"], theirs["image"])
