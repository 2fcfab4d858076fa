"""The built-in dataset digit_scenes: handwritten digits pasted into photos.

It is generated offline, with the same pixels on every machine. The sources come with the dependencies: scikit-learn's
8x8 handwritten digits and scikit-image's PNG photos. Only PNG photos and Pillow's integer resizing are used, so that
no decoder or floating-point order affects the pixels. Each split uses its own source digits.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from ...io import datasets_root
from ..types import DatasetDict
from .catalog import DatasetInfo, register, register_info
from .coco import load_coco

logger = logging.getLogger(__name__)

CLASSES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
VERSION = 2  # increase with any change of a pixel or a box
SEED = 0
IMAGES = {"train": 3000, "val": 300, "test": 1000}
SPLIT_FRACTIONS = {"train": 0.6, "val": 0.15, "test": 0.25}  # of scikit-learn's 1797 digits
PHOTOS = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel", "motorcycle_left"]


# Appearance of a scene: lengths in pixels, ranges inclusive.
SIZE = 128
NUM_DIGITS = (2, 5)
DIGIT_SIZE = (13, 36)
NUM_CLUTTER = (6, 12)
CLUTTER_SIZE = (10, 30)
MAX_BACKGROUND = 130  # grey level; digits are always lighter than the background
INK = (150, 255)  # range of each colour channel of a digit
OCCLUSION_PROB = 0.25  # probability that a strip of background partly covers a digit
OCCLUSION_FRACTION = 0.25  # covered fraction of the digit's width or height

Box = tuple[int, int, int, int]  # x0, y0, x1, y1 in pixels


@lru_cache(maxsize=1)
def _photos() -> list[Image.Image]:
    import skimage

    folder = Path(skimage.__file__).parent / "data"
    return [Image.open(folder / f"{name}.png").convert("RGB") for name in PHOTOS]


def _source_digits(split: str) -> tuple[np.ndarray, np.ndarray]:
    """Return strokes (M, 8, 8) uint8 and classes (M,) of the source digits of a split."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    order = np.random.Generator(np.random.PCG64(SEED)).permutation(len(digits.target))
    ends = np.cumsum([round(fraction * len(order)) for fraction in SPLIT_FRACTIONS.values()])
    chosen = dict(zip(SPLIT_FRACTIONS, np.split(order, ends)))[split]
    strokes = np.minimum(digits.images[chosen].astype(np.int64) * 16, 255).astype(np.uint8)
    return strokes, digits.target[chosen].astype(int)


def _draw(rng: np.random.Generator, bounds: tuple[int, int]) -> int:
    """Draw an integer from an inclusive range."""
    return int(rng.integers(bounds[0], bounds[1] + 1))


def _background(rng: np.random.Generator) -> np.ndarray:
    """Return a random crop of a photo, tinted and darkened, (SIZE, SIZE, 3) int64."""
    photo = _photos()[rng.integers(len(PHOTOS))]
    crop_size = _draw(rng, (SIZE, min(photo.size)))
    left, top = (int(rng.integers(extent - crop_size + 1)) for extent in photo.size)
    crop = photo.crop((left, top, left + crop_size, top + crop_size)).resize((SIZE, SIZE), Image.Resampling.BILINEAR)
    tint = rng.integers(-40, 41, size=3)
    return np.clip(np.asarray(crop, dtype=np.int64) + tint, 0, 255) * MAX_BACKGROUND // 255


def _enlarge(strokes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Resize strokes (h, w) uint8 to ``size`` (width, height), int64 in 0..255."""
    image = Image.fromarray(np.ascontiguousarray(strokes)).resize(size, Image.Resampling.BICUBIC)
    return np.asarray(image, dtype=np.int64)


def _digit_mask(strokes: np.ndarray, size: int) -> np.ndarray:
    """Enlarge strokes to ``size`` and crop to their ink, (H, W) int64 in 0..255."""
    mask = _enlarge(strokes, (size, size))
    rows, columns = np.flatnonzero(mask.max(1) > 96), np.flatnonzero(mask.max(0) > 96)
    return mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]


def _random_box(rng: np.random.Generator, mask: np.ndarray) -> Box:
    """Return a random location of a mask (h, w) in the scene."""
    h, w = mask.shape
    x, y = int(rng.integers(SIZE - w + 1)), int(rng.integers(SIZE - h + 1))
    return x, y, x + w, y + h


def _paint(rng: np.random.Generator, canvas: np.ndarray, mask: np.ndarray, box: Box) -> None:
    """Blend a random light colour into ``box``, with alpha ``mask`` (h, w) in 0..255."""
    ink = rng.integers(INK[0], INK[1] + 1, size=3)
    area = canvas[box[1] : box[3], box[0] : box[2]]
    area += (mask[:, :, None] * (ink - area)) // 255


def _add_clutter(rng: np.random.Generator, canvas: np.ndarray, sources: np.ndarray) -> None:
    """Paint pieces of digits: 3 of the 8 columns or rows, unrecognizable, rotated."""
    for _ in range(_draw(rng, NUM_CLUTTER)):
        strokes = sources[rng.integers(len(sources))]
        start = int(rng.integers(0, 6))
        piece = strokes[:, start : start + 3] if rng.random() < 0.5 else strokes[start : start + 3]
        piece = np.rot90(piece, int(rng.integers(4)))
        scale = _draw(rng, CLUTTER_SIZE) / 8
        height, width = (max(2, int(extent * scale)) for extent in piece.shape)
        mask = _enlarge(piece, (width, height))
        _paint(rng, canvas, mask, _random_box(rng, mask))


def _occlude(rng: np.random.Generator, canvas: np.ndarray, clean: np.ndarray, box: Box) -> None:
    """Restore the clean background in a strip along a random side of ``box``."""
    x0, y0, x1, y1 = box
    side = int(rng.integers(4))
    dx, dy = int((x1 - x0) * OCCLUSION_FRACTION), int((y1 - y0) * OCCLUSION_FRACTION)
    strip = [(x0, y0, x0 + dx, y1), (x1 - dx, y0, x1, y1), (x0, y0, x1, y0 + dy), (x0, y1 - dy, x1, y1)][side]
    area = np.s_[strip[1] : strip[3], strip[0] : strip[2]]
    canvas[area] = clean[area]


def make_scene(
    rng: np.random.Generator, strokes: np.ndarray, targets: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, Box]]]:
    """Draw a scene from source digits, strokes (M, 8, 8) uint8 and targets (M,).

    Returns:
        Pixels (SIZE, SIZE, 3) uint8 RGB and, for each digit, its class and its box (x0, y0, x1, y1) in pixels.
    """
    canvas = _background(rng)
    _add_clutter(rng, canvas, strokes)
    clean = canvas.copy()
    objects: list[tuple[int, Box]] = []
    num_digits = _draw(rng, NUM_DIGITS)
    for _ in range(40):  # a location that overlaps an earlier digit is drawn again; 40 draws suffice for 5 digits
        if len(objects) == num_digits:
            break
        source = int(rng.integers(len(strokes)))
        mask = _digit_mask(strokes[source], _draw(rng, DIGIT_SIZE))
        box = x0, y0, x1, y1 = _random_box(rng, mask)
        if any(x0 < b[2] and b[0] < x1 and y0 < b[3] and b[1] < y1 for _, b in objects):
            continue
        _paint(rng, canvas, mask, box)
        if rng.random() < OCCLUSION_PROB:
            _occlude(rng, canvas, clean, box)
        objects.append((int(targets[source]), box))
    return canvas.astype(np.uint8), objects


def _write_split(folder: Path, split: str) -> None:
    strokes, targets = _source_digits(split)
    rng = np.random.Generator(np.random.PCG64([SEED, list(IMAGES).index(split)]))
    (folder / split).mkdir()
    images: list[dict] = []
    annotations: list[dict] = []
    for index in range(IMAGES[split]):
        pixels, objects = make_scene(rng, strokes, targets)
        name = f"{split}/{index:05d}.bmp"
        Image.fromarray(pixels).save(folder / name)
        images.append({"id": index, "file_name": name, "height": SIZE, "width": SIZE})
        for category, (x0, y0, x1, y1) in objects:
            box = {"bbox": [x0, y0, x1 - x0, y1 - y0], "area": (x1 - x0) * (y1 - y0), "iscrowd": 0}
            annotations.append({"id": len(annotations) + 1, "image_id": index, "category_id": category, **box})
    categories = [{"id": i, "name": name} for i, name in enumerate(CLASSES)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / f"instances_{split}.json").write_text(json.dumps(content))


def generate(root: str | os.PathLike) -> Path:
    """Generate the dataset, unless it exists, atomically; return its folder in ``root``."""
    target = Path(root) / f"digit_scenes_v{VERSION}"
    if target.exists():
        return target
    # a warning, because logging may not be set up yet
    logger.warning("Generating digit_scenes in %s (about 40 seconds, once)", target)
    target.parent.mkdir(parents=True, exist_ok=True)
    tmp_path = Path(tempfile.mkdtemp(prefix=".digit_scenes", dir=target.parent))
    try:
        for split in IMAGES:
            _write_split(tmp_path, split)
        tmp_path.chmod(0o755)
        os.rename(tmp_path, target)
    except OSError:
        if not target.exists():  # otherwise another process has generated the same files
            raise
    finally:
        shutil.rmtree(tmp_path, ignore_errors=True)
    return target


def load_digit_scenes(split: str) -> list[DatasetDict]:
    """Load a split ("train", "val", "test"); generate the dataset if necessary."""
    folder = generate(datasets_root())
    return load_coco(folder / f"instances_{split}.json", folder, CLASSES)


def register_all() -> None:
    """Register ``digit_scenes_{train,val,test}``; the first load generates the files."""
    for split in IMAGES:
        register(f"digit_scenes_{split}", load_digit_scenes, {"split": split}, classes=CLASSES)
    edge_boxes = {"max_boxes": 64, "sides": [192], "hysteresis": [60, 120], "alpha": 0.55, "beta": 0.5}
    info = DatasetInfo(
        "digit_scenes_train",
        "digit_scenes_val",
        "digit_scenes_test",
        flip_prob=0.0,  # digits are not mirror-symmetric
        boxes=True,
        edge_boxes=edge_boxes,
        recipe="small",
    )
    register_info("digit_scenes", info)
