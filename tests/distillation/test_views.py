import numpy as np
import pytest
import torch
from detectron2.structures import BoxMode
from helpers.builders import K, make_batch, make_student, make_teacher
from PIL import Image

from wsd_distill.data.geometry import Geometry
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.mix import MixImages
from wsd_distill.distillation.views import check_one_size, run_teacher, show_outputs

BOXES = np.array([[0, 0, 30, 40], [30, 0, 60, 40], [5, 5, 25, 25], [40, 20, 56, 36]], np.float32)


@pytest.fixture
def photo(tmp_path):
    """A smooth image of 60 x 40 pixels with four proposals."""
    y, x = np.meshgrid(np.linspace(0, 200, 40), np.linspace(0, 200, 60), indexing="ij")
    Image.fromarray(np.stack([x, y, (x + y) / 2], 2).astype(np.uint8)).save(tmp_path / "photo.png")
    scores = np.linspace(0.9, 0.5, len(BOXES), dtype=np.float32)
    return {"file_name": str(tmp_path / "photo.png"), "image_id": "a", "labels": [0], "proposal_boxes": BOXES,
            "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}  # fmt: skip


def map_photo(photo, window=None, flip=False, size=16):
    """The mapper's output with a chosen window; a window of None is the whole image."""
    mapper = MultiLabelMapper(is_train=True, num_classes=K, sizes=[size], teacher_sizes=[32], flip_prob=float(flip))
    if window is not None:
        mapper._draw_geometry = lambda shape, proposals, flip: Geometry(window, shape, flip)
    return mapper(photo)


def show(photo, *views, teacher=None):
    """Outputs of a teacher for the views, and the batch."""
    torch.manual_seed(0)
    teacher = (teacher or make_teacher()).eval()
    batch = [map_photo(photo, *view) for view in views]
    with torch.no_grad():
        return show_outputs(run_teacher(teacher, [x["teacher"] for x in batch], True), batch), batch


def test_the_identity_crop_equals_no_crop(photo):
    shown, _ = show(photo, ((0, 0, 60, 40),))
    whole, _ = show(photo, ())
    assert torch.equal(shown.features["conv2"], whole.features["conv2"])
    assert torch.equal(shown.boxes[0].tensor, whole.boxes[0].tensor)
    assert torch.equal(shown.cls_logits[0], whole.cls_logits[0])
    assert torch.equal(shown.det_logits[0], whole.det_logits[0])


def test_a_crop_keeps_the_regions_that_it_shows_and_their_scores(photo):
    """The left half: regions 0 and 2."""
    shown, (x,) = show(photo, ((0, 0, 30, 40),))
    whole, _ = show(photo, ())
    assert x["proposals"].rows.tolist() == [0, 2]
    assert torch.equal(shown.cls_logits[0], whole.cls_logits[0][[0, 2]])
    torch.testing.assert_close(shown.boxes[0].tensor, torch.tensor([[0, 0, 32, 32], [16 / 3, 4, 80 / 3, 20]]))
    # The softmax over proposals is over what is left.
    logits = whole.det_logits[0][[0, 2]]
    torch.testing.assert_close(shown.scores[0], whole.cls_logits[0][[0, 2]].softmax(1) * logits.softmax(0))
    torch.testing.assert_close(shown.scores[0].div(shown.cls_logits[0].softmax(1)).sum(0), torch.ones(K))


def test_no_score_of_a_region_outside_the_crop_leaks(photo):
    """Class 1 is seen in region 3 only, which the left half does not show."""
    teacher = make_teacher()
    batch = [map_photo(photo)]
    for value in (-50.0, 50.0):
        output = run_teacher(teacher, [batch[0]["teacher"]], True)
        output.cls_logits[0].data[3, 1] = output.det_logits[0].data[3, 1] = value
        left, right = (
            show_outputs(output, [map_photo(photo, window)]).image_scores[0]
            for window in ((0, 0, 30, 40), (30, 0, 60, 40))
        )
        if value < 0:
            left_before, right_before = left, right
    assert torch.equal(left, left_before)
    assert right[1] > 0.9 > right_before[1] + 0.3


def test_mirrored_regions_are_mirrored_boxes(photo):
    shown, (x,) = show(photo, (None, True))
    whole, _ = show(photo, ())
    x0, y0, x1, y1 = whole.boxes[0].tensor.unbind(1)
    assert torch.equal(shown.boxes[0].tensor, torch.stack([32 - x1, y0, 32 - x0, y1], 1))
    assert torch.equal(shown.features["conv2"], whole.features["conv2"].flip(3))
    torch.testing.assert_close(x["proposals"].proposal_boxes.tensor * 2, shown.boxes[0].tensor)


@pytest.mark.parametrize("flip", [False, True])
@pytest.mark.parametrize("window", [(0, 0, 60, 40), (3, 2, 45, 33)])
def test_a_box_has_the_same_features_under_flip_and_crop(photo, window, flip):
    """Up to interpolation: the map of a smooth photo is smooth."""
    from detectron2.modeling.poolers import ROIPooler

    pooler = ROIPooler(2, [0.5], 2, "ROIAlignV2")
    pooled = []
    for view in ((), (window, flip)):
        shown, (x,) = show(photo, view)
        row = x["proposals"].rows.tolist().index(2)
        features = pooler([shown.features["conv2"]], [shown.boxes[0][row]])[0]
        pooled.append(features.flip(2) if x["geometry"].flip else features)
    scale = show(photo, ())[0].features["conv2"].std()
    assert (pooled[0] - pooled[1]).abs().max() < 0.1 * scale


def test_mixed_batches_have_mixed_maps():
    np.random.seed(0)
    torch.manual_seed(0)
    teacher = make_teacher().eval()
    plain = make_batch()
    mixed = MixImages(mixup=0.4)(plain)
    outputs = [run_teacher(teacher, [x["teacher"] for x in batch], False) for batch in (plain, mixed)]
    shown = [show_outputs(output, batch).features["conv2"] for output, batch in zip(outputs, (plain, mixed))]
    torch.testing.assert_close(shown[1], mixed[0]["mix"].maps(shown[0]))
    assert not torch.allclose(shown[0], shown[1])


def test_a_classifier_has_features_and_no_scores():
    student = make_student().eval()
    output = run_teacher(student, [x["teacher"] for x in make_batch()], True)
    assert output.cls_logits == output.det_logits == []
    assert output.features["conv2"].shape == (4, 6, 16, 16) and len(output.boxes) == 4
    views = [{key: value for key, value in x["teacher"].items() if key != "proposals"} for x in make_batch()]
    assert run_teacher(student, views, True).boxes == []


def test_images_of_several_sizes_are_an_error_where_whole_maps_are_compared(photo):
    batch = [map_photo(photo, size=16), map_photo(photo, size=20)]
    check_one_size([x["teacher"] for x in batch], "teacher_sizes")
    with pytest.raises(ValueError, match="images have several sizes: set a single one in dataloader.train.mapper.s"):
        check_one_size(batch, "sizes")


def test_the_shown_share_of_a_class_by_a_loop(photo):
    """Over all regions S has one softmax; the left half shows regions 0 and 2."""
    shown, _ = show(photo, ((0, 0, 30, 40),), ())
    whole, _ = show(photo, ())
    scores = whole.scores[0]
    for k in range(K):
        share = float(scores[0, k] + scores[2, k]) / float(sum(scores[r, k] for r in range(4)))
        assert shown.shares[0, k].item() == pytest.approx(share, rel=1e-5)
    assert shown.shares[1].tolist() == [1, 1, 1]  # the whole image, in the same batch


def test_the_only_region_of_a_class_is_outside_the_crop(photo):
    output = run_teacher(make_teacher(), [map_photo(photo)["teacher"]], True)
    output.cls_logits[0].data[:], output.det_logits[0].data[:] = 0, 0
    output.cls_logits[0].data[3, 1] = output.det_logits[0].data[3, 1] = 50
    left, right = (show_outputs(output, [map_photo(photo, (x, 0, x + 30, 40))]) for x in (0, 30))
    assert left.shares[0, 1] < 1e-12 and right.shares[0, 1] == 1
    assert left.shares[0, [0, 2]].tolist() == pytest.approx([2 / 3] * 2)  # of three equal regions; region 3 has none
