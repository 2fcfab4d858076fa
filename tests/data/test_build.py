import itertools
import random

import numpy as np
import pytest
import torch
from detectron2.data import DatasetCatalog
from detectron2.utils import comm
from PIL import Image

from wsd_distill.data.build import ResumableSampler, build_test_loader, build_train_loader, get_dataset_dicts
from wsd_distill.data.image import ImageError, ImageFile
from wsd_distill.data.mapper import MultiLabelMapper
from wsd_distill.data.proposal_store import ProposalStoreWriter, StoreMetadata


@pytest.fixture
def dataset(restore_catalogs):
    """Five registered images; image i has the label i % 2."""
    dicts = [{"file_name": f"{i}.jpg", "image_id": i, "labels": [i % 2]} for i in range(5)]
    DatasetCatalog.register("build_five", lambda: dicts)
    return "build_five"


def write_store(path, name, ids=range(5)):
    """Write two boxes per image; the right edge of the first is the image id + 10."""
    with ProposalStoreWriter(path, StoreMetadata(name, "by hand")) as writer:
        for i in ids:
            writer.write(i, np.array([[0, 0, 10 + i, 5], [0, 0, 1, 1]]), np.array([0.5, 0.25]))
    return str(path)


def test_test_loader_yields_each_image_once_with_its_own_proposals(dataset, tmp_path):
    store = write_store(tmp_path / "store.arrow", dataset)
    loader = build_test_loader(dataset, mapper=dict, batch_size=2, proposals=store)
    batches = list(loader)
    assert [len(batch) for batch in batches] == [2, 2, 1]
    for i, record in enumerate(itertools.chain(*batches)):
        assert record["image_id"] == i
        assert record["proposal_boxes"].tolist() == [[0, 0, 10 + i, 5], [0, 0, 1, 1]]
        assert record["proposal_objectness_logits"].tolist() == [0.5, 0.25]


@pytest.mark.parametrize(("count", "ids"), [(2, [0, 2]), (3, [0, 1, 3]), (9, [0, 1, 2, 3, 4])])
def test_subsample_is_evenly_spaced(dataset, count, ids):
    loader = build_test_loader(dataset, mapper=dict, subsample=count)
    assert [record["image_id"] for batch in loader for record in batch] == ids


def test_train_loader_is_infinite_and_yields_every_image_in_each_epoch(dataset, tmp_path):
    store = write_store(tmp_path / "store.arrow", dataset)
    torch.manual_seed(0)
    loader = build_train_loader(dataset, mapper=dict, total_batch_size=5, proposals=store)
    for batch in itertools.islice(loader, 3):
        assert sorted(record["image_id"] for record in batch) == [0, 1, 2, 3, 4]
        assert all(record["proposal_boxes"][0, 2] == 10 + record["image_id"] for record in batch)
    plain = next(iter(build_train_loader(dataset, mapper=dict, total_batch_size=2)))
    assert all(set(record) == {"file_name", "image_id", "labels"} for record in plain)


def draw(record):
    """A mapper that draws random numbers of NumPy and Python."""
    return record["image_id"], np.random.rand(), random.random()


def read(count, **options):
    loader = build_train_loader("build_five", mapper=draw, total_batch_size=2, seed=7, **options)
    return list(itertools.islice(loader, count))


@pytest.mark.parametrize("num_workers", [0, 1, 2])
def test_batches_depend_on_seed_and_position_only(dataset, num_workers):
    whole = read(9)
    np.random.seed(int(torch.randint(1000, ())))  # must not matter
    assert read(9, num_workers=num_workers) == whole
    assert read(5, num_workers=num_workers, start_batch=4) == whole[4:]
    assert len({number for batch in whole for _, number, _ in batch}) == 18


def test_replacements_of_corrupt_images_depend_on_the_position_only(dataset):
    def corrupt(record):
        return make_mapper(1, 3)(record)["image_id"], np.random.rand()

    def read(count, start_batch=0):
        options = {"total_batch_size": 5, "start_batch": start_batch}
        return list(itertools.islice(build_train_loader(dataset, mapper=corrupt, **options), count))

    assert read(3, start_batch=2) == read(5)[2:]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_take_turns_in_a_stream_of_permutations(monkeypatch, world_size):
    monkeypatch.setattr(comm, "get_world_size", lambda: world_size)
    streams = []
    for rank in range(world_size):
        monkeypatch.setattr(comm, "get_rank", lambda rank=rank: rank)
        streams.append(list(itertools.islice(ResumableSampler(5, seed=1, start=3), 12 // world_size)))
    merged = [item for items in zip(*streams) for item in items]
    assert [position for position, _ in merged] == list(range(3, 15))
    indices = [index for _, index in merged]
    assert sorted(indices[2:7]) == sorted(indices[7:12]) == [0, 1, 2, 3, 4]  # positions 5 to 9, and 10 to 14
    assert indices[2:7] != indices[7:12]


def test_a_batch_that_ranks_cannot_share_raises(dataset, monkeypatch):
    monkeypatch.setattr(comm, "get_world_size", lambda: 2)
    with pytest.raises(ValueError, match="5 images of a batch cannot be split over 2 processes: set train.batch_size"):
        build_train_loader(dataset, mapper=dict, total_batch_size=5)


def test_store_of_another_dataset_raises(dataset, tmp_path):
    store = write_store(tmp_path / "store.arrow", "another")
    with pytest.raises(ValueError, match="store.arrow contains proposals for 'another', not for 'build_five'"):
        build_train_loader(dataset, mapper=dict, total_batch_size=1, proposals=store)


def test_image_without_proposals_raises(dataset, tmp_path):
    store = write_store(tmp_path / "store.arrow", dataset, ids=[0, 1, 2, 4])
    with pytest.raises(KeyError, match="no proposals for image '3' in .*store.arrow"):
        build_test_loader(dataset, mapper=dict, proposals=store)


@pytest.mark.parametrize(
    "record, message",
    [
        ({"file_name": "x.jpg", "image_id": 7}, r"image 7 \(x.jpg\) has no key 'labels'"),
        ({"file_name": "x.jpg", "labels": []}, r"image None \(x.jpg\) has no key 'image_id'"),
        ({"image_id": 7, "labels": []}, r"image 7 \(None\) has no key 'file_name'"),
    ],
)
def test_dataset_dict_without_a_required_key_raises(restore_catalogs, record, message):
    DatasetCatalog.register("build_incomplete", lambda: [record])
    with pytest.raises(ValueError, match=f"build_incomplete: {message}"):
        get_dataset_dicts("build_incomplete")


def make_mapper(*corrupt_ids):
    """Return a mapper that cannot read these images."""

    def mapper(record):
        if record["image_id"] in corrupt_ids:
            raise ImageError(record["file_name"], EOFError("the file is empty"))
        return record

    return mapper


def test_training_skips_corrupt_images_and_counts_each_once(dataset, caplog):
    loader = build_train_loader(dataset, mapper=make_mapper(1, 3), total_batch_size=5)
    seen = [record["image_id"] for batch in itertools.islice(loader, 6) for record in batch]
    assert len(seen) == 30 and set(seen) == {0, 2, 4}
    first, second = [record.message for record in caplog.records if "skipped in training" in record.message]
    assert "1 of at most 20 in this process" in first and "2 of at most 20" in second
    for name in ("1.jpg", "3.jpg"):
        assert sum(f": {name} cannot be read as an image" in text for text in (first, second)) == 1


@pytest.mark.parametrize("limit, ids", [(0, [2]), (1, [2, 4]), (20, range(5))])
def test_too_many_corrupt_images_raise(dataset, limit, ids):
    loader = build_train_loader(dataset, mapper=make_mapper(*ids), total_batch_size=5, max_corrupt_images=limit)
    with pytest.raises(ImageError, match=r"\d.jpg cannot be read as an image"):
        list(itertools.islice(loader, 10))


def test_corrupt_image_raises_at_test_time(dataset):
    with pytest.raises(ImageError, match="3.jpg cannot be read as an image"):
        list(build_test_loader(dataset, mapper=make_mapper(3)))


@pytest.fixture
def photos(restore_catalogs, tmp_path):
    """Six registered BMP files, and a store with two boxes for each."""
    dicts = [{"file_name": str(tmp_path / f"{i}.bmp"), "image_id": i, "labels": [i % 2]} for i in range(6)]
    DatasetCatalog.register("build_photos", lambda: dicts)
    with ProposalStoreWriter(tmp_path / "store.arrow", StoreMetadata("build_photos", "by hand")) as writer:
        for i, record in enumerate(dicts):
            Image.new("RGB", (8, 9), (i, i, i)).save(record["file_name"])
            stamp = ImageFile(record["file_name"]).stamp
            writer.write(i, np.array([[0, 0, 8, 5], [0, 0, 1, 1]]), np.array([0.5, 0.25]), stamp)
    return dicts


@pytest.mark.parametrize(
    "size, colour, change",
    [
        ((16, 18), 3, "height 9 before, 18 now; width 8 before, 16 now; size in bytes 270 before, 918 now"),
        ((9, 8), 3, "size in bytes 270 before, 278 now"),
        ((8, 9), 4, "digest"),  # another image of the same size
    ],
)
@pytest.mark.parametrize("build", [build_train_loader, build_test_loader])
def test_a_single_replaced_photo_raises(photos, tmp_path, build, size, colour, change):
    options = {"total_batch_size": 6} if build is build_train_loader else {"batch_size": 6}
    mapper = MultiLabelMapper(is_train=False, num_classes=2, sizes=[8], num_proposals=4)
    options |= {"mapper": mapper, "proposals": str(tmp_path / "store.arrow")}
    assert len(next(iter(build("build_photos", **options)))) == 6
    Image.new("RGB", size, (colour,) * 3).save(photos[3]["file_name"])
    message = r"3\.bmp is not the image that its proposals were computed for \(.*\): create .*--overwrite"
    with pytest.raises(ValueError, match=message) as caught:
        next(iter(build("build_photos", **options)))
    assert not isinstance(caught.value, ImageError)
    assert change.split(";")[-1].strip() in str(caught.value)


def test_a_store_with_scores_of_0_raises(dataset, tmp_path):
    with ProposalStoreWriter(tmp_path / "store.arrow", StoreMetadata(dataset, "by hand")) as writer:
        for i in range(5):
            writer.write(i, np.array([[0, 0, 5, 5]]), np.array([0]))
    with pytest.raises(ValueError, match=r"store\.arrow: all scores are 0, and T-WDet multiplies by them: create it"):
        build_test_loader(dataset, mapper=dict, proposals=str(tmp_path / "store.arrow"))
