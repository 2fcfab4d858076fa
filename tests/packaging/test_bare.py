"""``pip install .[onnx]`` alone, without PyTorch and Detectron2: what runs, and what names the missing extra."""

import json
import os
import re
import signal
import subprocess
import urllib.request
import venv

import numpy as np
import pytest
from helpers.web_runtime import skip
from helpers.wheel import pip, run_outside

from wsd_distill import Tagger

pytestmark = pytest.mark.slow
ABSENT = "torch torchvision detectron2 fvcore omegaconf scipy sklearn jinja2 onnx safetensors".split()


@pytest.fixture(scope="session")
def bare(wheel, tmp_path_factory):
    """Folder with the programs of a fresh environment, with the wheel and its extra ``onnx``."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder, with_pip=True)
    try:
        pip(folder / "bin" / "python", "install", f"{wheel}[onnx]")
    except subprocess.CalledProcessError as error:
        skip(f"pip cannot install the extra onnx: {error.stderr[-500:]}")
    return folder / "bin"


@pytest.fixture
def wsd(bare, work):
    """A function: arguments of ``wsd``, run in the folder ``work`` -> finished process."""
    return lambda *arguments: run_outside([bare / "wsd", *arguments], work)


def test_nothing_else_is_installed(bare, work):
    code = f"import importlib.util as u\nprint([name for name in {ABSENT} if u.find_spec(name)])"
    assert run_outside([bare / "python", "-c", code], work).stdout == "[]\n"


def test_tagger(bare, work):
    code = "import wsd_distill\nprint(wsd_distill.Tagger.load('pets/model')(['photos/0.jpg', 'photos/1.jpg']))"
    done = run_outside([bare / "python", "-c", code], work)
    expected = Tagger.load(work / "pets/model")([str(work / f"photos/{i}.jpg") for i in range(2)])
    assert done.stdout == f"{expected}\n", done.stderr


def test_predict(wsd, work):
    done = wsd("predict", "pets/model", "photos", "--out", "tags.jsonl", "--all")
    assert (done.returncode, done.stderr) == (0, "24 photos, 0 could not be read\n")
    rows = [json.loads(line) for line in (work / "tags.jsonl").read_text().splitlines()]
    tagger = Tagger.load(work / "pets/model")
    expected = tagger.probabilities(np.stack([tagger.read(work / row["file"]) for row in rows]))
    found = [[row["all"][name] for name in tagger.classes] for row in rows]
    assert found == pytest.approx(expected.round(6), abs=2e-6) and len(found) == 24


def test_web_page(wsd, work, runtime):
    done = wsd("export", "pets/model", "--format", "web", "--out", "site", "--runtime", runtime)
    assert done.returncode == 0 and (work / "site" / "index.html").is_file(), done.stderr


def test_serve_without_the_boxes_of_a_teacher(bare, work, runtime):
    teacher = work / "pets/runs/seed0/teacher"
    teacher.mkdir(parents=True)
    (teacher / "results.json").write_text("{}")
    command = [bare / "wsd", "serve", "pets/model", "--port", "0", "--runtime", runtime]
    environment = {**os.environ, "PYTHONPATH": "", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(command, cwd=work, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert (
                f"no boxes: the teacher {teacher} needs Detectron2 and the extra 'train'" in process.stdout.readline()
            )
            (address,) = re.findall(r"http://\S+", process.stdout.readline())
            with urllib.request.urlopen(f"{address}model.onnx", timeout=20) as answer:
                assert answer.read() == (work / "pets/model/model.onnx").read_bytes()
        finally:
            process.terminate()  # a shell in the background lets its programs ignore SIGINT
    assert process.returncode == -signal.SIGTERM


@pytest.mark.parametrize(
    "command, extra",
    [
        ("check tags.csv --images photos", "train"),
        ("train tags.csv --images photos --out new", "train"),
        ("predict pets/model photos --boxes pets/runs", "train"),
        ("predict pets/model photos --ray --out tags", "cluster"),
        ("export pets --out new", "train"),
        ("audit pets --out suspects.html", "train"),
        ("serve pets/model --teacher pets/runs", "train"),
    ],
)
def test_what_is_missing_is_named(wsd, command, extra):
    done = wsd(*command.split())
    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(rf"wsd \w+: error: .* not installed.*\(?pip install wsd_distill\[{extra}\].*\n", done.stderr)
