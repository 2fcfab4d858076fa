import copy
import importlib
import os
import subprocess
import sys
import types

import numpy as np
import pytest
import torch
from helpers.running import ENVIRONMENT
from PIL import Image

from wsd_distill import compat

without_extension = pytest.mark.skipif(compat._has_extension(), reason="this Detectron2 has its C++ extension")


@without_extension
def test_modules_that_need_the_extension_can_be_imported():
    for name in ("layers", "evaluation.fast_eval_api", "model_zoo", "data.transforms", "projects.point_rend"):
        if importlib.util.find_spec("detectron2." + name.split(".")[0]):
            importlib.import_module("detectron2." + name)


@without_extension
def test_functions_of_the_extension_raise_when_called():
    from detectron2 import _C
    from detectron2.layers import ROIAlignRotated, nms_rotated
    from detectron2.structures import RotatedBoxes, pairwise_iou_rotated

    boxes = torch.tensor([[5.0, 5, 4, 4, 30]])
    uses = {
        "nms_rotated": lambda: nms_rotated(boxes, torch.ones(1), 0.5),
        "box_iou_rotated": lambda: pairwise_iou_rotated(RotatedBoxes(boxes), RotatedBoxes(boxes)),
        "roi_align_rotated_forward": lambda: ROIAlignRotated((2, 2), 1.0, 0)(
            torch.zeros(1, 1, 8, 8), torch.tensor([[0.0, 5, 5, 4, 4, 30]])
        ),
        "COCOevalAccumulate": lambda: _C.COCOevalAccumulate(),
    }
    for symbol, use in uses.items():
        with pytest.raises(compat.MissingExtensionError, match=f"{symbol} needs .*INSTALL.md"):
            use()


@without_extension
def test_the_fast_coco_evaluation_names_the_alternative():
    from detectron2.evaluation.fast_eval_api import COCOeval_opt
    from pycocotools.coco import COCO

    coco = COCO()
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 5, 5], "area": 25, "iscrowd": 0, "score": 1.0}
    coco.dataset = {"images": [{"id": 1}], "categories": [{"id": 1}], "annotations": [box], "info": {}}
    coco.createIndex()
    with pytest.raises(compat.MissingExtensionError, match="use_fast_impl=False"):
        COCOeval_opt(coco, coco, "bbox").evaluate()


@without_extension
def test_the_replacements_behave_like_modules():
    for module in (sys.modules["detectron2._C"], torch.ops.detectron2):
        assert isinstance(module, types.ModuleType)
        assert not hasattr(module, "__wrapped__") and not hasattr(module, "__path__")
        with pytest.raises(TypeError):
            copy.deepcopy(module)  # as for every module


def test_the_environment_report_works():
    from detectron2.utils.collect_env import collect_env_info

    assert "detectron2" in collect_env_info()


def test_removed_names_of_pillow_and_numpy_are_restored():
    assert Image.LINEAR == Image.BILINEAR
    assert (np.int, np.float, np.str) == (int, float, str)
    assert np.zeros(2, np.bool).dtype == bool and np.array([None], dtype=np.object).dtype == object


def test_pkg_resources_finds_files():
    import pkg_resources

    assert pkg_resources.resource_filename("wsd_distill", "engine/trainer.py").endswith("wsd_distill/engine/trainer.py")


def test_existing_modules_and_names_are_kept(monkeypatch):
    sentinel = types.ModuleType("sentinel")
    for name in ("detectron2._C", "pkg_resources"):
        monkeypatch.setitem(sys.modules, name, sentinel)
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: types.SimpleNamespace(loader=None))
    monkeypatch.setattr(Image, "LINEAR", "unchanged")
    monkeypatch.setattr(np, "int", "unchanged")
    compat.apply()
    assert sys.modules["detectron2._C"] is sys.modules["pkg_resources"] is sentinel
    assert Image.LINEAR == np.int == "unchanged"


def test_a_built_extension_is_detected(monkeypatch, tmp_path):
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path)])
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: spec)
    assert not compat._has_extension()
    (tmp_path / ("_C" + compat.importlib.machinery.EXTENSION_SUFFIXES[0])).touch()
    assert compat._has_extension()


def test_applying_twice_has_no_effect():
    before = sys.modules.get("detectron2._C"), sys.modules.get("pkg_resources"), torch.ops.detectron2
    compat.apply()
    assert before == (sys.modules.get("detectron2._C"), sys.modules.get("pkg_resources"), torch.ops.detectron2)


def test_without_detectron2_the_error_names_install_md(monkeypatch):
    monkeypatch.setattr(compat.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ImportError, match="INSTALL.md"):
        compat.apply()


def run_python(code):
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("line", ["import wsd_distill", "from wsd_distill import Tagger"])
def test_the_runtime_imports_neither_pytorch_nor_detectron2(line):
    code = f"{line}\nimport sys\nprint({{'torch', 'detectron2', 'onnxruntime'}} & set(sys.modules))"
    assert run_python(code) == "set()\n"


@without_extension
def test_importing_detectron2_applies_the_patches_first():
    code = "import wsd_distill, detectron2, numpy\nfrom detectron2 import _C\n"
    code += "print(type(_C).__name__, numpy.int, type(detectron2.__loader__).__name__)"
    assert run_python(code) == "_Extension <class 'int'> SourceFileLoader\n"


def test_detectron2_that_was_imported_before_is_patched_at_once():
    code = "import sys, types\nimport detectron2\nimport wsd_distill, numpy\nprint(numpy.int)"
    assert run_python(code) == "<class 'int'>\n"


def test_importing_a_missing_detectron2_names_install_md():
    code = (
        "import sys, importlib.machinery as m\n"
        "find = m.PathFinder.find_spec\n"
        "m.PathFinder.find_spec = lambda name, *args: None if name == 'detectron2' else find(name, *args)\n"
        "import wsd_distill\n"
        "for name in ('detectron2', 'detectron2.config', 'wsd_distill.modeling'):\n"
        "    try:\n        __import__(name)\n"
        "    except ImportError as error:\n        print(error)\n"
    )
    assert run_python(code) == 3 * f"{compat.MISSING}\n"
