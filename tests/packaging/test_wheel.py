"""The wheel outside the checkout: it holds the recipes, tools and pages that ``wsd`` needs."""

import sys

import pytest
from helpers.documents import ROOT
from helpers.wheel import pip, run_outside

PLAN = """
from pathlib import Path
import wsd_distill
from wsd_distill.data.datasets import get_splits
from wsd_distill.engine import load_config
from wsd_distill.pipeline.sources import find_root
from wsd_distill.pipeline.tagger_training import TaggerTraining, write_lists
from wsd_distill.tags import read_tags, split_tags

root, images = find_root(), Path("photos").resolve()
assert root == Path(wsd_distill.__file__).parent / "share", root
cfg = load_config(str(root / "configs" / "efficientnet_lite0" / "student.py"), ["dataset.name=voc5"])
print(get_splits(cfg))
tags = split_tags(read_tags("tags.csv", str(images)), images)
lists = write_lists(tags, images, Path("out/lists").resolve())
small = ["train.student_size=64", "train.teacher_size=64", "proposals.num_proposals=4", "train.init_checkpoint="]
training = TaggerTraining("pets", Path("out").resolve(), lists, images, "efficientnet_lite0", small)
print(training.make_plan(None).describe())
"""


@pytest.fixture(scope="session")
def site(wheel, tmp_path_factory):
    """Folder in which the wheel is installed; it comes before an editable installation of the checkout."""
    folder = tmp_path_factory.mktemp("site")
    pip(sys.executable, "install", "--no-deps", "--target", folder, wheel)
    return folder


@pytest.fixture
def wsd(site, work):
    """A function: arguments of ``wsd``, run in the folder ``work`` -> finished process."""
    return lambda *arguments: run_outside([sys.executable, site / "bin" / "wsd", *arguments], work, site)


def list_files(folder):
    return {str(path.relative_to(folder)) for part in ("configs", "tools") for path in (folder / part).rglob("*.py")}


def test_recipes_and_tools_are_those_of_the_checkout(site):
    found = list_files(site / "wsd_distill" / "share")
    assert found == list_files(ROOT) and "configs/common/train.py" in found


def test_help_and_version(wsd):
    done = wsd("--help")
    assert done.returncode == 0 and "predict" in done.stdout, done.stderr


def test_check_with_its_page(wsd, work):
    done = wsd("check", "tags.csv", "--images", "photos", "--out", "check.html")
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "0 errors, 0 warnings"), done.stderr
    page = (work / "check.html").read_text()
    assert page.count("data:image/jpeg;base64,") == 24 and "<style>" in page


def test_web_page(wsd, work, runtime):
    done = wsd("export", "pets/model", "--format", "web", "--out", "site", "--runtime", runtime)
    assert done.returncode == 0, done.stderr
    pages = {path.name for path in (ROOT / "wsd_distill" / "web" / "page").iterdir()}
    assert pages < {path.name for path in (work / "site").iterdir()} and "index.html" in pages


def test_plan_of_a_training(site, work):
    done = run_outside([sys.executable, "-c", PLAN], work, site)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("['voc5_train', 'voc5_val']\nplan: photos of 64 pixels, 20 epochs;")
    assert "plain fine-tuning" in done.stdout and "in all" in done.stdout
