import wsd_distill  # noqa: F401

# isort: split
import itertools

import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def register(restore_catalogs):
    """A function that registers dataset dicts for the test and returns their name."""
    numbers = itertools.count()

    def add(records, classes):
        name = f"evaluation_test_{next(numbers)}"
        DatasetCatalog.register(name, lambda: records)
        MetadataCatalog.get(name).thing_classes = classes
        return name

    return add
