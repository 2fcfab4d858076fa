"""The files of onnxruntime-web, and a browser. Without them tests are skipped, except in CI, where they fail."""

import importlib.util
import os
import shutil

import pytest

from wsd_distill.web.runtime import cache_folder, copy_runtime

BROWSERS = ("chromium", "chromium-browser", "google-chrome")


def skip(reason):
    """Skip a test, or fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


@pytest.fixture(scope="session")
def runtime(tmp_path_factory):
    """Folder of the unpacked package, from the user's cache or by npm."""
    folder = tmp_path_factory.mktemp("onnxruntime-web")
    (folder / "dist").mkdir()
    if not cache_folder().exists() and shutil.which("npm") is None:
        skip("npm, which downloads onnxruntime-web, is not installed")
    copy_runtime(folder / "dist")
    return folder


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
