import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from wsd_distill.data.image import ImageError
from wsd_distill.data.mapper import MultiLabelMapper


@pytest.fixture
def picture(tmp_path):
    """40 x 20 pixels, the left half red, the right half blue; and its dataset dict, labels 0 and 2."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    path = tmp_path / "picture.png"
    Image.fromarray(pixels).save(path)
    return {"file_name": str(path), "image_id": "a", "height": 20, "width": 40, "labels": [0, 2]}


@pytest.fixture
def jpeg(tmp_path):
    """80 x 48 pixels of noise, and its dataset dict with one box."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    path = tmp_path / "noise.jpg"
    Image.fromarray(pixels).save(path)
    record = {"file_name": str(path), "image_id": "b", "height": 48, "width": 80, "labels": []}
    return {**record, **propose([8, 12, 40, 24])}


def propose(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return {"proposal_boxes": boxes, "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}


def build(**options):
    return MultiLabelMapper(**{"is_train": True, "num_classes": 3, "sides": [10], "flip_prob": 0.0, **options})


def test_squashes_to_a_square_and_scales_boxes(picture):
    out = build(num_proposals=1)({**picture, **propose([4, 2, 20, 10])})
    assert out["image"].shape == (3, 10, 10) and out["image"].dtype == torch.uint8
    assert out["image"][:, 5, 1].tolist() == [255, 0, 0] and out["image"][:, 5, 8].tolist() == [0, 0, 255]
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[1, 1, 5, 5]]  # x by 10 / 40, y by 10 / 20
    assert out["labels"].tolist() == [1, 0, 1]
    assert (out["height"], out["width"], out["image_id"]) == (20, 40, "a")


def test_one_flip_for_both_views_and_their_boxes(picture):
    options = {"num_proposals": 1, "teacher_sizes": [20]}
    picture.update(propose([4, 2, 20, 10]))
    out = build(flip_prob=1.0, **options)(picture)
    assert out["image"][:, 5, 1].tolist() == [0, 0, 255]
    assert out["teacher"]["image"][:, 5, 1].tolist() == [0, 0, 255]
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[5, 1, 9, 5]]
    assert out["teacher"]["proposals"].proposal_boxes.tensor.tolist() == [[10, 2, 18, 10]]
    flips = set()
    mapper = build(flip_prob=0.5, **options)
    np.random.seed(0)
    for _ in range(20):
        out = mapper(picture)
        red_first = [view["image"][0, 5, 1].item() == 255 for view in (out, out["teacher"])]
        assert red_first[0] == red_first[1]
        flips.add(red_first[0])
    assert flips == {True, False}


def test_no_flip_at_test_time(picture):
    out = build(is_train=False, flip_prob=1.0)(picture)
    assert out["image"][:, 5, 1].tolist() == [255, 0, 0]


def test_draws_a_side_in_training_and_takes_the_first_at_test_time(picture):
    np.random.seed(0)
    assert {build(sides=[8, 12])(picture)["image"].shape[-1] for _ in range(20)} == {8, 12}
    assert {build(sides=[8, 12], is_train=False)(picture)["image"].shape[-1] for _ in range(5)} == {8}


def test_views_are_every_side_as_it_is_and_mirrored_each_from_the_files_pixels(picture):
    picture.update(propose([4, 2, 20, 10]))
    options = {"num_proposals": 1, "sides": [10, 20], "is_train": False, "tta": True}
    out = build(**options, flip_prob=0.5)(picture)
    assert [view["image"].shape[-1] for view in out["views"]] == [10, 10, 20, 20]
    boxes = [view["proposals"].proposal_boxes.tensor[0].tolist() for view in out["views"]]
    assert boxes == [[1, 1, 5, 5], [5, 1, 9, 5], [2, 2, 10, 10], [10, 2, 18, 10]]
    sharp = build(sides=[20], is_train=False)(picture)["image"]  # one resizing, not two
    assert torch.equal(out["views"][2]["image"], sharp)
    assert torch.equal(out["views"][3]["image"], sharp.flip(2))
    assert torch.equal(out["views"][0]["image"], out["image"])
    unflipped = build(**options, flip_prob=0.0)(picture)["views"]
    assert [view["image"].shape[-1] for view in unflipped] == [10, 20]


def test_views_are_for_test_time_and_only_where_asked_for(picture):
    assert "views" not in build(tta=True)(picture)
    assert "views" not in build(is_train=False)(picture)


def test_draws_the_teachers_side_apart_from_the_students(picture):
    np.random.seed(0)
    mapper = build(sides=[8, 12], teacher_sizes=[20, 40], num_proposals=1)
    picture.update(propose([0, 0, 20, 20]))
    drawn = set()
    for _ in range(30):
        views = [out := mapper(picture), out["teacher"]]
        sides = tuple(view["image"].shape[-1] for view in views)
        for side, view in zip(sides, views):
            assert view["proposals"].image_size == (side, side)
            assert view["proposals"].proposal_boxes.tensor.tolist() == [[0, 0, side / 2, side]]
        drawn.add(sides)
    assert drawn == {(8, 20), (8, 40), (12, 20), (12, 40)}


def test_fewer_proposals_are_recycled_from_the_best_with_their_scores(picture):
    out = build(num_proposals=5)({**picture, **propose([0, 0, 40, 20], [0, 0, 20, 10])})["proposals"]
    assert out.proposal_boxes.tensor[:, 2].tolist() == [10, 5, 10, 5, 10]
    torch.testing.assert_close(out.scores, torch.tensor([0.9, 0.5, 0.9, 0.5, 0.9]))


def test_more_proposals_are_cut_to_the_best(picture):
    out = build(num_proposals=1)({**picture, **propose([0, 0, 40, 20], [0, 0, 20, 10])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]]


def test_no_proposals_become_the_whole_image_with_score_one(picture):
    out = build(num_proposals=2)({**picture, **propose()})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]] * 2
    assert out.scores.tolist() == [1, 1]


def test_proposals_are_clipped_to_the_image(picture):
    out = build(num_proposals=1)({**picture, **propose([-4, 2, 44, 22])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 1, 10, 10]]


def test_an_image_without_labels(picture):
    assert build()({**picture, "labels": []})["labels"].tolist() == [0, 0, 0]


def test_ignored_labels_are_minus_one(picture):
    assert build()({**picture, "labels": [2], "ignore_labels": [0]})["labels"].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("key", ["labels", "ignore_labels"])
@pytest.mark.parametrize("label", [-1, 3])
def test_a_label_that_is_no_class_is_an_error_that_names_the_file(picture, label, key):
    with pytest.raises(ValueError, match=rf"picture.png: labels \[{label}\] are no class indices.* 0 to 2"):
        build()({**picture, key: [1, label]})


def test_a_dict_without_a_size_gets_that_of_the_picture(picture):
    del picture["height"], picture["width"]
    out = build()(picture)
    assert (out["height"], out["width"]) == (20, 40)


def test_nothing_of_the_ground_truth_boxes_gets_out(picture):
    options = {"num_proposals": 1, "teacher_sizes": [20]}
    picture.update(propose([4, 2, 20, 10]))
    annotation = {"bbox": [1, 2, 3, 4], "bbox_mode": 0, "category_id": 1}
    plain = build(**options)(picture)
    for annotations in ([annotation], [{**annotation, "bbox": [9, 9, 9, 9], "category_id": 0}] * 3, []):
        out = build(**options)({**picture, "annotations": annotations})
        for ours, theirs in ((out, plain), (out["teacher"], plain["teacher"])):
            assert torch.equal(ours["image"], theirs["image"])
            assert torch.equal(ours["proposals"].proposal_boxes.tensor, theirs["proposals"].proposal_boxes.tensor)
            assert torch.equal(ours["proposals"].scores, theirs["proposals"].scores)
        of_the_image = {"file_name", "image_id", "height", "width", "labels"}
        assert set(out) == of_the_image | {"flip", "image", "proposals", "teacher"}
        assert set(out["teacher"]) == {"image_id", "flip", "image", "proposals"}
        assert out["labels"].tolist() == [1, 0, 1]


def test_a_teacher_without_proposals_is_an_error_that_names_the_file(picture):
    with pytest.raises(ValueError, match="picture.png: there are no proposals for the teacher"):
        build(teacher_sizes=[20])(picture)


def test_boxes_of_another_mode_are_converted(picture):
    proposals = {**propose([4, 2, 16, 8]), "proposal_bbox_mode": BoxMode.XYWH_ABS}
    out = build(num_proposals=1)({**picture, **proposals})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[1, 1, 5, 5]]


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_without_fast_the_pixels_are_those_of_detectron2(jpeg, image_format):
    theirs = DatasetMapper(False, augmentations=[T.Resize((20, 20))], image_format=image_format)(jpeg)["image"]
    ours = build(sides=[20], image_format=image_format, fast=False)(jpeg)["image"]
    assert torch.equal(ours, theirs)
    apart = build(sides=[20], image_format=image_format)(jpeg)["image"].int() - theirs.int()  # decoded at 1/2
    assert 0 < apart.abs().float().mean() < 20


def test_boxes_follow_the_size_of_the_file_not_of_its_reduced_decoding(jpeg):
    out = build(sides=[12], num_proposals=1)(jpeg)  # decoded at 1/4
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[1.2000000476837158, 3, 6, 6]]  # by 12 / 80, 12 / 48
    assert (out["height"], out["width"]) == (48, 80)


def test_pixels_of_a_view_are_the_same_with_a_teacher_and_at_test_time(jpeg):
    alone = build(is_train=False, sides=[12])(jpeg)["image"]
    teacher = build(is_train=False, sides=[48])(jpeg)["image"]
    out = build(sides=[12], teacher_sizes=[48], num_proposals=1)(jpeg)
    assert torch.equal(out["image"], alone)
    assert torch.equal(out["teacher"]["image"], teacher)


def test_a_picture_of_another_size_than_its_dict_says_is_named(jpeg):
    with pytest.raises(ValueError, match=r"noise.jpg, got \(80, 48\), expect \(48, 80\)"):
        build()({**jpeg, "height": 80, "width": 48})


def test_an_unreadable_image_is_named(jpeg):
    open(jpeg["file_name"], "w").close()
    with pytest.raises(ImageError, match="noise.jpg cannot be read as an image .*the file is empty"):
        build()(jpeg)


def test_an_unknown_channel_order_is_an_error():
    with pytest.raises(ValueError, match="image_format is RGB or BGR, not 'L'"):
        build(image_format="L")


def test_a_cached_teacher_needs_no_pixels_but_the_same_boxes_and_random_numbers(picture):
    options = {"num_proposals": 1, "teacher_sizes": [20, 30], "flip_prob": 0.5}
    picture.update(propose([4, 2, 20, 10]))
    for seed in range(4):
        np.random.seed(seed)
        plain = build(**options)(picture)
        np.random.seed(seed)
        cached = build(**options, teacher_cached=True)(picture)
        teacher = cached["teacher"]
        assert set(teacher) == {"image_id", "flip", "proposals"} and teacher["image_id"] == "a"
        assert teacher["flip"] == plain["flip"] and torch.equal(cached["image"], plain["image"])
        assert torch.equal(
            teacher["proposals"].proposal_boxes.tensor, plain["teacher"]["proposals"].proposal_boxes.tensor
        )
