import numpy as np
import pytest
import torch
from detectron2.data.detection_utils import read_image
from PIL import Image, TiffImagePlugin
from PIL import ImageFile as PillowFile

from wsd_distill.data.image import ORIENTATION, ImageError, ImageFile, read_rgb, resize_to_square


def photo(mode="RGB", size=(80, 48)):
    """Slopes of colour with some noise on them, of which JPEG keeps a part."""
    width, height = size
    x, y = np.meshgrid(np.linspace(0, 200, width), np.linspace(0, 200, height))
    noise = np.random.default_rng(0).integers(0, 50, (height, width, 3))
    return Image.fromarray((np.stack([x, y, 200 - x], axis=2) + noise).astype(np.uint8)).convert(mode)


def save(path, image, **options):
    image.save(path, **options)
    return str(path)


_open = TiffImagePlugin.TiffImageFile._open


def open_as_before(image):
    """A TIFF's header as older Pillows read it: the size is that of the rows as stored."""
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
def test_other_kinds_have_the_pixels_of_detectron2(tmp_path, name, mode):
    path = save(tmp_path / name, photo(mode))
    np.testing.assert_array_equal(read_rgb(path), read_image(path, "RGB"))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_images_upright_as_in_detectron2(tmp_path, name, orientation):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    path = save(tmp_path / name, photo(), exif=exif)
    assert ImageFile(path).shape == ((48, 80) if orientation < 5 else (80, 48))
    np.testing.assert_array_equal(read_rgb(path), read_image(path, "RGB"))


@pytest.mark.parametrize("compression", ["raw", "tiff_lzw"])
@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("pillow_turns", [True, False])
def test_tiffs_are_turned_once_by_pillow_or_here(tmp_path, monkeypatch, compression, orientation, pillow_turns):
    """Pillow turns them itself when it loads, which older ones did not; of a PNG no Pillow does."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    upright = read_rgb(save(tmp_path / "a.png", photo(), exif=exif))
    if not pillow_turns:
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "_open", open_as_before)
        monkeypatch.setattr(TiffImagePlugin.TiffImageFile, "load_end", lambda image: None)
    path = save(tmp_path / "a.tif", photo(), compression=compression, tiffinfo={ORIENTATION: orientation})
    assert ImageFile(path).shape == upright.shape[:2]
    np.testing.assert_array_equal(read_rgb(path), upright)


def test_broken_exif_data_counts_as_upright(tmp_path):
    path = save(tmp_path / "a.jpg", photo(), exif=b"Exif\0\0MM broken")
    assert ImageFile(path).shape == (48, 80)


def test_cmyk_jpegs_are_taken_as_adobe_writes_them_inverted_marked_or_not(tmp_path):
    path = tmp_path / "a.jpg"
    Image.new("CMYK", (16, 16), (0, 255, 255, 0)).save(path)  # Pillow writes 255 - value, and Adobe's mark (APP14)
    np.testing.assert_allclose(read_rgb(path)[8, 8].astype(int), [255, 0, 0], atol=2)
    data = path.read_bytes()
    start = data.index(b"\xff\xee")
    path.write_bytes(data[:start] + data[start + 16 :])  # without the mark: 2 + 14 bytes
    np.testing.assert_allclose(read_rgb(path)[8, 8].astype(int), [255, 0, 0], atol=2)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit_grey_is_scaled_not_clipped(tmp_path, name):
    values = np.array([[0, 255, 256, 32768, 65535]], np.uint16)
    pixels = read_rgb(save(tmp_path / name, Image.fromarray(values)))
    assert pixels.tolist() == [[[v] * 3 for v in (0, 0, 1, 128, 255)]]


def test_transparency_is_dropped(tmp_path):
    path = save(tmp_path / "a.png", Image.new("RGBA", (2, 1), (10, 20, 30, 0)))
    assert read_rgb(path).tolist() == [[[10, 20, 30]] * 2]


def broken(kind, path):
    """Writes a file that is no readable image to ``path``."""
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
def test_a_file_that_is_no_image_is_an_error_that_names_it(tmp_path, kind, name, message):
    broken(kind, tmp_path / name)
    with pytest.raises(ImageError, match=rf"{name} cannot be read .*{message}.*check_dataset.py finds all") as caught:
        read_rgb(str(tmp_path / name))
    assert caught.value.file_name == str(tmp_path / name)


def test_pixels_without_a_known_range_are_an_error(tmp_path):
    path = save(tmp_path / "depth.tif", Image.fromarray(np.zeros((2, 2), np.float32)))
    with pytest.raises(ImageError, match=r"depth.tif .*32 bits \(mode F\) have no known range, save it with 8 bits"):
        read_rgb(path)


def test_pillows_switch_for_truncated_files_holds_here_too(tmp_path, monkeypatch):
    broken("truncated", tmp_path / "a.jpg")
    monkeypatch.setattr(PillowFile, "LOAD_TRUNCATED_IMAGES", True)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.jpg"), read_image(str(tmp_path / "a.jpg"), "RGB"))


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
@pytest.mark.parametrize("at_least, reduction", [(6, 8), (7, 4), (12, 4), (13, 2), (24, 2), (25, 1), (48, 1), (99, 1)])
def test_a_jpeg_is_decoded_to_the_smallest_size_with_no_side_below(tmp_path, mode, at_least, reduction):
    path = save(tmp_path / "a.jpg", photo(mode))  # 80 x 48
    pixels = ImageFile(path).pixels(at_least)
    assert pixels.shape == (48 // reduction, 80 // reduction, 3)
    reduced = Image.open(path)
    reduced.draft(None, (80 // reduction, 48 // reduction))
    np.testing.assert_array_equal(pixels, np.asarray(reduced.convert("RGB")))


def test_a_reduced_jpeg_is_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # a quarter clockwise
    image = Image.new("RGB", (80, 48), "red")
    image.paste("blue", (40, 0, 80, 48))
    file = ImageFile(save(tmp_path / "a.jpg", image, exif=exif))
    pixels = file.pixels(at_least=24).astype(int)
    assert file.shape == (80, 48) and pixels.shape == (40, 24, 3)
    np.testing.assert_allclose(pixels[[5, 35], 12], [[255, 0, 0], [0, 0, 255]], atol=2)


def test_other_kinds_are_never_reduced(tmp_path):
    assert ImageFile(save(tmp_path / "a.png", photo())).pixels(at_least=6).shape == (48, 80, 3)


def test_squash_is_an_antialiased_triangle():
    row = np.array([0, 0, 70, 70], np.uint8)
    pixels = np.repeat(np.tile(row, (4, 1))[:, :, None], 3, axis=2)
    # 2 pixels reach 2 old ones to each side: (3 * 0 + 3 * 0 + 1 * 70) / 7
    assert resize_to_square(pixels, 2).tolist() == [[[10, 60], [10, 60]]] * 3


@pytest.mark.parametrize("side", [17, 32, 100])
def test_squash_agrees_with_pillow_within_rounding(side):
    image = photo()
    pillow = np.asarray(image.resize((side, side), Image.BILINEAR)).astype(int)
    apart = np.abs(resize_to_square(np.array(image), side).permute(1, 2, 0).numpy() - pillow)
    assert resize_to_square(np.array(image), side).dtype == torch.uint8
    assert apart.max() <= 1 and apart.mean() < 0.02
