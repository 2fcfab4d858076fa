"""Image files to pixels: upright, three channels of 8 bits. What cannot be read is an ImageError that names the file.

Exif orientation, palettes, greyscale and CMYK come out as from Detectron2's ``read_image``; transparency is dropped, as
there. Other than there, 16-bit greyscale is scaled to 8 bits instead of clipped. JPEGs are decoded by OpenCV, whose
pixels are Pillow's in less time; anything else, and any JPEG that OpenCV refuses, by Pillow.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import numpy as np
import torch
from detectron2.utils.file_io import PathManager
from PIL import Image
from torch.nn.functional import interpolate

ORIENTATION = 274  # the Exif tag
EXIF_TRANSFORMS = {  # its value -> whether rows and columns change places, then the steps through rows and through columns
    2: (False, 1, -1),
    3: (False, -1, -1),
    4: (False, -1, 1),
    5: (True, 1, 1),
    6: (True, 1, -1),
    7: (True, -1, -1),
    8: (True, -1, 1),
}
REDUCED = {  # the sizes that a JPEG's blocks of 8 x 8 are cheaply decoded to: 1 / key
    8: cv2.IMREAD_REDUCED_COLOR_8,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    1: cv2.IMREAD_COLOR,
}


class ImageError(ValueError):
    """A file that is no readable image: missing, empty, truncated, of a kind that nothing here decodes."""

    def __init__(self, file_name: str, error: Exception):
        self.file_name = file_name
        super().__init__(
            f"{file_name} cannot be read as an image ({type(error).__name__}: {error}): mend it, or take it out of the "
            "dataset; tools/check_dataset.py finds all such files beforehand"
        )


class ImageFile:
    """An image file of which the header has been read. ``shape`` is (height, width) of the upright image.

    Raises:
        ImageError: from here or from ``pixels``.
    """

    def __init__(self, file_name: str):
        self.file_name = file_name
        self._decoded: dict[int, np.ndarray] = {}
        with self._wrap_errors():
            with PathManager.open(file_name, "rb") as file:
                self._data = file.read()
            if not self._data:
                raise EOFError("the file is empty")
            header = Image.open(io.BytesIO(self._data))
            if header.format == "TIFF" and _orientation(header) in EXIF_TRANSFORMS:
                header.load()  # newer Pillows turn it then, and take the tag away
            self._is_jpeg = header.format in ("JPEG", "MPO")
            self._opencv_reads = self._is_jpeg and header.mode in ("RGB", "L")
            self._exif_transform = EXIF_TRANSFORMS.get(_orientation(header), (False, 1, 1))
            width, height = header.size
            self.shape = (width, height) if self._exif_transform[0] else (height, width)

    @property
    def digest(self) -> bytes:
        """Hash of the file's bytes, the same for copies."""
        return hashlib.blake2b(self._data, digest_size=16).digest()

    def pixels(self, at_least: int | None = None) -> np.ndarray:
        """(H, W, 3) uint8 RGB, to be read only.

        Args:
            at_least: lets a JPEG be decoded to 1/2, 1/4 or 1/8 of its size, the smallest of which neither side is
                below so many pixels. What comes out depends on the file and on this number alone.
        """
        reduction = next((r for r in REDUCED if at_least and min(self.shape) // r >= at_least), 1)
        if not self._is_jpeg:
            reduction = 1
        if reduction not in self._decoded:
            with self._wrap_errors():
                self._decoded[reduction] = self._decode(reduction)
        return self._decoded[reduction]

    def _decode(self, reduction: int) -> np.ndarray:
        pixels = _by_opencv(self._data, reduction) if self._opencv_reads else None
        if pixels is None:
            pixels = _by_pillow(self._data, reduction)
        swap, rows, columns = self._exif_transform
        return np.ascontiguousarray((pixels.swapaxes(0, 1) if swap else pixels)[::rows, ::columns])

    @contextmanager
    def _wrap_errors(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # Pillow's plugins raise anything on broken files, from SyntaxError to struct.error
            raise ImageError(self.file_name, error) from error


def read_rgb(file_name: str) -> np.ndarray:
    """(H, W, 3) uint8, the upright image in full size. Raises ImageError."""
    return ImageFile(file_name).pixels()


def resize_to_square(pixels: np.ndarray, side: int) -> torch.Tensor:
    """(H, W, 3) uint8 to (3, side, side): PyTorch's antialiased bilinear filter, Pillow's within rounding."""
    images = torch.from_numpy(pixels).permute(2, 0, 1)[None]
    return interpolate(images, (side, side), mode="bilinear", antialias=True)[0]


def _orientation(header: Image.Image) -> int | None:
    try:
        return header.getexif().get(ORIENTATION)
    except Exception:  # broken Exif data, of which there is a lot: the image counts as upright, as in Detectron2
        return None


def _by_opencv(data: bytes, reduction: int) -> np.ndarray | None:
    """None where OpenCV gives up; Pillow then reads the file, or says what is wrong with it."""
    flags = REDUCED[reduction] | cv2.IMREAD_IGNORE_ORIENTATION
    try:
        pixels = cv2.imdecode(np.frombuffer(data, np.uint8), flags)
    except cv2.error:
        return None
    return None if pixels is None else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def _by_pillow(data: bytes, reduction: int) -> np.ndarray:
    image = Image.open(io.BytesIO(data))
    if reduction > 1:
        image.draft(None, (image.width // reduction, image.height // reduction))
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format == "PNG"):  # I: older Pillows
        grey = (np.asarray(image) >> 8).astype(np.uint8)  # 65535 to 255, as Pillow itself does with 16-bit colour
        return np.repeat(grey[:, :, None], 3, axis=2)
    if image.mode in ("I", "F"):
        raise ValueError(f"pixels of 32 bits (mode {image.mode}) have no known range, save it with 8 bits")
    return np.array(image.convert("RGB"))
