import wsd_distill  # noqa: F401

# isort: split
import pytest
from detectron2.data import DatasetCatalog, MetadataCatalog


@pytest.fixture
def forget():
    """Data sets that the test registers are gone after it."""
    before = set(DatasetCatalog.list())
    yield
    for name in set(DatasetCatalog.list()) - before:
        DatasetCatalog.remove(name)
        MetadataCatalog.remove(name)
