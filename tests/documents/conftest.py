import sys

import pytest
from helpers.documents import write_extending_example


@pytest.fixture(scope="module")
def extending(tmp_path_factory):
    """Folder with the files of docs/extending.md, which can be imported; they are unloaded afterwards."""
    folder = tmp_path_factory.mktemp("extending")
    write_extending_example(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        yield folder
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
