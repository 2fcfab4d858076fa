import pytest
from detectron2.data import DatasetCatalog

from wsd_distill.data.build import build_test_loader, get_dataset_dicts


@pytest.fixture
def dataset():
    """Five images, the last of them without labels."""
    records = [{"file_name": f"{i}.png", "image_id": i, "labels": [i]} for i in range(5)]
    del records[4]["labels"]
    DatasetCatalog.register("build_test", lambda: records)
    yield "build_test"
    DatasetCatalog.remove("build_test")


def test_the_first_images(dataset):
    assert [record["image_id"] for record in get_dataset_dicts(dataset, first=3)] == [0, 1, 2]


def test_an_image_without_labels_is_named(dataset):
    with pytest.raises(ValueError, match=r"build_test: image 4 \(4.png\) has no key 'labels'"):
        get_dataset_dicts(dataset)


def test_every_image_once_in_batches():
    loader = build_test_loader([{"image_id": i} for i in range(5)], mapper=lambda x: x["image_id"] * 10, batch_size=2)
    assert list(loader) == [[0, 10], [20, 30], [40]]
