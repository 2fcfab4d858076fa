import numpy as np
import pytest
import torch
from detectron2.data import DatasetMapper
from detectron2.data import transforms as T
from detectron2.structures import BoxMode
from PIL import Image

from wsd_distill.data.geometry import Geometry
from wsd_distill.data.image import ImageError, ImageFile, resize_to_square
from wsd_distill.data.mapper import MultiLabelMapper, resize_with_torch


@pytest.fixture
def photo(tmp_path):
    """Dataset dict of 40 x 20 pixels, left red, right blue, with labels 0 and 2."""
    pixels = np.zeros((20, 40, 3), np.uint8)
    pixels[:, :20, 0] = pixels[:, 20:, 2] = 255
    path = tmp_path / "photo.png"
    Image.fromarray(pixels).save(path)
    return {"file_name": str(path), "image_id": "a", "height": 20, "width": 40, "labels": [0, 2]}


@pytest.fixture
def jpeg(tmp_path):
    """Dataset dict of 80 x 48 pixels of noise, with one proposal."""
    pixels = np.random.default_rng(0).integers(0, 256, (48, 80, 3), np.uint8)
    path = tmp_path / "noise.jpg"
    Image.fromarray(pixels).save(path)
    record = {"file_name": str(path), "image_id": "b", "height": 48, "width": 80, "labels": []}
    return {**record, **propose([8, 12, 40, 24])}


def propose(*boxes):
    boxes = np.array(boxes, np.float32).reshape(-1, 4)
    scores = np.linspace(0.9, 0.5, len(boxes), dtype=np.float32)
    return {"proposal_boxes": boxes, "proposal_objectness_logits": scores, "proposal_bbox_mode": BoxMode.XYXY_ABS}


def make_mapper(**options):
    return MultiLabelMapper(**{"is_train": True, "num_classes": 3, "sizes": [10], "flip_prob": 0.0, **options})


def test_resizes_to_a_square_and_scales_boxes(photo):
    out = make_mapper(num_proposals=1)({**photo, **propose([4, 2, 20, 10])})
    assert out["image"].shape == (3, 10, 10) and out["image"].dtype == torch.uint8
    assert out["image"][:, 5, 1].tolist() == [255, 0, 0] and out["image"][:, 5, 8].tolist() == [0, 0, 255]
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[1, 1, 5, 5]]  # x by 10 / 40, y by 10 / 20
    assert out["labels"].tolist() == [1, 0, 1]
    assert (out["height"], out["width"], out["image_id"]) == (20, 40, "a")


def test_the_teacher_sees_the_whole_image_not_mirrored(photo):
    photo.update(propose([4, 2, 20, 10]))
    out = make_mapper(flip_prob=1.0, num_proposals=1, teacher_sizes=[20])(photo)
    assert out["image"][:, 5, 1].tolist() == [0, 0, 255]
    assert out["teacher"]["image"][:, 5, 1].tolist() == [255, 0, 0]
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[5, 1, 9, 5]]
    assert out["teacher"]["proposals"].proposal_boxes.tensor.tolist() == [[2, 2, 10, 10]]
    assert (out["geometry"], out["teacher"]["geometry"]) == (Geometry.whole((20, 40), True), Geometry.whole((20, 40)))
    np.random.seed(0)
    mapper = make_mapper(flip_prob=0.5, num_proposals=1, teacher_sizes=[20])
    outs = [mapper(photo) for _ in range(20)]
    assert {out["geometry"].flip for out in outs} == {True, False}
    for out in outs:
        assert (out["image"][0, 5, 1].item() == 255) != out["geometry"].flip
        assert out["teacher"]["image"][0, 5, 1].item() == 255


def test_no_flip_at_test_time(photo):
    out = make_mapper(is_train=False, flip_prob=1.0)(photo)
    assert out["image"][:, 5, 1].tolist() == [255, 0, 0]


def test_size_is_random_in_training_and_the_first_at_test_time(photo):
    np.random.seed(0)
    assert {make_mapper(sizes=[8, 12])(photo)["image"].shape[-1] for _ in range(20)} == {8, 12}
    assert {make_mapper(sizes=[8, 12], is_train=False)(photo)["image"].shape[-1] for _ in range(5)} == {8}


def test_tta_views_are_every_size_plain_and_mirrored_from_the_original_pixels(photo):
    photo.update(propose([4, 2, 20, 10]))
    options = {"num_proposals": 1, "sizes": [10, 20], "is_train": False, "tta": True}
    out = make_mapper(**options, flip_prob=0.5)(photo)
    assert [view["image"].shape[-1] for view in out["views"]] == [10, 10, 20, 20]
    boxes = [view["proposals"].proposal_boxes.tensor[0].tolist() for view in out["views"]]
    assert boxes == [[1, 1, 5, 5], [5, 1, 9, 5], [2, 2, 10, 10], [10, 2, 18, 10]]
    sharp = make_mapper(sizes=[20], is_train=False)(photo)["image"]  # resized once, not twice
    assert torch.equal(out["views"][2]["image"], sharp)
    assert torch.equal(out["views"][3]["image"], sharp.flip(2))
    assert torch.equal(out["views"][0]["image"], out["image"])
    unflipped = make_mapper(**options, flip_prob=0.0)(photo)["views"]
    assert [view["image"].shape[-1] for view in unflipped] == [10, 20]


def test_views_are_for_test_time_and_tta_only(photo):
    assert "views" not in make_mapper(tta=True)(photo)
    assert "views" not in make_mapper(is_train=False)(photo)


def test_teacher_size_is_drawn_independently(photo):
    np.random.seed(0)
    mapper = make_mapper(sizes=[8, 12], teacher_sizes=[20, 40], num_proposals=1)
    photo.update(propose([0, 0, 20, 20]))
    drawn = set()
    for _ in range(30):
        views = [out := mapper(photo), out["teacher"]]
        sizes = tuple(view["image"].shape[-1] for view in views)
        for size, view in zip(sizes, views):
            assert view["proposals"].image_size == (size, size)
            assert view["proposals"].proposal_boxes.tensor.tolist() == [[0, 0, size / 2, size]]
        drawn.add(sizes)
    assert drawn == {(8, 20), (8, 40), (12, 20), (12, 40)}


def test_an_image_keeps_its_number_of_proposals_if_they_are_few(photo):
    out = make_mapper(num_proposals=5)({**photo, **propose([0, 0, 40, 20], [0, 0, 20, 10])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10], [0, 0, 5, 5]]
    torch.testing.assert_close(out.scores, torch.tensor([0.9, 0.5]))


@pytest.mark.parametrize("key", ["proposal_boxes", "proposal_objectness_logits"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_proposals_that_are_not_finite_raise(photo, key, value):
    photo.update(propose([0, 0, 40, 20], [0, 0, 20, 10]))
    photo[key][-1] = value
    with pytest.raises(ValueError, match="photo.png: its proposals have NaN or infinity; create the proposal store"):
        make_mapper()(photo)


def test_too_many_proposals_are_reduced_to_the_best(photo):
    out = make_mapper(num_proposals=1)({**photo, **propose([0, 0, 40, 20], [0, 0, 20, 10])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]]


def test_small_proposals_are_left_out_before_the_best_are_selected(photo):
    """The image has 40 x 20 pixels: 5 % of it are 40 pixels."""
    mapper = make_mapper(num_proposals=2, min_proposal_area=0.05)
    out = mapper({**photo, **propose([0, 0, 6, 6], [0, 0, 8, 5], [0, 0, 20, 10], [0, 0, 40, 20])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 2, 2.5], [0, 0, 5, 5]]
    assert out.scores.tolist() == pytest.approx([0.9 - 0.4 / 3, 0.9 - 0.8 / 3])
    out = mapper({**photo, **propose([0, 0, 6, 6])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]] and out.scores.tolist() == [1]


def test_no_proposals_give_the_whole_image_with_score_one(photo):
    out = make_mapper(num_proposals=2)({**photo, **propose()})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 0, 10, 10]]
    assert out.scores.tolist() == [1]


def test_proposals_are_clipped_to_the_image(photo):
    out = make_mapper(num_proposals=1)({**photo, **propose([-4, 2, 44, 22])})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[0, 1, 10, 10]]


def test_image_without_labels(photo):
    assert make_mapper()({**photo, "labels": []})["labels"].tolist() == [0, 0, 0]


def test_ignored_labels_are_minus_one(photo):
    assert make_mapper()({**photo, "labels": [2], "ignore_labels": [0]})["labels"].tolist() == [-1, 0, 1]


@pytest.mark.parametrize("key", ["labels", "ignore_labels"])
@pytest.mark.parametrize("label", [-1, 3])
def test_label_out_of_range_raises(photo, label, key):
    with pytest.raises(ValueError, match=rf"photo.png: labels \[{label}\] are not class indices, which are 0 to 2"):
        make_mapper()({**photo, key: [1, label]})


def test_missing_size_is_read_from_the_file(photo):
    del photo["height"], photo["width"]
    out = make_mapper()(photo)
    assert (out["height"], out["width"]) == (20, 40)


def test_ground_truth_boxes_do_not_reach_the_output(photo):
    options = {"num_proposals": 1, "teacher_sizes": [20]}
    photo.update(propose([4, 2, 20, 10]))
    annotation = {"bbox": [1, 2, 3, 4], "bbox_mode": 0, "category_id": 1}
    plain = make_mapper(**options)(photo)
    for annotations in ([annotation], [{**annotation, "bbox": [9, 9, 9, 9], "category_id": 0}] * 3, []):
        out = make_mapper(**options)({**photo, "annotations": annotations})
        for ours, theirs in ((out, plain), (out["teacher"], plain["teacher"])):
            assert torch.equal(ours["image"], theirs["image"])
            assert torch.equal(ours["proposals"].proposal_boxes.tensor, theirs["proposals"].proposal_boxes.tensor)
            assert torch.equal(ours["proposals"].scores, theirs["proposals"].scores)
        image_keys = {"file_name", "image_id", "height", "width", "labels"}
        assert set(out) == image_keys | {"geometry", "image", "proposals", "teacher"}
        assert set(out["teacher"]) == {"image_id", "image_digest", "geometry", "image", "proposals"}
        assert out["labels"].tolist() == [1, 0, 1]


def test_a_teacher_without_proposals_gets_the_image_alone(photo):
    teacher = make_mapper(teacher_sizes=[20])(photo)["teacher"]
    assert set(teacher) == {"image_id", "image_digest", "geometry", "image"}


def test_other_box_modes_are_converted(photo):
    proposals = {**propose([4, 2, 16, 8]), "proposal_bbox_mode": BoxMode.XYWH_ABS}
    out = make_mapper(num_proposals=1)({**photo, **proposals})["proposals"]
    assert out.proposal_boxes.tensor.tolist() == [[1, 1, 5, 5]]


@pytest.mark.parametrize("image_format", ["RGB", "BGR"])
def test_without_fast_decode_pixels_equal_detectron2s(jpeg, image_format):
    theirs = DatasetMapper(False, augmentations=[T.Resize((20, 20))], image_format=image_format)(jpeg)["image"]
    ours = make_mapper(sizes=[20], image_format=image_format, fast_decode=False)(jpeg)["image"]
    assert torch.equal(ours, theirs)
    difference = (
        make_mapper(sizes=[20], image_format=image_format)(jpeg)["image"].int() - theirs.int()
    )  # decoded at 1/2
    assert 0 < difference.abs().float().mean() < 20


def test_boxes_are_scaled_by_the_original_size_not_the_decoded_one(jpeg):
    out = make_mapper(sizes=[12], num_proposals=1)(jpeg)  # decoded at 1/4
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[1.2000000476837158, 3, 6, 6]]  # by 12 / 80, 12 / 48
    assert (out["height"], out["width"]) == (48, 80)


def test_pixels_of_a_view_do_not_depend_on_other_views(jpeg):
    alone = make_mapper(sizes=[12])(jpeg)["image"]
    teacher = make_mapper(sizes=[24])(jpeg)["image"]
    out = make_mapper(sizes=[12], teacher_sizes=[24], num_proposals=1)(jpeg)
    assert torch.equal(out["image"], alone)
    assert torch.equal(out["teacher"]["image"], teacher)
    cached = make_mapper(is_train=False, sizes=[12], teacher_sizes=[24], num_proposals=1)(jpeg)  # as the cache reads
    assert torch.equal(cached["teacher"]["image"], teacher)


@pytest.mark.parametrize("fast", [True, False])
def test_pixels_at_test_time_are_pillows(jpeg, fast):
    """And those of training up to rounding."""
    decoded = ImageFile(jpeg["file_name"]).pixels(12 if fast else None)
    expected = torch.from_numpy(resize_to_square(decoded, 12)).permute(2, 0, 1)
    assert torch.equal(make_mapper(is_train=False, sizes=[12], fast_decode=fast)(jpeg)["image"], expected)
    training = make_mapper(sizes=[12], fast_decode=fast)(jpeg)["image"]
    assert (training.int() - expected.int()).abs().max() <= 1


def test_image_of_another_size_than_its_dataset_dict_raises(jpeg):
    with pytest.raises(ValueError, match=r"noise.jpg, got \(80, 48\), expect \(48, 80\)"):
        make_mapper()({**jpeg, "height": 80, "width": 48})


def test_corrupt_image_raises(jpeg):
    open(jpeg["file_name"], "w").close()
    with pytest.raises(ImageError, match="noise.jpg cannot be read as an image .*the file is empty"):
        make_mapper()(jpeg)


def test_unknown_channel_order_raises():
    with pytest.raises(ValueError, match="image_format is 'L': use 'RGB' or 'BGR'"):
        make_mapper(image_format="L")


def test_cached_teacher_has_no_pixels_but_the_same_boxes_and_random_numbers(photo):
    options = {"num_proposals": 1, "teacher_sizes": [20, 30], "flip_prob": 0.5}
    photo.update(propose([4, 2, 20, 10]))
    for seed in range(4):
        np.random.seed(seed)
        plain = make_mapper(**options)(photo)
        np.random.seed(seed)
        cached = make_mapper(**options, teacher_cached=True)(photo)
        teacher = cached["teacher"]
        assert set(teacher) == {"image_id", "image_digest", "geometry", "proposals"} and teacher["image_id"] == "a"
        assert cached["geometry"] == plain["geometry"] and torch.equal(cached["image"], plain["image"])
        assert torch.equal(
            teacher["proposals"].proposal_boxes.tensor, plain["teacher"]["proposals"].proposal_boxes.tensor
        )


def read_window(photo, window, size=10, **options):
    mapper = make_mapper(sizes=[size], crop_scale=[0.2, 1.0], **options)
    mapper._draw_geometry = lambda shape, proposals, flip: Geometry(window, shape, flip)
    return mapper(photo)


def test_a_crop_shows_its_window(photo):
    """Red is left of x = 20, blue right of it."""
    out = read_window({**photo, **propose([4, 2, 20, 10])}, (10, 0, 30, 20))
    assert out["image"][:, 5, 1].tolist() == [255, 0, 0] and out["image"][:, 5, 8].tolist() == [0, 0, 255]
    assert out["image"][:, 5, 4].tolist()[0] > 200 > 50 > out["image"][:, 5, 5].tolist()[0]
    assert out["proposals"].proposal_boxes.tensor.tolist() == [[0, 1, 5, 5]]
    assert out["proposals"].rows.tolist() == [0]


@pytest.mark.parametrize("fast", [True, False])
def test_a_crop_at_a_reduced_decoding_equals_the_crop_of_the_image(jpeg, fast):
    """Smooth pixels, as decoders of a reduced size differ in noise."""
    y, x = np.meshgrid(np.linspace(0, 255, 480), np.linspace(0, 255, 800), indexing="ij")
    Image.fromarray(np.stack([x, y, x], 2).astype(np.uint8)).save(jpeg["file_name"], quality=95)
    jpeg.update(height=480, width=800)
    del jpeg["proposal_boxes"]
    out = read_window(jpeg, (100, 40, 500, 360), size=20, fast_decode=fast)["image"].float()
    assert abs(out[0, 10, 10] - 255 * 310 / 800) < 4 and abs(out[1, 10, 10] - 255 * 208 / 480) < 4
    assert abs(out[0, 10, 19] - 255 * 490 / 800) < 4 and abs(out[1, 0, 10] - 255 * 48 / 480) < 4


def test_crops_are_random_in_training_and_show_a_proposal(photo):
    """The proposal is the last tenth of the image."""
    photo.update(propose([36, 0, 40, 20]))
    np.random.seed(0)
    mapper = make_mapper(crop_scale=[0.3, 0.3], teacher_sizes=[20])
    outs = [mapper(photo) for _ in range(60)]
    assert len({out["geometry"].window for out in outs}) > 15
    for out in outs:
        assert len(out["proposals"]) == 1 and out["geometry"].visible(photo["proposal_boxes"])[0] >= 0.5
        assert out["teacher"]["geometry"].is_whole and len(out["teacher"]["proposals"]) == 1
    without = {key: value for key, value in photo.items() if not key.startswith("proposal")}
    assert any(mapper(without)["geometry"].window[2] < 36 for _ in range(20))
    assert make_mapper(crop_scale=[0.3, 0.3], is_train=False)(photo)["geometry"].is_whole


@pytest.mark.parametrize("options", [{"crop_scale": [0.5, 0.2]}, {"crop_scale": [0, 1]}, {"crop_ratio": [1]}])
def test_wrong_limits_of_crops_are_errors(options):
    with pytest.raises(ValueError, match="give two limits above 0, the lower one first"):
        make_mapper(**options)


def test_a_crop_larger_than_the_image_is_an_error():
    with pytest.raises(
        ValueError, match=r"train.mapper.crop_scale .*CROP_SCALE\) is \[0.5, 2.0\]: at most 1, the whole image"
    ):
        make_mapper(crop_scale=[0.5, 2.0])


@pytest.mark.parametrize("value", [0, 1.5])
def test_a_wrong_visible_fraction_is_an_error(value):
    with pytest.raises(
        ValueError,
        match=rf"mapper.min_visible \(in YAML INPUT.MIN_VISIBLE\) is {value}: give a fraction above 0, at most 1",
    ):
        make_mapper(min_visible=value)


@pytest.mark.parametrize("size", [17, 32, 100])
def test_the_resize_of_torch_equals_pillows_up_to_rounding(size):
    x, y = np.meshgrid(np.linspace(0, 200, 80), np.linspace(0, 200, 48))
    noise = np.random.default_rng(0).integers(0, 50, (48, 80, 3))
    pixels = (np.stack([x, y, 200 - x], axis=2) + noise).astype(np.uint8)
    resized = resize_with_torch(pixels, size)
    difference = np.abs(resized.permute(1, 2, 0).numpy() - resize_to_square(pixels, size).astype(int))
    assert resized.dtype == torch.uint8
    assert difference.max() <= 1 and difference.mean() < 0.02
