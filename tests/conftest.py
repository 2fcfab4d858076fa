import wsd_distill.data.datasets  # noqa: F401  (first: it patches Detectron2 0.6, and registers the built-in datasets)

# isort: split
from pathlib import Path

import pytest
import torch
from detectron2.data import DatasetCatalog, MetadataCatalog

from wsd_distill.compat import FOREIGN_WARNINGS
from wsd_distill.data.datasets import catalog


def pytest_configure(config):
    """Hide the warnings that wsd_distill hides: pytest resets the filters of the process for each test."""
    for message, module in FOREIGN_WARNINGS:
        config.addinivalue_line("filterwarnings", f"ignore:{message}::{module}")


@pytest.fixture(autouse=True)
def seeded():
    torch.manual_seed(0)


@pytest.fixture
def no_lock_timeout(monkeypatch):
    """Do not wait for a lock."""
    monkeypatch.setattr("wsd_distill.io.LOCK_TIMEOUT", 0.0)


@pytest.fixture
def load_config():
    """A function: path below configs/ and overrides -> config."""
    from wsd_distill.engine import load_config

    root = Path(__file__).parent.parent / "configs"
    return lambda name, *overrides: load_config(str(root / name), list(overrides))


@pytest.fixture(scope="session")
def ray_home(tmp_path_factory):
    """The home folder for Ray, which keeps a token there: one for all tests, because a process reads it only once."""
    return tmp_path_factory.mktemp("ray_home")


@pytest.fixture
def restore_catalogs():
    """Remove the datasets that a test registers."""
    before = [(registered, set(registered)) for registered in (DatasetCatalog, MetadataCatalog)]
    infos = dict(catalog._INFOS)
    yield
    for registered, names in before:
        for name in set(registered) - names:
            registered.remove(name)
    catalog._INFOS.clear()
    catalog._INFOS.update(infos)
