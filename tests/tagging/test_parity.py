"""The mapper with S-Cls, Tagger on PyTorch and Tagger on ONNX Runtime give the same probabilities."""

import io

import numpy as np
import pytest
import torch
from detectron2.config import LazyCall
from helpers.taggers import save_tagger
from PIL import Image

from wsd_distill import Tagger
from wsd_distill.data.image import ORIENTATION
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.modeling import CAFFE_BGR, INCEPTION_RGB, VGG16, FCHead, SmallConvNet, TimmBackbone, TimmHead

SIZES = [(31, 47), (64, 64), (100, 75), (240, 320), (500, 375), (640, 427), (1600, 1200), (70, 900)]


def write_photos(folder, count=200):
    """Write photos of all kinds: Exif orientations, CMYK, greyscale, progressive, PNG, large, tiny."""
    rng = np.random.default_rng(0)
    paths = []
    for i in range(count):
        width, height = SIZES[i % len(SIZES)]
        coarse = rng.integers(0, 256, (max(2, height // 12), max(2, width // 12), 3), np.uint8)
        image = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        image = image.convert(("RGB", "RGB", "RGB", "L", "CMYK")[i % 5])
        exif = Image.Exif()
        exif[ORIENTATION] = 1 + i % 9 if i % 9 < 8 else 1
        is_png = i % 11 == 0 and image.mode != "CMYK"
        options = {} if is_png else {"quality": 60 + i % 36, "progressive": i % 7 == 0}
        paths.append(folder / f"{i}.{'png' if is_png else 'jpg'}")
        image.save(paths[-1], exif=exif, **options)
    return [str(path) for path in paths]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    return write_photos(tmp_path_factory.mktemp("photos"))


def map_photos(model, config, photos):
    """Return the probabilities (N, K) of the mapper's test view, as --eval-only computes them."""
    options = {"is_train": False, "num_classes": len(config.classes), "flip_prob": 0.0}
    options |= {"image_format": config.image_format, "fast_decode": config.fast_decode}
    mapper = MultiLabelMapper(sizes=[config.image_size], **options)
    with torch.no_grad():
        outputs = [model([mapper({"file_name": file, "image_id": file, "labels": []})]) for file in photos]
    return np.stack([output[0]["image_scores"].numpy() for output in outputs])


@pytest.mark.parametrize("fast_decode", [True, False])
def test_mapper_pytorch_and_onnx_runtime_agree_on_200_photos(tmp_path, photos, fast_decode):
    timm = {"name": "mobilenetv3_small_050", "frozen_bn": True}
    backbone = LazyCall(TimmBackbone)(out_features=["stride32"], **timm)
    head = LazyCall(TimmHead)(in_feature="stride32", **timm)
    options = {"image_size": 64, "fast_decode": fast_decode, "pixels": INCEPTION_RGB}
    model, config = save_tagger(tmp_path / "model", backbone, "stride32", head, **options)
    by_mapper = map_photos(model, config, photos)
    assert 0.02 < by_mapper.std(axis=0).max() and by_mapper.min() < 0.2 and by_mapper.max() > 0.8
    for backend in ("onnx", "torch"):
        tagger = Tagger.load(tmp_path / "model", backend)
        pixels = np.stack([tagger.read(photo) for photo in photos])
        assert np.abs(tagger.probabilities(pixels) - by_mapper).max() < 1e-3
    labels = tagger(photos[:3])
    assert [set(x) for x in labels] == [{config.classes[k] for k in np.flatnonzero(p >= 0.5)} for p in by_mapper[:3]]


@pytest.mark.parametrize(
    "backbone, in_feature, head, pixels",
    [
        (
            LazyCall(VGG16)(out_features=["conv5_3"], channels=(4, 4, 8, 8, 8)),
            "conv5_3",
            LazyCall(FCHead)(input_shape=[8, 4, 4], dims=[16, 16], pool=2),
            CAFFE_BGR,
        ),
        (LazyCall(SmallConvNet)(channels=[4, 8], convs=[1, 2]), "conv2", None, INCEPTION_RGB),
    ],
)
def test_other_networks_agree(tmp_path, photos, backbone, in_feature, head, pixels):
    model, config = save_tagger(tmp_path / "model", backbone, in_feature, head, pixels=pixels, image_size=64)
    by_mapper = map_photos(model, config, photos[:20])
    for backend in ("onnx", "torch"):
        tagger = Tagger.load(tmp_path / "model", backend)
        found = tagger.probabilities(np.stack([tagger.read(photo) for photo in photos[:20]]))
        assert np.abs(found - by_mapper).max() < 1e-3


def test_paths_bytes_images_and_arrays_give_the_same_pixels(tmp_path, photos):
    save_tagger(tmp_path / "model", fast_decode=False)
    tagger = Tagger.load(tmp_path / "model")
    for path in photos[:40]:
        pixels = tagger.read(path)
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
        data = open(path, "rb").read()  # noqa: SIM115
        assert np.array_equal(tagger.read(data), pixels)
        assert np.array_equal(tagger.read(Image.open(io.BytesIO(data))), pixels)
