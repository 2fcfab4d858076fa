"""Patches that let Detectron2 0.6 run on a current PyTorch, Pillow, NumPy and setuptools.

``apply`` only adds what is missing. On Detectron2's main branch, built with its C++ extension, that is at most
``pkg_resources``. Nothing else depends on the version of Detectron2.

``install``, called by ``import wsd_distill``, runs it right before the first import of Detectron2: the runtime
(:class:`wsd_distill.Tagger`) needs neither Detectron2 nor PyTorch.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import logging
import os
import sys
import types
import warnings


class MissingExtensionError(NotImplementedError):
    """A function of Detectron2's C++ extension was called, and Detectron2 is installed without it."""


MISSING = (
    "Detectron2 is not installed, and this part of wsd_distill needs it, with the extra 'train' "
    "(pip install wsd_distill[train]): see INSTALL.md."
)


def install() -> None:
    """Apply the patches at once if Detectron2 has been imported, otherwise right before it is."""
    _silence_foreign_warnings()
    if sys.modules.get("detectron2") is not None:
        apply()
    elif not any(isinstance(finder, _Finder) for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder())


class _Finder(importlib.abc.MetaPathFinder):
    """Finds Detectron2 like the other finders, with a loader that applies the patches first."""

    def find_spec(self, name, path=None, target=None):
        if name != "detectron2":
            return None
        others = [finder for finder in sys.meta_path if finder is not self]
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is None:
            return importlib.machinery.ModuleSpec(name, _MissingLoader())
        spec.loader = _PatchingLoader(spec.loader)
        return spec


class _PatchingLoader(importlib.abc.Loader):
    """Applies the patches, then leaves the module to its own loader."""

    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        module.__spec__.loader = module.__loader__ = self.loader  # files of the package are found through it
        apply()
        self.loader.exec_module(module)


class _MissingLoader(importlib.abc.Loader):
    """Raises an ImportError that says what to do."""

    def create_module(self, spec):
        raise ImportError(MISSING, name=spec.name)

    def exec_module(self, module):
        raise NotImplementedError  # no module is created


def has_detectron2() -> bool:
    """Whether Detectron2 is installed; it is not imported."""
    spec = importlib.util.find_spec("detectron2")
    return spec is not None and not isinstance(spec.loader, _MissingLoader)


def apply() -> None:
    """Apply all patches; calling it again has no effect.

    Raises:
        ImportError: Detectron2 is not installed.
    """
    if not has_detectron2():
        raise ImportError(MISSING, name="detectron2")
    _silence_foreign_warnings()
    _patch_extension()
    _patch_pkg_resources()
    _patch_names()


class _Extension(types.ModuleType):
    """Module whose public attributes are functions that raise MissingExtensionError."""

    def __getattr__(self, name: str):
        if name.startswith("__"):
            raise AttributeError(name)

        def missing(*args, **kwargs):
            raise MissingExtensionError(
                f"{self.__name__}.{name} needs Detectron2's C++ extension, and Detectron2 was installed without it. "
                "Build Detectron2 from source (INSTALL.md) for deformable convolution, rotated boxes and the fast COCO "
                "evaluation. For COCO evaluation, COCOEvaluator(..., use_fast_impl=False) gives the same results "
                "without it."
            )

        return missing


def _package_dir(name: str) -> str:
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise ModuleNotFoundError(f"No module named {name!r}", name=name)
    return spec.submodule_search_locations[0]


def _has_extension() -> bool:
    """Whether the package folder has a built extension; importing it would import all of Detectron2."""
    folder = _package_dir("detectron2")
    return any(os.path.isfile(os.path.join(folder, "_C" + suffix)) for suffix in importlib.machinery.EXTENSION_SUFFIXES)


def _patch_extension() -> None:
    if "detectron2._C" in sys.modules or _has_extension():
        return
    import torch

    extension = _Extension("detectron2._C")
    # Called by Detectron2's environment report at the start of each run.
    extension.get_compiler_version = extension.get_cuda_version = lambda: "none: Detectron2 has no C++ extension"
    extension.has_cuda = lambda: False
    sys.modules["detectron2._C"] = extension
    torch.ops.detectron2 = _Extension("torch.ops.detectron2")


def _patch_pkg_resources() -> None:
    if importlib.util.find_spec("pkg_resources") is not None:
        return

    def resource_filename(package: str, resource: str) -> str:
        return os.path.join(_package_dir(package), *resource.split("/"))

    module = types.ModuleType("pkg_resources", "The part of setuptools' former module that Detectron2 uses.")
    module.__spec__ = importlib.machinery.ModuleSpec("pkg_resources", None)
    module.resource_filename = resource_filename
    sys.modules["pkg_resources"] = module


def _patch_names() -> None:
    """Restore names that Pillow and NumPy have removed."""
    import numpy as np
    from PIL import Image

    if not hasattr(Image, "LINEAR"):
        Image.LINEAR = Image.BILINEAR
    for name, builtin in {"int": int, "float": float, "str": str, "bool": bool, "object": object}.items():
        if name not in vars(np):
            setattr(np, name, builtin)


# Start of the message and module of warnings that Detectron2 and fvcore cause on a current PyTorch.
FOREIGN_WARNINGS = [
    (r"`torch\.jit\.script` is (deprecated|not supported)", r"torch\.jit\."),
    (r"torch\.meshgrid", r"torch\.functional$"),
    (r"TypedStorage is deprecated", r"detectron2\.utils\.comm$"),
    (r"`torch\.cuda\.amp\.\w+\(args\.\.\.\)` is deprecated", r"detectron2\.engine\.train_loop$"),
    (r"You are using `torch\.load` with `weights_only=False`", r"(fvcore|detectron2)\."),
    (r"pkg_resources is deprecated as an API", r"detectron2\."),
]


def _silence_foreign_warnings() -> None:
    """Hide warnings that users cannot act on; every process that imports wsd_distill, workers included, does so."""
    for message, module in FOREIGN_WARNINGS:
        warnings.filterwarnings("ignore", message, module=module)
    # PyTorch's note about a CUDA toolkit without a GPU, logged by Detectron2's report of the environment.
    hidden = "No CUDA runtime is found"
    logging.getLogger("torch.utils.cpp_extension").addFilter(lambda record: hidden not in record.getMessage())
