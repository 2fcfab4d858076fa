import hashlib
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog
from PIL import Image

from wsd_distill.data.datasets import digit_scenes


@pytest.fixture
def few(monkeypatch):
    monkeypatch.setattr(digit_scenes, "IMAGES", {"train": 6, "val": 3, "test": 4})


def test_pixels_are_the_same_on_every_machine():
    """If the hash changes, increase VERSION."""
    strokes, targets = digit_scenes._source_digits("train")
    rng = np.random.Generator(np.random.PCG64([digit_scenes.SEED, 0]))
    scenes = [digit_scenes.make_scene(rng, strokes, targets) for _ in range(5)]
    digest = hashlib.sha256(b"".join(pixels.tobytes() for pixels, _ in scenes)).hexdigest()
    assert (digit_scenes.VERSION, digest) == (2, "d73d10ba2e89cc1f797f7f899e5f77bb5a5d4c7134e5b8fd2269cb27086453c6")


def test_scenes_have_about_three_labels_and_boxes_inside():
    """n digits have 10 (1 - 0.9^n) labels, on average 3.04 over n = 2 to 5.

    The standard deviation is 0.9 per scene, so the mean of 200 scenes is within 0.2 of that.
    """
    strokes, targets = digit_scenes._source_digits("val")
    rng = np.random.Generator(np.random.PCG64(1))
    labels = []
    for _ in range(200):
        pixels, objects = digit_scenes.make_scene(rng, strokes, targets)
        assert pixels.shape == (128, 128, 3) and pixels.dtype == np.uint8
        assert 2 <= len(objects) <= 5
        labels.append(len({k for k, _ in objects}))
        for k, (x0, y0, x1, y1) in objects:
            assert 0 <= k < 10 and 0 <= x0 < x1 <= 128 and 0 <= y0 < y1 <= 128
    expected = np.mean([10 * (1 - 0.9**n) for n in (2, 3, 4, 5)])
    assert np.mean(labels) == pytest.approx(expected, abs=0.2)


def test_every_source_digit_is_in_exactly_one_split(monkeypatch):
    """Replace the 1797 digits by their number, in base 16 in the levels 0..15."""
    from sklearn import datasets

    count = 1797
    images = np.zeros((count, 8, 8))
    images[:, 0, :3] = np.stack([np.arange(count) // 256, np.arange(count) // 16 % 16, np.arange(count) % 16], axis=1)
    numbered = type("Digits", (), {"images": images, "target": np.zeros(count, int)})
    monkeypatch.setattr(datasets, "load_digits", lambda: numbered)
    seen = []
    for split in digit_scenes.IMAGES:
        levels = digit_scenes._source_digits(split)[0][:, 0, :3].astype(int) // 16
        seen += (levels @ [256, 16, 1]).tolist()
    assert sorted(seen) == list(range(count))


def test_generation_is_deterministic_and_runs_once(few, tmp_path):
    first, second = (digit_scenes.generate(tmp_path / name) for name in ("a", "b"))
    for split, count in digit_scenes.IMAGES.items():
        files = sorted((first / split).glob("*.bmp"))
        assert len(files) == count
        assert [f.read_bytes() for f in files] == [f.read_bytes() for f in sorted((second / split).glob("*.bmp"))]
        boxes = f"instances_{split}.json"
        assert (first / boxes).read_bytes() == (second / boxes).read_bytes()
    stamp = first.stat().st_mtime_ns
    assert digit_scenes.generate(tmp_path / "a") == first and first.stat().st_mtime_ns == stamp


def test_two_processes_leave_one_complete_folder(few, tmp_path, monkeypatch):
    """Both write everything before either renames its folder."""
    both, write = threading.Barrier(2, timeout=60), digit_scenes._write_split

    def write_and_wait(folder, split):
        write(folder, split)
        both.wait()

    monkeypatch.setattr(digit_scenes, "_write_split", write_and_wait)
    with ThreadPoolExecutor(2) as pool:
        made = list(pool.map(digit_scenes.generate, [tmp_path, tmp_path]))
    assert made == [tmp_path / "digit_scenes_v2"] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["digit_scenes_v2"]
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    assert len(digit_scenes.load_digit_scenes("test")) == 4


def test_interrupted_generation_leaves_nothing(few, tmp_path, monkeypatch):
    def fail(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(digit_scenes, "make_scene", fail)
    with pytest.raises(KeyboardInterrupt):
        digit_scenes.generate(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_labels_are_the_classes_of_the_boxes(few, tmp_path, monkeypatch):
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    dicts = digit_scenes.load_digit_scenes("train")
    assert len(dicts) == 6
    for record in dicts:
        assert record["labels"] == sorted({a["category_id"] for a in record["annotations"]})
        assert Image.open(record["file_name"]).size == (record["width"], record["height"]) == (128, 128)


def test_registered_splits_are_generated_in_detectron2s_folder(few, tmp_path, monkeypatch):
    import wsd_distill.data.datasets  # noqa: F401  (registers)

    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    for split, count in digit_scenes.IMAGES.items():
        dicts = DatasetCatalog.get(f"digit_scenes_{split}")
        assert len(dicts) == count and len({record["image_id"] for record in dicts}) == count
        assert all(record["file_name"].startswith(str(tmp_path)) for record in dicts)
        assert MetadataCatalog.get(f"digit_scenes_{split}").thing_classes[7] == "seven"
