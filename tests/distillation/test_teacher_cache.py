import errno
import json
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
    DiskFullError,
    Distiller,
    Objectives,
    RoIAwareTransfer,
    StaleCacheError,
    TeacherCache,
    row_file,
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
        for name, value in expected.items():  # maps in 8 bits, also in terms that cancel
            torch.testing.assert_close(found[name], value, rtol=1e-2, atol=5e-3 * value.abs().max().item())
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
    for i, output in enumerate(expected):
        for ours, (theirs,) in ((found.cls_logits, output.cls_logits), (found.det_logits, output.det_logits)):
            padded = torch.nn.functional.pad(theirs, (0, 0, 1, 0))  # 0 is in the range of each class
            half_step = (padded.amax(0) - padded.amin(0)) / 2044
            assert ((ours[i] - theirs).abs() <= half_step + 1e-5).all()
    assert found.features == {}
    counts = [min(3 + int(view["image_id"]), 7) for view in views]
    assert [len(x) for x in found.det_logits] == [len(x) for x in found.boxes] == counts and len(set(counts)) > 1


def test_it_is_written_once_and_resumed_after_a_kill(folder, monkeypatch):
    """The two of three batches written before the kill are not computed again."""
    distiller = make_distiller(folder, use_cache=True, cache=make_cache(folder))
    compute_outputs, seen = distiller.teacher.compute_outputs, []

    def count(views, images):
        seen.append(len(views))
        if len(seen) == 4:  # one batch for the sizes, then two
            raise KeyboardInterrupt
        return compute_outputs(views, images)

    monkeypatch.setattr(distiller.teacher, "compute_outputs", count)
    with pytest.raises(KeyboardInterrupt):
        distiller.fill_cache()
    assert seen == [2, 2, 2, 2]
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
    assert not (folder / "cache" / "conv1.index.npy").exists()
    before = (folder / "cache" / "conv2.0.rows").read_bytes()
    cache.fill([teacher], ["conv1"])
    (batch,) = batches(folder, steps=1)
    found = cache.read([x["teacher"] for x in batch], ["conv1"], torch.device("cpu"))
    assert found.features["conv1"].shape == (3, 4, SIZE, SIZE)
    assert (folder / "cache" / "conv2.0.rows").read_bytes() == before


def test_the_cache_of_another_teacher_is_an_error(folder):
    filled(folder)
    torch.save({"model": make_teacher().state_dict()}, folder / "teacher.pth")
    with pytest.raises(
        StaleCacheError,
        match="cache: built with another teacher \\(key.json\\). Set distiller.cache.folder to another one, or",
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
        index = np.load(folder / "cache" / "logits.index.npy")
        written = index["input"] != 0
        assert written[::2].all() and (written[1::2] == (rank == 1)).all()
        assert index["shard"].tolist() == [0, rank] * 3 and (folder / "cache" / f"logits.{rank}.rows").exists()


def test_too_little_disk_space_is_an_error_before_anything_is_written(folder, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=1000))
    with pytest.raises(OSError, match="use_cache=False"):
        filled(folder)
    assert not (folder / "cache" / "logits.index.npy").exists()


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
    rows = np.flatnonzero(np.load(folder / "cache" / "logits.index.npy")["input"] == 0)
    assert rows.tolist() == [2]
    assert {image for image, _ in compare_with_uncached(folder, distiller)} == {"0", "1", "3", "4", "5"}


def estimates(folder, caplog, **options):
    """Fill, and return the text on the disk space that is needed."""
    caplog.clear()
    with caplog.at_level("INFO", "wsd_distill.distillation.teacher_cache"):
        filled(folder, **options)
    return [record.getMessage() for record in caplog.records if "to write" in record.getMessage()]


def test_the_disk_space_is_estimated_for_missing_rows_only(folder, caplog):
    """The estimate from a batch, and that of the row left from the five that are written."""
    pixels = (folder / "2.png").read_bytes()
    (folder / "2.png").write_bytes(bytes(len(pixels)))
    (text,) = estimates(folder, caplog)
    sizes = {name: np.load(folder / "cache" / f"{name}.index.npy")["size"] for name in ("logits", "conv2")}
    expected = 6 / 5 * sum(size.sum() for size in sizes.values()) / 1e9
    assert float(text.split()[3]) == pytest.approx(expected, rel=0.1) and "GB free on the disk" in text
    (folder / "2.png").write_bytes(pixels)
    (text,) = estimates(folder, caplog)
    assert float(text.split()[3]) == pytest.approx(expected / 6, rel=0.01)
    assert f"logits {sizes['logits'].sum() / 5e3:.1f} kB, conv2 {sizes['conv2'].sum() / 5e3:.1f} kB" in text
    assert estimates(folder, caplog) == []


def test_a_full_disk_is_an_error_and_written_rows_are_kept(folder, monkeypatch):
    """The disk is filled after the check, by the fourth row of logits."""
    append, calls = row_file._append, []

    def full(file, content, path):
        calls.append(path)
        if sum("logits" in str(path) for path in calls) == 4:
            file.write(content[:5])
            file = SimpleNamespace(write=raise_full)
        append(file, content, path)

    def raise_full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(row_file, "_append", full)
        with pytest.raises(DiskFullError, match="logits.0.rows: the disk is full. Free space .*distiller.cache.folder"):
            filled(folder)
    index = np.load(folder / "cache" / "logits.index.npy")
    assert (index["input"] != 0).tolist() == [True] * 3 + [False] * 3
    cached = filled(folder)
    assert (folder / "cache" / "logits.0.rows").read_bytes()[: index["size"].sum()] != b""
    assert (folder / "cache" / "logits.0.rows").stat().st_size == cached.cache._files["logits"].index["size"].sum()
    compare_with_uncached(folder, cached)


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
    with pytest.raises(StaleCacheError, match="cache: built with other images .key.json.. Set distiller.cache.folder"):
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


INDEX_DAMAGES = {
    "zeroed": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "is truncated or not a NumPy array"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size // 2), "is truncated or not a NumPy array"),
    "header_only": (lambda path: os.truncate(path, 100), "is truncated or not a NumPy array"),
    "other_dtype": (lambda path: np.save(path, np.load(path)["offset"]), "of uint64, expected .* of .*input"),
    "other_shape": (lambda path: np.save(path, np.load(path)[1:]), r"has the shape \(5,.*expected \(6,"),
    "pickle": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "is truncated or not a NumPy array"),
    "archive": (lambda path: path.write_bytes(b"PK\3\4" + bytes(5000)), "is truncated or not a NumPy array"),
    "folder": (replace_by_folder, "is a folder, pipe or device"),
}
ROW_DAMAGES = {
    "zeroed": (lambda path: path.write_bytes(bytes(path.stat().st_size)), "or its index is damaged in row"),
    "last_byte": (lambda path: overwrite(path, path.stat().st_size - 1, b"?"), "or its index is damaged in row 5"),
    "truncated": (lambda path: os.truncate(path, path.stat().st_size - 1), "is truncated, or its index is damaged"),
    "missing": (lambda path: path.unlink(), "is missing"),
    "folder": (replace_by_folder, "is a folder, pipe or device"),
}
DAMAGES = [
    (f"{name}.{kind}", *damage)
    for name in ("logits", "conv2")
    for kind, damages in (("index.npy", INDEX_DAMAGES), ("0.rows", ROW_DAMAGES))
    for damage in damages.values()
]


@pytest.mark.parametrize(("name", "change", "message"), DAMAGES)
def test_a_damaged_file_is_an_error_that_names_it(folder, name, change, message):
    filled(folder)
    change(folder / "cache" / name)
    with pytest.raises(DamagedCacheError, match=f"cache/{name},? .*{message}.*Delete .*cache, which is then comp"):
        use_all(folder)


@pytest.mark.parametrize("column", ["content", "shard", "size", "offset"])
def test_a_damaged_entry_of_the_index_is_an_error(folder, column):
    filled(folder)
    path = folder / "cache" / "conv2.index.npy"
    index = np.load(path)
    index[column][3] ^= index[column].dtype.type(2 ** (8 * index[column].itemsize - 1))
    np.save(path, index)
    with pytest.raises(DamagedCacheError, match="conv2.* (is missing|is truncated|or its index is damaged in row 3)"):
        use_all(folder)


def test_bytes_after_the_last_row_are_removed(folder):
    """A process was killed while it wrote a row."""
    expected = filled(folder).cache.folder / "conv2.0.rows"
    content = expected.read_bytes()
    expected.write_bytes(content + b"half a row")
    filled(folder)
    assert expected.read_bytes() == content


def test_the_cache_of_an_older_format_is_an_error(folder):
    filled(folder)
    key = json.loads((folder / "cache" / "key.json").read_text())
    del key["format"]
    (folder / "cache" / "key.json").write_text(json.dumps(key))
    with pytest.raises(StaleCacheError, match="built with another format .key.json.. .* or delete this folder"):
        filled(folder)


@pytest.mark.parametrize("content", [b"", b"{", b"[1]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"teacher": 1}'])
def test_a_damaged_key_is_an_error(folder, content):
    filled(folder)
    (folder / "cache" / "key.json").write_bytes(content)
    with pytest.raises((DamagedCacheError, StaleCacheError), match="key.json.*[Dd]elete"):
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
    for name in ("conv2.0.rows", "conv2.index.npy"):
        shutil.copy(folder / "other" / name, folder / "cache" / name)
    with pytest.raises(DamagedCacheError, match="conv2.0.rows or its index is damaged in row"):
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
    path, other = rng.sample([*sorted(folder.glob("*.npy")), *sorted(folder.glob("*.rows")), folder / "key.json"], 2)
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
            assert str(folder / "cache") in str(error) and "delete" in str(error).lower() and "\n" not in str(error)
            ends["error"] += 1
            continue
        for key, tensors in expected.items():
            for ours, theirs in zip(found[key], tensors):
                torch.testing.assert_close(ours, theirs, rtol=2e-3, atol=1e-5, msg=f"damage {seed}, {key}")
        ends["right"] += 1
    print(ends)
    assert ends["error"] > ends["right"] > 0
