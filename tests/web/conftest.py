"""The files of onnxruntime-web, and a browser. Without them tests are skipped, except in CI, where they fail."""

import importlib.util
import shutil

import pytest
from helpers.web_runtime import skip, unpack_runtime

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    return unpack_runtime(tmp_path_factory.mktemp("onnxruntime-web"))


@pytest.fixture(scope="session")
def browser():
    """A browser of Playwright."""
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        skip(f"no browser is installed: {', '.join(BROWSERS)}")
    if importlib.util.find_spec("playwright") is None:
        skip("Playwright is not installed: pip install -e .[dev]")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield started
        started.close()
