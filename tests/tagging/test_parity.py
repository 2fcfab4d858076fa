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
from wsd_distill.modeling import CAFFE_BGR, INCEPTION_RGB, VGG16, FCHead, TimmBackbone, TimmHead

SIZES = [(31, 47), (64, 64), (100, 75), (240, 320), (500, 375), (640, 427), (1280, 960), (70, 600)]


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
    batch = [mapper({"file_name": file, "image_id": file, "labels": []}) for file in photos]
    with torch.no_grad():
        return np.stack([output["image_scores"].numpy() for output in model(batch)])


def test_mapper_pytorch_and_onnx_runtime_agree_on_200_photos(tmp_path, photos):
    model, config = save_tagger(tmp_path / "model")
    by_mapper = map_photos(model, config, photos)
    assert by_mapper.std(axis=0).max() > 0.02 and by_mapper.min() < 0.2 and by_mapper.max() > 0.8
    taggers = [Tagger.load(tmp_path / "model", backend) for backend in ("onnx", "torch")]
    pixels = np.stack([taggers[0].read(photo) for photo in photos])
    for tagger in taggers:
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
        (
            LazyCall(TimmBackbone)(name="resnet10t", out_features=["stride16"], frozen_bn=True),
            "stride16",
            LazyCall(TimmHead)(name="resnet10t", in_feature="stride16", frozen_bn=True),
            INCEPTION_RGB,
        ),
    ],
)
def test_other_networks_agree(tmp_path, photos, backbone, in_feature, head, pixels):
    model, config = save_tagger(tmp_path / "model", backbone, in_feature, head, pixels=pixels, fast_decode=False)
    by_mapper = map_photos(model, config, photos[:24])
    for backend in ("onnx", "torch"):
        tagger = Tagger.load(tmp_path / "model", backend)
        found = tagger.probabilities(np.stack([tagger.read(photo) for photo in photos[:24]]))
        assert np.abs(found - by_mapper).max() < 1e-3


def test_paths_bytes_images_and_arrays_give_the_same_pixels(tmp_path, photos):
    save_tagger(tmp_path / "model", fast_decode=False)
    tagger = Tagger.load(tmp_path / "model")
    for path in photos[:24]:
        pixels = tagger.read(path)
        assert pixels.shape == (64, 64, 3) and pixels.dtype == np.uint8
        data = open(path, "rb").read()  # noqa: SIM115
        assert np.array_equal(tagger.read(data), pixels)
        assert np.array_equal(tagger.read(Image.open(io.BytesIO(data))), pixels)
