import pytest
import torch
from detectron2.modeling import META_ARCH_REGISTRY
from helpers.builders import make_batch, make_student
from torch import nn

from wsd_distill.modeling import FCHead, GlobalPoolHead, MultiLabelClassifier, SmallConvNet


def test_is_registered():
    assert META_ARCH_REGISTRY.get("MultiLabelClassifier") is MultiLabelClassifier


def test_loss_is_eq10_and_predictions_are_sigmoids():
    model, batch = make_student(), make_batch(2)
    logits = model.logits(model.features(batch))
    labels = torch.stack([x["labels"] for x in batch])
    expected = nn.BCEWithLogitsLoss(reduction="sum")(logits, labels) / 2
    torch.testing.assert_close(model.train()(batch)["loss_hard"], expected)
    scores = torch.stack([x["image_scores"] for x in model.eval()(batch)])
    torch.testing.assert_close(scores, logits.sigmoid())


def test_images_are_normalized_per_channel():
    model = make_student()
    image = torch.tensor([150, 60, 120], dtype=torch.uint8)[:, None, None].expand(3, 4, 4)
    normalized = model.preprocess_image([{"image": image}]).tensor
    assert normalized[0, :, 0, 0].tolist() == [1, -1, 0]  # (150 - 100) / 50, (60 - 110) / 50, (120 - 120) / 50


def test_backbone_strides_and_channels():
    backbone = SmallConvNet(channels=[4, 6, 8], convs=[1, 2, 1], norm="BN")
    features = backbone(torch.zeros(2, 3, 16, 24))
    assert {k: tuple(v.shape) for k, v in features.items()} == {
        "conv1": (2, 4, 16, 24),
        "conv2": (2, 6, 8, 12),
        "conv3": (2, 8, 4, 6),
    }
    assert {k: (v.channels, v.stride) for k, v in backbone.output_shape().items()} == {
        "conv1": (4, 1),
        "conv2": (6, 2),
        "conv3": (8, 4),
    }


def test_backbone_with_lists_of_different_length():
    with pytest.raises(ValueError, match="channels has 2 blocks but convs has 1"):
        SmallConvNet(channels=[4, 6], convs=[1])


def test_heads_by_hand():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 6.0]]]])
    assert GlobalPoolHead(channels=1).forward(x).tolist() == [[3]]
    assert GlobalPoolHead(channels=1, mode="max").forward(x).tolist() == [[6]]
    head = FCHead(input_shape=(1, 2, 2), dims=[5, 4], pool=2).eval()
    assert head.output_size == 4 and [head.fc6.in_features, head.fc7.in_features] == [1, 5]
    with torch.no_grad():
        head.fc6.weight.fill_(1.0)
        head.fc7.weight.fill_(0.5)
    assert head(x).tolist() == [[15.0] * 4]  # max 6, five times 6, half their sum
    normed = FCHead(input_shape=(1, 1, 1), dims=[1], dropout=0.0, batch_norm=True)
    with torch.no_grad():
        normed.fc6.weight.fill_(3.0)
    out = normed(torch.tensor([-1.0, 1.0]).view(2, 1, 1, 1))  # fc6 outputs -3 and 3, normalized -1 and 1, then ReLU
    torch.testing.assert_close(out, torch.tensor([[0.0], [1.0]]), rtol=0, atol=1e-5)
    with pytest.raises(ValueError, match='"avg" or "max"'):
        GlobalPoolHead(channels=1, mode="sum")


def test_sigmoids_are_averaged_over_views():
    model = make_student().eval()
    images = torch.randint(0, 256, (2, 3, 16, 16), dtype=torch.uint8)
    p, q = (model([{"image": image}])[0]["image_scores"] for image in images)
    assert (p - q).abs().max() > 1e-4
    (result,) = model([{"image": images[0], "views": [{"image": image} for image in images]}])
    torch.testing.assert_close(result["image_scores"], (p + q) / 2)


def test_class_names_are_one_for_each_class():
    for names, message in (
        (["ball", "box"], "class_names has 2 names .ball, box., and num_classes is 3"),
        (["ball", "box", "box"], "class_names has 'box': set one name for each class"),
    ):
        with pytest.raises(ValueError, match=message):
            make_student(class_names=names)
