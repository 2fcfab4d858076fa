import sys

import pytest
from helpers.documents import write_extending_example

from wsd_distill.proposals.generators import PROPOSERS


@pytest.fixture(scope="module")
def extending(tmp_path_factory):
    """Folder with the files of docs/extending.md, which can be imported; they are unloaded afterwards."""
    folder = tmp_path_factory.mktemp("extending")
    write_extending_example(folder)
    proposers = dict(PROPOSERS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [str(folder), *sys.path])
        yield folder
    PROPOSERS.clear()
    PROPOSERS.update(proposers)
    for path in folder.glob("*.py"):
        sys.modules.pop(path.stem, None)
