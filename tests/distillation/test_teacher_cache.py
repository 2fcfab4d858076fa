import errno
import os
import random
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.utils import comm
from helpers.builders import K, make_pair, make_student, make_teacher
from PIL import Image

from wsd_distill.data.build import build_test_loader, build_train_loader
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata
from wsd_distill.distillation import (
    ClassAware,
    DamagedCacheError,
    Distiller,
    Objectives,
    RoIAwareTransfer,
    StaleCacheError,
    TeacherCache,
)

IMAGES, SIZE = 6, 32
CROPS = {"crop_scale": [0.3, 1.0]}


def write_proposals(path, seed=0):
    rng = np.random.default_rng(seed)
    with ProposalStoreWriter(str(path), StoreMetadata("cached", "test")) as writer:
        for i in range(IMAGES):
            count = 3 + i  # up to 8, one more than the mapper takes
            corner = rng.random((count, 2), dtype=np.float32) * 20
            writer.write(i, np.hstack([corner, corner + 15]), np.linspace(1, 0.2, count, dtype=np.float32))
    return str(path)


@pytest.fixture
def folder(tmp_path, restore_catalogs):
    """Six noise images, registered as "cached", their proposals and a checkpoint of the teacher."""
    rng = np.random.default_rng(0)
    records = []
    for i in range(IMAGES):
        path = tmp_path / f"{i}.png"
        Image.fromarray(rng.integers(0, 256, (40, 60, 3), np.uint8)).save(path)
        records.append({"file_name": str(path), "image_id": str(i), "height": 40, "width": 60, "labels": [i % K]})
    DatasetCatalog.register("cached", lambda: records)
    MetadataCatalog.get("cached").thing_classes = list("abc")
    write_proposals(tmp_path / "proposals.arrow")
    torch.save({"model": make_teacher().state_dict()}, tmp_path / "teacher.pth")
    return tmp_path


def make_mapper(**options):
    settings = {"num_classes": K, "sizes": [SIZE], "num_proposals": 7, "fast_decode": False}
    return MultiLabelMapper(**{**settings, **options})


def make_cache(folder, sizes=(SIZE,), proposals="proposals.arrow", name="cache"):
    mapper = make_mapper(is_train=True, sizes=[16], teacher_sizes=list(sizes), teacher_cached=True)
    return TeacherCache(
        str(folder / name), dataset="cached", proposals=str(folder / proposals), mapper=mapper, batch_size=2
    )


def make_distiller(folder, **options):
    torch.manual_seed(1)
    objectives = Objectives(
        loss_roi=RoIAwareTransfer(layers=[make_pair()], pooler_size=3, num_proposals=3),
        loss_class_aware=ClassAware(num_classes=K, num_proposals=7),
    )
    teacher = make_teacher()
    checkpoint = str(folder / "teacher.pth")
    return Distiller(
        student=make_student(), teacher=teacher, teacher_checkpoint=checkpoint, objectives=objectives, **options
    ).train()


def batches(folder, steps=4, **options):
    """Batches of the seeded training loader: the same images and flips at every call."""
    np.random.seed(0)
    mapper = make_mapper(is_train=True, sizes=[16], teacher_sizes=[SIZE], **options)
    loader = iter(
        build_train_loader(
            "cached", mapper=mapper, total_batch_size=3, proposals=str(folder / "proposals.arrow"), num_workers=0
        )
    )
    return [next(loader) for _ in range(steps)]


def losses_and_gradients(distiller, batch):
    losses = distiller(batch)
    sum(losses.values()).backward()
    return {**losses, **{name: p.grad for name, p in distiller.named_parameters()}}


def filled(folder, **options):
    distiller = make_distiller(folder, use_cache=True, cache=make_cache(folder, **options))
    distiller.fill_cache()
    return distiller


def compare_with_uncached(folder, cached):
    """Compare losses and gradients with and without the cache; return the (image_id, flip) seen; crops too."""
    plain, seen = make_distiller(folder), set()
    for batch, uncached in zip(batches(folder, teacher_cached=True, **CROPS), batches(folder, **CROPS)):
        assert [(x["image_id"], x["geometry"]) for x in batch] == [(x["image_id"], x["geometry"]) for x in uncached]
        assert "image" not in batch[0]["teacher"] and "image" in uncached[0]["teacher"]
        seen |= {(x["image_id"], x["geometry"]) for x in batch}
        found, expected = losses_and_gradients(cached, batch), losses_and_gradients(plain, uncached)
        for name, value in expected.items():  # features are in half precision (11 bits), also in terms that cancel
            torch.testing.assert_close(found[name], value, rtol=2e-3, atol=5e-4 * value.abs().max().item())
    return seen


def test_losses_and_gradients_equal_those_without_the_cache(folder, monkeypatch):
    cached = filled(folder)
    monkeypatch.setattr(cached.teacher, "compute_outputs", None)  # the teacher does not run any more
    seen = {geometry for _, geometry in compare_with_uncached(folder, cached)}
    assert {geometry.flip for geometry in seen} == {False, True} and len({geometry.window for geometry in seen}) > 4


def test_logits_are_read_as_written(folder):
    distiller = filled(folder)
    (batch,) = batches(folder, steps=1)
    views = [x["teacher"] for x in batch]
    expected = [distiller.teacher.compute_outputs([view]) for view in views]
    found = distiller.cache.read(views, [], torch.device("cpu"))
    for i, output in enumerate(expected):  # another batch size: the last bits may differ
        torch.testing.assert_close(found.cls_logits[i], output.cls_logits[0], rtol=1e-5, atol=1e-6)
        torch.testing.assert_close(found.det_logits[i], output.det_logits[0], rtol=1e-5, atol=1e-6)
    assert found.features == {}
    counts = [min(3 + int(view["image_id"]), 7) for view in views]
    assert [len(x) for x in found.det_logits] == [len(x) for x in found.boxes] == counts and len(set(counts)) > 1


def test_it_is_written_once_and_resumed_after_a_kill(folder, monkeypatch):
    """The two of three batches written before the kill are not computed again."""
    distiller = make_distiller(folder, use_cache=True, cache=make_cache(folder))
    compute_outputs, seen = distiller.teacher.compute_outputs, []

    def count(views, images):
        seen.append(len(views))
        if len(seen) == 4:  # one view for the shapes, then two batches
            raise KeyboardInterrupt
        return compute_outputs(views, images)

    monkeypatch.setattr(distiller.teacher, "compute_outputs", count)
    with pytest.raises(KeyboardInterrupt):
        distiller.fill_cache()
    assert seen == [1, 2, 2, 2]
    again = make_distiller(folder, use_cache=True, cache=make_cache(folder))
    seen.clear()

    def compute(views, images):
        seen.append(len(views))
        return compute_outputs(views, images)

    monkeypatch.setattr(again.teacher, "compute_outputs", compute)
    again.fill_cache()
    assert seen == [2]
    again.fill_cache()
    assert seen == [2]


def test_maps_are_added_to_the_logits_of_another_stage(folder):
    cache = make_cache(folder)
    teacher = filled(folder, name="cache").teacher
    assert not (folder / "cache" / "conv1.npy").exists()
    cache.fill([teacher], ["conv1"])
    assert np.load(folder / "cache" / "conv1.npy").shape == (IMAGES, 4, SIZE, SIZE)
    assert np.load(folder / "cache" / "conv2.npy").dtype == np.float16


def test_the_cache_of_another_teacher_is_an_error(folder):
    filled(folder)
    torch.save({"model": make_teacher().state_dict()}, folder / "teacher.pth")
    with pytest.raises(
        StaleCacheError,
        match="cache: built with another teacher \\(key.json\\). Delete the folder, which",
    ):
        filled(folder)


@pytest.mark.parametrize(
    ("change", "what"), [("scale", "pooling"), ("fast", "fast"), ("side", "side"), ("proposals", "number of proposals")]
)
def test_other_settings_are_an_error_that_names_them(folder, change, what):
    filled(folder)
    cache, teacher = make_cache(folder), make_distiller(folder).teacher
    if change == "scale":
        teacher.score_scale = 4.0
    else:
        values = {"fast": ("fast_decode", True), "side": ("teacher_sizes", [40]), "proposals": ("num_proposals", 9)}
        setattr(cache.mapper, *values[change])
    with pytest.raises(StaleCacheError, match=f"another {what} "):
        cache.fill([teacher], [])


def test_ranks_skip_no_row_in_any_order(folder, monkeypatch):
    """The second of two ranks lists missing rows after the first has written its own."""
    teacher = make_distiller(folder).teacher
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    monkeypatch.setattr(comm, "synchronize", lambda: None)
    for rank in (0, 1):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        make_cache(folder).fill([teacher], ["conv2"])
        written = np.load(folder / "cache" / "logits.checksums.npy")[:, 0] != 0
        assert written[::2].all() and (written[1::2] == (rank == 1)).all()


def test_too_little_disk_space_is_an_error_before_anything_is_written(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="use_cache=False"):
        filled(folder)
    assert not (folder / "cache" / "logits.npy").exists()


def test_reading_an_empty_cache_is_an_error(folder):
    distiller = make_distiller(folder, use_cache=True, cache=make_cache(folder))
    (batch,) = batches(folder, steps=1, teacher_cached=True)
    with pytest.raises(RuntimeError, match="Distiller.fill_cache"):
        distiller(batch)


def test_other_proposals_are_an_error_that_names_the_image(folder):
    distiller = filled(folder)
    write_proposals(folder / "proposals.arrow", seed=1)
    (batch,) = batches(folder, steps=1, teacher_cached=True)
    with pytest.raises(StaleCacheError, match="image '[0-5]', from another file, with different proposals"):
        distiller(batch)


def test_several_sizes_of_the_teacher_are_an_error(folder):
    with pytest.raises(ValueError, match="one size"):
        filled(folder, sizes=[SIZE, 40])


def test_an_unreadable_image_is_skipped(folder):
    (folder / "2.png").write_bytes(b"not an image")
    distiller = filled(folder)
    rows = np.flatnonzero(np.load(folder / "cache" / "logits.checksums.npy")[:, 0] == 0)
    assert rows.tolist() == [2]
    assert {image for image, _ in compare_with_uncached(folder, distiller)} == {"0", "1", "3", "4", "5"}


@pytest.fixture
def reserved(monkeypatch):
    """Reserved bytes by file name, one (first, last + 1) per call."""
    found, reserve = {}, os.posix_fallocate

    def posix_fallocate(descriptor, first, size):
        name = os.path.basename(os.readlink(f"/proc/self/fd/{descriptor}")).split(".")[0]
        found.setdefault(name, []).append((first, first + size))
        reserve(descriptor, first, size)

    monkeypatch.setattr(os, "posix_fallocate", posix_fallocate)
    return found


def test_disk_space_is_reserved_for_missing_rows_only(folder, reserved, monkeypatch):
    """A row is 2 x 7 x 3 float32 in logits and 6 x 16 x 16 float16 in conv2; NumPy's header is 128 bytes."""
    write_missing = TeacherCache._write_missing
    monkeypatch.setattr(TeacherCache, "_write_missing", lambda *_: None)
    filled(folder)
    assert reserved == {name: [(128, 128 + IMAGES * size)] for name, size in {"logits": 168, "conv2": 3072}.items()}
    monkeypatch.setattr(TeacherCache, "_write_missing", write_missing)
    pixels = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(bytes(len(pixels)))
    filled(folder)  # all but image 2
    reserved.clear()
    filled(folder)
    assert reserved["conv2"] == [(128 + 2 * 3072, 128 + 3 * 3072)]
    (folder / "2.png").write_bytes(pixels)
    filled(folder)
    reserved.clear()
    filled(folder)
    assert reserved == {}


@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_is_an_error_that_names_the_required_space(folder, monkeypatch, old):
    """The disk is filled after the check; ``old``: the files exist, without a row."""
    if old:
        with monkeypatch.context() as patch:
            patch.setattr(TeacherCache, "_write_missing", lambda *_: None)
            filled(folder)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    before = sorted(path.name for path in (folder / "cache").glob("*"))
    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="cache needs 1,008 bytes.*distiller.cache.folder .*or .*use_cache=False"):
        filled(folder)  # 6 rows of 168 bytes
    after = sorted(path.name for path in (folder / "cache").glob("*"))
    assert after == before if old else after == ["key.json", "lock"]


def write_image(folder, i, size=(40, 60), seed=100):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Image.fromarray(pixels).save(folder / f"{i}.png")


def test_temporary_files_of_a_killed_process_are_removed(folder):
    filled(folder)
    leftover = next(folder.rglob("key.json")).with_name("res5.json.0a1b2c3d.tmp")
    leftover.write_text("half")
    filled(folder)
    assert not leftover.exists()


def test_a_photo_that_was_replaced_is_an_error_that_names_the_image(folder):
    """With the same name, size and proposals; the sizes of the files are not compared, only their bytes."""
    distiller = filled(folder)
    write_image(folder, 3)
    batch = [x for batch in batches(folder, steps=6, teacher_cached=True) for x in batch]
    with pytest.raises(StaleCacheError, match="image '3', from another file"):
        distiller([x for x in batch if x["image_id"] == "3"])
    assert torch.isfinite(distiller([x for x in batch if x["image_id"] != "3"])["loss_roi"])


def test_photos_of_other_sizes_are_an_error_before_the_first_step(folder):
    filled(folder)
    for i in range(IMAGES):
        write_image(folder, i, size=(20, 30))
    with pytest.raises(StaleCacheError, match="cache: built with other images .key.json.. Delete the folder"):
        filled(folder)


def test_a_teacher_without_finite_scores_is_an_error_that_names_the_image(folder):
    distiller = make_distiller(folder, use_cache=True, cache=make_cache(folder))
    distiller.teacher.pixel_std.zero_()
    distiller.teacher.cls_branch.bias.fill_(float("nan"))
    for fill in (True, False):
        if not fill:
            distiller.cache = None
        with pytest.raises(ValueError, match="the teacher's scores for image '[0-5]' are not finite .*teacher_check"):
            distiller.fill_cache() if fill else distiller(batches(folder, steps=1)[0])


def overwrite(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def replace_by_folder(path):
    path.unlink()
    path.mkdir()


DAMAGES = {
    "zeroed": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is truncated or not a NumPy array"),
    "zero_rows": (lambda path: overwrite(path, 128, bytes(path.stat().st_size - 128)), "are damaged in row"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "is truncated or not a NumPy array"),
    "header_only": (lambda path: os.truncate(path, 100), "is truncated or not a NumPy array"),
    "other_dtype": (lambda path: np.save(path, np.load(path).astype(np.float64)), "of float64, expected .* of float"),
    "other_shape": (lambda path: np.save(path, np.load(path)[1:]), r"has the shape \(5, .*expected \(6, "),
    "pickle": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "is truncated or not a NumPy array"),
    "archive": (lambda path: path.write_bytes(b"PK\3\4" + bytes(5000)), "is truncated or not a NumPy array"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "folder": (replace_by_folder, "is a folder, pipe or device"),
}


@pytest.mark.parametrize("name", ["logits", "conv2"])
@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it(folder, damage, name):
    filled(folder)
    path = folder / "cache" / f"{name}.npy"
    change, message = DAMAGES[damage]
    change(path)
    with pytest.raises(DamagedCacheError, match=f"cache/{name}.npy .*{message}.*Delete .*cache, which is then comp"):
        use_all(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"teacher": 1}'])
def test_a_damaged_key_is_an_error(folder, content):
    filled(folder)
    (folder / "cache" / "key.json").write_bytes(content)
    with pytest.raises((DamagedCacheError, StaleCacheError), match="key.json.*Delete"):
        filled(folder)


def test_a_file_in_the_place_of_the_cache_is_an_error(folder):
    (folder / "cache").write_text("")
    with pytest.raises(OSError, match="cache is a file, not a folder: delete it or set distiller.cache.folder"):
        filled(folder)


def test_arrays_of_two_maps_or_caches_that_were_exchanged_are_errors(folder):
    """conv2 of another teacher, with its checksums: shape, dtype, images and proposals are the same."""
    filled(folder)
    shutil.copytree(folder / "cache", folder / "other")
    shutil.rmtree(folder / "cache")
    torch.save({"model": make_teacher().state_dict()}, folder / "teacher.pth")
    filled(folder)
    for name in ("conv2.npy", "conv2.checksums.npy"):
        shutil.copy(folder / "other" / name, folder / "cache" / name)
    with pytest.raises(DamagedCacheError, match="conv2.npy or its checksums are damaged in row"):
        use_all(folder)


def use_all(folder):
    """Fill and read every row; return logits and maps by image."""
    cache = make_cache(folder)
    teacher = make_teacher()
    teacher.load_state_dict(torch.load(folder / "teacher.pth", weights_only=True)["model"])
    cache.fill([teacher.eval()], ["conv2"])
    images = build_test_loader("cached", mapper=cache.mapper, proposals=str(folder / "proposals.arrow")).dataset
    views = [{**view, "image_id": str(i)} for i in range(IMAGES) for view in [images[i]["teacher"]]]
    found = cache.read(views, ["conv2"], torch.device("cpu"))
    return dict(
        zip([view["image_id"] for view in views], zip(found.cls_logits, found.det_logits, found.features["conv2"]))
    )


def damage_at_random(folder, seed):
    """Change one file of the cache: a bit, a block of zeros or noise, its length, or exchange it with another."""
    rng = random.Random(seed)
    path, other = rng.sample([*sorted(folder.glob("*.npy")), folder / "key.json"], 2)
    content = bytearray(path.read_bytes())
    first = rng.choice([rng.randrange(len(content)), rng.randrange(128)])
    last = min(len(content), first + rng.choice([4, 64, 1000]))
    kind = rng.choice(["bit", "bit", "zeros", "noise", "cut", "append", "exchange"])
    if kind == "bit":
        content[first % len(content)] ^= 1 << rng.randrange(8)
    elif kind in ("zeros", "noise"):
        content[first:last] = bytes(max(0, last - first)) if kind == "zeros" else rng.randbytes(max(0, last - first))
    elif kind == "cut":
        del content[first:]
    elif kind == "append":
        content += rng.randbytes(100)
    else:
        content, replaced = other.read_bytes(), bytes(content)
        other.write_bytes(replaced)
    path.write_bytes(content)


DAMAGED_CACHES = int(os.environ.get("WSD_DAMAGED_CACHES", 25))


def test_every_random_damage_ends_in_right_values_or_our_error(folder):
    """``WSD_DAMAGED_CACHES=300`` tries as many."""
    expected, ends = use_all(folder), {"right": 0, "error": 0}
    assert len(expected) == IMAGES
    shutil.copytree(folder / "cache", folder / "sound")
    for seed in range(DAMAGED_CACHES):
        shutil.rmtree(folder / "cache")
        shutil.copytree(folder / "sound", folder / "cache")
        damage_at_random(folder / "cache", seed)
        try:
            found = use_all(folder)
        except (DamagedCacheError, StaleCacheError) as error:
            assert str(folder / "cache") in str(error) and "Delete" in str(error) and "\n" not in str(error)
            ends["error"] += 1
            continue
        for key, tensors in expected.items():
            for ours, theirs in zip(found[key], tensors):
                torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-5, msg=f"damage {seed}, {key}")
        ends["right"] += 1
    print(ends)
    assert ends["error"] > ends["right"] > 0
