"""The files of onnxruntime-web, which tests of the page need. Without them tests are skipped, except in CI."""

import os
import shutil

import pytest

from wsd_distill.web.runtime import cache_folder, copy_runtime


def skip(reason):
    """Skip a test, or fail in CI."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def unpack_runtime(folder):
    """Write the package's files, from the user's cache or by npm; return the folder."""
    (folder / "dist").mkdir()
    if not cache_folder().exists() and shutil.which("npm") is None:
        skip("npm, which downloads onnxruntime-web, is not installed")
    copy_runtime(folder / "dist")
    return folder
