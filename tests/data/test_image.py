import os
import warnings
from pathlib import Path

import numpy as np
import pytest
from detectron2.data.detection_utils import read_image
from PIL import Image, TiffImagePlugin
from PIL import ImageFile as PillowFile

from wsd_distill.data.image import ORIENTATION, ImageError, ImageFile, read_rgb, resize_to_square


def photo(mode="RGB", size=(80, 48)):
    """Return colour gradients with some noise, partly kept by JPEG."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    noise = np.random.default_rng(0).integers(0, 50, (height, width, 3))
    return Image.fromarray((np.stack([x, y, 200 - x], axis=2) + noise).astype(np.uint8)).convert(mode)


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


_open = TiffImagePlugin.TiffImageFile._open


def open_like_old_pillow(image):
    """Read a TIFF header like older Pillow versions: the size is as stored."""
    _open(image)
    if image.tag_v2.get(ORIENTATION, 1) > 4:
        image._size = image.size[::-1]


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("options", [{"subsampling": 0}, {"subsampling": 2}, {"progressive": True}])
def test_jpegs_have_the_pixels_of_detectron2(tmp_path, mode, options):
    path = save(tmp_path / "a.jpg", photo(mode, (37, 29)), **options)
    assert ImageFile(path).shape == (29, 37)
    np.testing.assert_array_equal(read_rgb(path), read_image(path, "RGB"))


@pytest.mark.parametrize("name", ["a.png", "a.webp", "a.tif", "a.gif"])
@pytest.mark.parametrize("mode", ["RGB", "L", "P", "1", "RGBA"])
def test_other_formats_have_the_pixels_of_detectron2(tmp_path, name, mode):
    path = save(tmp_path / name, photo(mode))
    np.testing.assert_array_equal(read_rgb(path), read_image(path, "RGB"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_as_in_detectron2(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / name, photo(), exif=exif)
    assert ImageFile(path).shape == ((48, 80) if orientation < 5 else (80, 48))
    np.testing.assert_array_equal(read_rgb(path), read_image(path, "RGB"))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pillow_rotates", [True, False])
def test_tiffs_are_rotated_once_by_pillow_or_here(tmp_path, monkeypatch, compression, orientation, pillow_rotates):
    """Newer Pillow versions rotate TIFFs on load; no version rotates PNGs."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = read_rgb(save(tmp_path / "a.png", photo(), exif=exif))
    if not pillow_rotates:
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_open", open_like_old_pillow)
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load_end", lambda image: None)
    path = save(tmp_path / "a.tif", photo(), compression=compression, tiffinfo={ORIENTATION: orientation})
    assert ImageFile(path).shape == upright.shape[:2]
    np.testing.assert_array_equal(read_rgb(path), upright)


def test_broken_exif_data_is_treated_as_upright(tmp_path):
    path = save(tmp_path / "a.jpg", photo(), exif=b"Exif\0\0MM broken")
    assert ImageFile(path).shape == (48, 80)


def test_cmyk_jpegs_are_read_as_inverted_with_and_without_adobe_marker(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path)  # Pillow writes 255 - value and Adobe's marker (APP14)
    np.testing.assert_allclose(read_rgb(path)[8, 8].astype(int), [255, 0, 0], atol=2)
    data = path.read_bytes()
    start = data.index(b"\xff\xee")
    path.write_bytes(data[:start] + data[start + 16 :])  # without the marker: 2 + 14 bytes
    np.testing.assert_allclose(read_rgb(path)[8, 8].astype(int), [255, 0, 0], atol=2)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = read_rgb(save(tmp_path / name, Image.fromarray(values)))
    assert pixels.tolist() == [[[v] * 3 for v in (0, 0, 1, 128, 255)]]


def test_transparency_is_dropped(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (2, 1), (10, 20, 30, 0)))
    assert read_rgb(path).tolist() == [[[10, 20, 30]] * 2]


def write_corrupt(kind, path):
    """Write a file that cannot be read as an image."""
    image = photo()
    if kind == "truncated":
        image.save(path)
        path.write_bytes(path.read_bytes()[:-200])
    elif kind != "missing":
        path.write_bytes({"empty": b"", "text": b"<html>404</html>"}[kind])


@pytest.mark.parametrize(
    "kind, name, message",
    [
        ("empty", "a.jpg", "EOFError: the file is empty"),
        ("text", "a.jpg", "UnidentifiedImageError"),
        ("missing", "a.jpg", "FileNotFoundError"),
        ("truncated", "a.jpg", "image file is truncated"),
        ("truncated", "a.png", "image file is truncated"),
    ],
)
def test_corrupt_file_raises(tmp_path, kind, name, message):
    write_corrupt(kind, tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name} cannot be read .*{message}.*wsd check .* lists all") as caught:
        read_rgb(str(tmp_path / name))
    assert caught.value.file_name == str(tmp_path / name)


def test_pixels_without_a_known_range_raise(tmp_path):
    path = save(tmp_path / "depth.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(
        ImageError, match=r"depth.tif .*32-bit pixels \(mode F\) have no known value range: save it with 8 bits"
    ):
        read_rgb(path)


def test_pillows_load_truncated_images_is_respected(tmp_path, monkeypatch):
    write_corrupt("truncated", tmp_path / "a.jpg")
    monkeypatch.setattr(PillowFile, "LOAD_TRUNCATED_IMAGES", True)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.jpg"), read_image(str(tmp_path / "a.jpg"), "RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("min_size, reduction", [(6, 8), (7, 4), (12, 4), (13, 2), (24, 2), (25, 1), (48, 1), (99, 1)])
def test_jpeg_is_decoded_at_the_smallest_sufficient_size(tmp_path, mode, min_size, reduction):
    path = save(tmp_path / "a.jpg", photo(mode))  # 80 x 48
    pixels = ImageFile(path).pixels(min_size)
    assert pixels.shape == (48 // reduction, 80 // reduction, 3)
    reduced = Image.open(path)
    reduced.draft(None, (80 // reduction, 48 // reduction))
    np.testing.assert_array_equal(pixels, np.asarray(reduced.convert("RGB")))


def test_reduced_jpeg_is_rotated_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # 90 degrees clockwise
    image = Image.new("RGB", (80, 48), "red")
    image.paste("blue", (40, 0, 80, 48))
    file = ImageFile(save(tmp_path / "a.jpg", image, exif=exif))
    pixels = file.pixels(min_size=24).astype(int)
    assert file.shape == (80, 48) and pixels.shape == (40, 24, 3)
    np.testing.assert_allclose(pixels[[5, 35], 12], [[255, 0, 0], [0, 0, 255]], atol=2)


def test_other_formats_are_never_reduced(tmp_path):
    assert ImageFile(save(tmp_path / "a.png", photo())).pixels(min_size=6).shape == (48, 80, 3)


def test_resize_to_square_uses_an_antialiased_triangle_filter():
    row = np.array([0, 0, 70, 70], np.uint8)
    pixels = np.repeat(np.tile(row, (4, 1))[:, :, None], 3, axis=2)
    # weights 3, 3, 1 over the nearest old pixels: (3 * 0 + 3 * 0 + 1 * 70) / 7
    assert resize_to_square(pixels, 2).tolist() == [[[10] * 3, [60] * 3]] * 2


def test_bytes_are_read_like_a_file(tmp_path):
    path = save(tmp_path / "a.jpg", photo(size=(320, 200)))
    file = ImageFile(Path(path).read_bytes())
    assert file.shape == (200, 320)
    np.testing.assert_array_equal(file.pixels(min_size=50), ImageFile(path).pixels(min_size=50))


@pytest.mark.parametrize("data, text", [(b"", "the file is empty"), (b"no image", "it is not an image in a format")])
def test_bytes_that_are_no_image_raise(data, text):
    with pytest.raises(ImageError, match=f"an image in memory cannot be read .*{text}"):
        ImageFile(data)
    with pytest.raises(ImageError, match=r"in\.tar/7\.jpg cannot be read"):
        ImageFile(data, name="in.tar/7.jpg")


def test_an_image_with_too_many_pixels_is_not_decoded(tmp_path, monkeypatch):
    """No warning or error of Pillow either."""
    path = save(tmp_path / "a.png", Image.new("1", (13_000, 13_000)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10**6)  # Pillow would raise above 2 * 10**6
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        image = ImageFile(path)
        assert image.shape == (13_000, 13_000)
        with pytest.raises(
            ImageError, match=r"a\.png .*169 megapixels \(13000 x 13000\) would be decoded, .* limit of 128"
        ):
            image.pixels()
    assert Image.MAX_IMAGE_PIXELS == 10**6


@pytest.mark.parametrize("progressive", [False, True])
def test_the_limit_is_of_the_size_that_is_decoded(tmp_path, monkeypatch, progressive):
    path = save(tmp_path / "a.jpg", photo(size=(800, 480)), progressive=progressive)
    monkeypatch.setenv("WSD_MAX_MEGAPIXELS", "0.1")
    with pytest.raises(ImageError, match=r"0 megapixels \(800 x 480\).* limit of 0.1: set .* WSD_MAX_MEGAPIXELS"):
        ImageFile(path).pixels()
    if progressive:  # all its coefficients are held
        with pytest.raises(ImageError, match="megapixels"):
            ImageFile(path).pixels(min_size=100)
    else:
        assert ImageFile(path).pixels(min_size=100).shape == (120, 200, 3)
    monkeypatch.setenv("WSD_MAX_MEGAPIXELS", "1")
    assert ImageFile(path).pixels().shape == (480, 800, 3)


def test_a_tiff_that_is_decoded_for_its_orientation_is_checked_before(tmp_path, monkeypatch):
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    path = save(tmp_path / "a.tif", photo(size=(800, 480)), exif=exif)
    monkeypatch.setenv("WSD_MAX_MEGAPIXELS", "0.1")
    with pytest.raises(ImageError, match="megapixels"):
        ImageFile(path)


def test_files_that_are_not_read(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    large = save(tmp_path / "large.png", photo())
    monkeypatch.setenv("WSD_MAX_IMAGE_MB", "0.001")
    for path, message in (
        (tmp_path / "pipe.png", "is a pipe, socket or device"),
        (tmp_path / "folder.png", "is a folder"),
        ("/dev/zero", "is a pipe, socket or device"),
        (large, "the file has 0 MB, more than the limit of 0.001: set the environment variable WSD_MAX_IMAGE_MB"),
    ):
        with pytest.raises(ImageError, match=f"{path} cannot be read as an image .*{message}"):
            ImageFile(str(path))


def test_files_that_run_another_program_are_refused(tmp_path):
    path = save(tmp_path / "a.eps", photo("RGB"))
    with pytest.raises(ImageError, match="EPS files are programs for another decoder"):
        ImageFile(path)
