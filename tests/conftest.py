import wsd_distill.data.datasets  # noqa: F401  (first: it mends Detectron2 0.6, and registers what ``forget`` leaves)

# isort: split
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.compat import FOREIGN_WARNINGS


def pytest_configure(config):
    """Hide the warnings that wsd_distill hides: pytest resets the filters of the process for each test."""
    for message, module in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}::{module}")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def no_lock_timeout(monkeypatch):
    """A lock that another has is refused at once."""
    monkeypatch.setattr("wsd_distill.io.LOCK_TIMEOUT", 0.0)


@pytest.fixture
def load_config():
    """A function: path below configs/ and overrides -> LazyConfig."""
    from detectron2.config import LazyConfig

    from wsd_distill.engine import apply_overrides

    root = Path(__file__).parent.parent / "configs"
    return lambda name, *overrides: apply_overrides(LazyConfig.load(str(root / name)), list(overrides))


@pytest.fixture
def restore_catalogs():
    """Datasets that the test registers are gone after it."""
    before = [(catalog, set(catalog)) for catalog in (DatasetCatalog, MetadataCatalog)]
    yield
    for catalog, names in before:
        for name in set(catalog) - names:
            catalog.remove(name)
