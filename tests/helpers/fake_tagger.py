"""A tagger without a network, whose probabilities can be computed by hand, and photos of one color for it."""

import io
import time

import numpy as np
from PIL import Image, UnidentifiedImageError


class FakeTagger:
    """Classes red, green, blue: the mean of a channel, divided by 255."""

    def __init__(self, delay=0.0):
        self.classes = ["red", "green", "blue"]
        self.thresholds = np.array([0.5, 0.2, 0.8])
        self.delay = delay  # seconds per photo
        self.num_read = 0
        self.batches = []

    def read(self, image):
        self.num_read += 1
        time.sleep(self.delay)
        try:
            with Image.open(image if isinstance(image, str) else io.BytesIO(image)) as opened:
                return np.asarray(opened.convert("RGB").resize((4, 4)))
        except UnidentifiedImageError:
            raise ValueError("not an image") from None

    def probabilities(self, pixels):
        self.batches.append(len(pixels))
        return (pixels.mean(axis=(1, 2)) / 255).astype(np.float32)


def png(*color):
    """Bytes of a photo of one color."""
    file = io.BytesIO()
    Image.new("RGB", (6, 5), color).save(file, "PNG")
    return file.getvalue()
