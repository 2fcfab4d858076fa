"""Read image files: upright, RGB, 8 bits per channel.

Exif orientation, palettes, greyscale and CMYK are converted as in Detectron2's ``read_image``, which also drops
transparency. Unlike there, 16-bit greyscale is scaled to 8 bits instead of clipped. OpenCV decodes JPEGs, to the same
pixels as Pillow in less time; Pillow decodes other formats and any JPEG that OpenCV cannot read.

Memory is bounded: a file may have ``$WSD_MAX_IMAGE_MB`` (512) megabytes, and ``$WSD_MAX_MEGAPIXELS`` (128) megapixels
at the size at which it would be decoded; both are checked before decoding. Only regular files are opened.

Training and the runtime (``wsd_distill.tagging``) read with this module; it imports neither PyTorch nor Detectron2.
"""

from __future__ import annotations

import hashlib
import io
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cached_property
from typing import NamedTuple, Union

import cv2
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..io import check_file, read_limit

ORIENTATION = 274  # Exif tag
EXIF_TRANSFORMS = {  # orientation -> swap rows and columns first?, step along rows, step along columns
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
_UPRIGHT = (False, 1, 1)
JPEG_REDUCTIONS = {  # JPEG's blocks of 8 x 8 decode cheaply to 1/key of their size
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


class ImageError(ValueError):
    """A file is missing, empty, truncated, or not an image in a supported format."""

    def __init__(self, file_name: str, error: Exception):
        self.file_name = file_name
        super().__init__(
            f"{file_name} cannot be read as an image ({type(error).__name__}: {error}): fix it or remove it from the "
            "dataset; wsd check or tools/check_dataset.py lists all such files"
        )


class ImageStamp(NamedTuple):
    """What identifies the content of an image file; 0 where unknown."""

    height: int = 0  # of the upright image, in pixels
    width: int = 0
    num_bytes: int = 0
    digest: int = 0  # 64 bits of ImageFile.digest

    def differs(self, other: ImageStamp) -> bool:
        """Return whether a value that both know differs."""
        return any(one and two and one != two for one, two in zip(self, other))


UNKNOWN_IMAGE = ImageStamp()


class ImageFile:
    """An image file, opened by reading its header.

    Args:
        source: a path, an address that Detectron2 can download (``https://...``), or the bytes of a file.
        name: name in errors; None: the path, or "an image in memory".

    Attributes:
        file_name: the name.
        shape: (height, width) of the upright image, in pixels.

    Raises:
        ImageError: the file cannot be read; also raised by :meth:`pixels`.
    """

    def __init__(self, source: str | os.PathLike | bytes, name: str | None = None):
        self.file_name = name or ("an image in memory" if isinstance(source, bytes) else os.fspath(source))
        self._decoded: dict[int, np.ndarray] = {}
        with self._wrap_errors():
            self._data = source if isinstance(source, bytes) else _read_bytes(os.fspath(source))
            _check_bytes(len(self._data))
            header = _open_with_pillow(self._data)
            self._is_progressive = bool(header.info.get("progressive"))
            if header.format == "TIFF":
                _check_pixels(header.height, header.width)
            if header.format == "TIFF" and _orientation(header) in EXIF_TRANSFORMS:
                header.load()  # newer Pillow versions rotate it here and remove the tag
            self._is_jpeg = header.format in ("JPEG", "MPO")
            self._use_opencv = self._is_jpeg and header.mode in ("RGB", "L")
            self._exif_transform = EXIF_TRANSFORMS.get(_orientation(header), _UPRIGHT)
            width, height = header.size
            self.shape = (width, height) if self._exif_transform[0] else (height, width)

    @property
    def data(self) -> bytes:
        """The file's bytes."""
        return self._data

    @cached_property
    def digest(self) -> bytes:
        """Hash of the file's bytes."""
        return hashlib.blake2b(self._data, digest_size=16).digest()

    @property
    def stamp(self) -> ImageStamp:
        """Size in pixels and bytes, and hash."""
        return ImageStamp(*self.shape, len(self._data), int.from_bytes(self.digest[:8], "little"))

    def pixels(self, min_size: int | None = None, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """Decode the image, or a window of it.

        Args:
            min_size: decode a JPEG at 1/2, 1/4 or 1/8 of its size, the smallest at which both sides of the window have
                at least this many pixels; None decodes at full size. Other formats are always decoded at full size.
            window: (x0, y0, x1, y1) in pixels of the image at full size; None for the whole image. At a reduced size
                its edges are rounded to pixels of that size.

        Returns:
            (H, W, 3) uint8 RGB; cached, do not modify.
        """
        x0, y0, x1, y1 = window or (0, 0, self.shape[1], self.shape[0])
        reduction = 1
        if self._is_jpeg and min_size:
            reduction = next((r for r in JPEG_REDUCTIONS if min(y1 - y0, x1 - x0) // r >= min_size), 1)
        if reduction not in self._decoded:
            with self._wrap_errors():
                self._decoded[reduction] = self._decode(reduction)
        decoded = self._decoded[reduction]
        if window is None:
            return decoded
        left, top, right, bottom = (round(edge / reduction) for edge in (x0, y0, x1, y1))
        return decoded[top:bottom, left:right]

    def _decode(self, reduction: int) -> np.ndarray:
        decoded = 1 if self._is_progressive else reduction  # a progressive JPEG is held at full size
        _check_pixels(*(size // decoded for size in self.shape))
        pixels = _decode_with_opencv(self._data, reduction) if self._use_opencv else None
        if pixels is None:  # Pillow reads it, or raises a precise error
            pixels = _decode_with_pillow(self._data, reduction)
        swap, rows, columns = self._exif_transform
        return np.ascontiguousarray((pixels.swapaxes(0, 1) if swap else pixels)[::rows, ::columns])

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # on broken files, Pillow's plugins raise anything from SyntaxError to struct.error
            raise ImageError(self.file_name, error) from error


class PixelImage:
    """Pixels in memory with what :class:`ImageFile` has to read them.

    Args:
        pixels: (H, W, 3) uint8 RGB, upright.
    """

    file_name = "an image in memory"

    def __init__(self, pixels: np.ndarray):
        self._pixels = np.ascontiguousarray(pixels)
        self.shape: tuple[int, int] = pixels.shape[:2]

    def pixels(self, min_size: int | None = None, window: tuple[int, int, int, int] | None = None) -> np.ndarray:
        """Return the pixels, or a window of them (x0, y0, x1, y1); ``min_size`` has no effect."""
        x0, y0, x1, y1 = window or (0, 0, self.shape[1], self.shape[0])
        return self._pixels[y0:y1, x0:x1]


Photo = Union[str, os.PathLike, bytes, Image.Image, np.ndarray]


def open_photo(image: Photo) -> ImageFile | PixelImage:
    """Open a path, the bytes of a file, an image of Pillow, or (H, W, 3) uint8 RGB.

    Raises:
        ImageError: the file cannot be read as an image; names it.
        ValueError: an array has another shape or type.
    """
    if isinstance(image, Image.Image):
        image = to_rgb(ImageOps.exif_transpose(image))
    elif isinstance(image, (str, bytes, os.PathLike)):
        return ImageFile(image)
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"an image is {found}: give a path, bytes, an image of Pillow or an array (H, W, 3) uint8")
    if 0 in image.shape:
        raise ValueError(f"an image has the shape {image.shape}: give one that has pixels")
    return PixelImage(image)


def image_fingerprint(files: list[str]) -> str:
    """Hash the sizes in bytes of at most 100 files, independent of their folder.

    This detects other images with the same ids, but not a single replaced file: reading the size of all 123,000 files
    of COCO takes two minutes on a file system with 1 ms per call.
    """

    def size(file: str) -> str:
        try:
            return str(os.path.getsize(file))
        except OSError:
            return "none"

    sizes = map(size, files[:: math.ceil(len(files) / 100) or 1])
    return hashlib.sha256("\n".join(sizes).encode()).hexdigest()[:12]


def read_rgb(file_name: str) -> np.ndarray:
    """Read an image file at full size: (H, W, 3) uint8 RGB, upright."""
    return ImageFile(file_name).pixels()


def resize_to_square(pixels: np.ndarray, size: int) -> np.ndarray:
    """Resize (H, W, 3) uint8 to (size, size, 3), by Pillow: bilinear with antialiasing, in integers.

    Columns first, in a step of its own: Pillow 13 begins with the rows of some images, which rounds differently.
    """
    columns = Image.fromarray(pixels).resize((size, pixels.shape[0]), Image.Resampling.BILINEAR)
    return np.array(columns.resize((size, size), Image.Resampling.BILINEAR))


def _read_bytes(file_name: str) -> bytes:
    path = file_name
    if "://" in file_name:
        from detectron2.utils.file_io import PathManager

        path = PathManager.get_local_path(file_name)  # downloads it
    check_file(path)
    _check_bytes(os.path.getsize(path) or 1)
    with open(path, "rb") as file:
        return file.read()


def _check_bytes(count: int) -> None:
    if not count:
        raise EOFError("the file is empty")
    size, limit = count / 1e6, read_limit("WSD_MAX_IMAGE_MB", 512)
    if size > limit:
        text = f"the file has {size:.0f} MB, more than the limit of {limit:g}"
        raise ValueError(f"{text}: set the environment variable WSD_MAX_IMAGE_MB if it is right")


def _open_with_pillow(data: bytes) -> Image.Image:
    """Read the header; the limit of Pillow, which first warns, is replaced by that of ``_check_pixels``."""
    before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        header = Image.open(io.BytesIO(data))
    except UnidentifiedImageError:
        raise UnidentifiedImageError("it is not an image in a format that Pillow reads") from None
    finally:
        Image.MAX_IMAGE_PIXELS = before
    if header.format in ("EPS", "WMF"):
        raise ValueError(f"{header.format} files are programs for another decoder: save it as PNG or JPEG")
    return header


def _check_pixels(height: int, width: int) -> None:
    found, limit = height * width / 1e6, read_limit("WSD_MAX_MEGAPIXELS", 128)
    if found > limit:
        text = f"{found:.0f} megapixels ({width} x {height}) would be decoded, more than the limit of {limit:g}"
        raise ValueError(f"{text}: set the environment variable WSD_MAX_MEGAPIXELS if it is right")


def _orientation(header: Image.Image) -> int:
    try:
        return header.getexif().get(ORIENTATION, 1)
    except Exception:  # broken Exif data is frequent; treated as upright, as in Detectron2
        return 1


def _decode_with_opencv(data: bytes, reduction: int) -> np.ndarray | None:
    """Return None if OpenCV cannot decode the file."""
    flags = JPEG_REDUCTIONS[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    with suppress(cv2.error):
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
        return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)
    return None


def _decode_with_pillow(data: bytes, reduction: int) -> np.ndarray:
    image = _open_with_pillow(data)
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))
    return to_rgb(image)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Convert an image of Pillow to (H, W, 3) uint8 RGB, as its file is read; ValueError for 32-bit pixels."""
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # I: older Pillow versions
        grey = (np.asarray(image) >> 8).astype(np.uint8)  # as Pillow converts 16-bit colour
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"32-bit pixels (mode {image.mode}) have no known value range: save it with 8 bits")
    return np.array(image.convert("RGB"))
