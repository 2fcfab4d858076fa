import numpy as np
import pytest
import torch

from wsd_distill.data.mix import Mix, MixImages

PARTNERS = np.array([1, 2, 0])
LABELS = torch.tensor([[1.0, 0, -1], [0, 1, 0], [-1, 0, 1]])


def make_batch(images=4, size=8):
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (images, 3, size, size), generator=generator, dtype=torch.uint8)
    return [{"image": x, "labels": torch.eye(4)[i % 4], "image_id": i} for i, x in enumerate(pixels)]


def test_mixup_weights_pixels_maps_scores_and_labels_alike():
    mix, x = Mix("mixup", PARTNERS, 0.7), torch.rand(3, 2, 4, 5)
    torch.testing.assert_close(mix.maps(x), 0.7 * x + 0.3 * x[[1, 2, 0]])
    scores = torch.rand(3, 6)
    torch.testing.assert_close(mix.scores(scores), 0.7 * scores + 0.3 * scores[[1, 2, 0]])
    expected = torch.tensor([[0.7, 0.3, -1], [-1, 0.7, 0.3], [-1, 0, -1]])
    torch.testing.assert_close(mix.labels(LABELS), expected)


def test_an_unknown_label_without_weight_does_not_count():
    assert torch.equal(Mix("mixup", PARTNERS, 1.0).labels(LABELS), LABELS)


def test_cutmix_pastes_the_partners_box_at_every_resolution():
    mix, x = Mix("cutmix", PARTNERS, 1 - 0.5 * 0.25, (0.25, 0.5, 0.75, 0.75)), torch.rand(3, 2, 8, 8)
    expected = x.clone()
    expected[:, :, 4:6, 2:6] = x[[1, 2, 0]][:, :, 4:6, 2:6]
    torch.testing.assert_close(mix.maps(x), expected)
    small = torch.rand(3, 2, 2, 2)  # the box covers half of the width and half of the height of both lower cells
    expected = small.clone()
    expected[:, :, 1] = 0.75 * small[:, :, 1] + 0.25 * small[[1, 2, 0]][:, :, 1]
    torch.testing.assert_close(mix.maps(small), expected)
    pooled = torch.nn.functional.avg_pool2d(mix.maps(x), 4)
    torch.testing.assert_close(pooled.shape, small.shape)


def test_a_mosaic_has_four_halved_images_and_all_their_labels():
    partners = np.array([[1, 2, 0], [2, 0, 1], [0, 1, 2]])
    mix, x = Mix("mosaic", partners), torch.arange(3.0)[:, None, None, None].expand(3, 2, 6, 6)
    for image, (one, two, three) in enumerate(partners.T):
        mixed = mix.maps(x)[image, 0]
        assert mixed[:3, :3].unique().tolist() == [image] and mixed[:3, 3:].unique().tolist() == [one]
        assert mixed[3:, :3].unique().tolist() == [two] and mixed[3:, 3:].unique().tolist() == [three]
    odd = mix.maps(torch.arange(3.0)[:, None, None, None].expand(3, 1, 5, 3))
    assert odd[0, 0, :, 0].tolist() == [0, 0, 1, 2, 2] and odd[0, 0, 0].tolist() == [0, 0.5, 1]
    known = torch.tensor([[1.0, 0, -1], [0, 0, 0], [0, -1, 1]])
    assert mix.labels(known).tolist() == [[1, -1, 1], [1, -1, 1], [1, -1, 1]]
    assert mix.scores(torch.tensor([[0.1], [0.5], [0.3]])).tolist() == [[0.5]] * 3


@pytest.mark.parametrize("options", [{"mixup": 0.4}, {"cutmix": 1.0}, {"mosaic": True}])
def test_a_batch_is_mixed_as_its_record_says(options):
    np.random.seed(0)
    batch = make_batch()
    mixed = MixImages(**options)(batch)
    mix = mixed[0]["mix"]
    assert all(x["mix"] is mix for x in mixed) and [x["image_id"] for x in mixed] == [0, 1, 2, 3]
    pixels = mix.maps(torch.stack([x["image"] for x in batch]).float()).round()
    assert torch.equal(torch.stack([x["image"] for x in mixed]), pixels.to(torch.uint8))
    assert torch.equal(torch.stack([x["labels"] for x in mixed]), mix.labels(torch.eye(4)))
    assert all(partner != i for row in np.atleast_2d(mix.partners) for i, partner in enumerate(row))


def test_the_label_weight_of_cutmix_is_the_area_that_is_left():
    np.random.seed(1)
    for _ in range(50):
        mix = MixImages(cutmix=1.0)(make_batch())[0]["mix"]
        x0, y0, x1, y1 = mix.box
        assert 0 <= x0 <= x1 <= 1 and 0 <= y0 <= y1 <= 1
        ones = torch.zeros(4, 1, 16, 16)
        ones[0] = 1
        assert mix.maps(ones)[0].mean().item() == pytest.approx(mix.weight, abs=1e-5)


def test_no_mix_by_default_for_one_image_or_outside_the_probability():
    batch = make_batch()
    assert MixImages()(batch) is batch and MixImages(mixup=1.0)(batch[:1]) == batch[:1]
    np.random.seed(0)
    mixed = ["mix" in MixImages(mixup=1.0, prob=0.3)(batch)[0] for _ in range(300)]
    assert 60 < sum(mixed) < 120


def test_images_of_several_sizes_and_wrong_options_are_errors():
    with pytest.raises(ValueError, match="images of 2 sizes cannot be mixed: set a single one"):
        MixImages(mixup=1.0)([*make_batch(1), *make_batch(1, size=10)])
    with pytest.raises(
        ValueError,
        match="train.mix has mixup=-1.0, cutmix=0.0, prob=1.0: mixup and cutmix are 0 or more",
    ):
        MixImages(mixup=-1.0)
