"""Links and images of the documents lead to files, and stay in docs/ on pages of the site."""

import re

import pytest
from helpers.documents import DOCUMENTS, ROOT


def slug(heading):
    """The anchor that GitHub and MkDocs give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.strip().lower()).replace(" ", "-")


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links(document):
    path = ROOT / document
    for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", path.read_text(), flags=re.S)):
        if target.startswith("https://"):
            continue
        file, _, anchor = target.partition("#")
        found = path.parent / file if file else path
        assert found.is_file(), f"{document}: {target} is missing"
        assert document.split("/")[0] != "docs" or (ROOT / "docs") in found.resolve().parents, (
            f"{target} is outside docs/"
        )
        if anchor:
            assert anchor in map(slug, re.findall(r"^#+ (.*)", found.read_text(), flags=re.M)), f"{document}: {target}"


def test_paths_of_the_repository():
    """Pages of the site name files outside docs/ by their path."""
    paths = r"`((?:docs|datasets|tests|tools|benchmarks|wsd_distill|configs)/[\w/]+\.(?:py|md|json|yaml|sh))`"
    for document in DOCUMENTS:
        for name in re.findall(paths, (ROOT / document).read_text()):
            assert (ROOT / name).is_file(), f"{document}: {name} is missing"
