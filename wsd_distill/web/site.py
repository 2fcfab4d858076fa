"""Write a static web folder that runs a tagger in the browser."""

from __future__ import annotations

import html
import os
import shutil
from importlib.resources import files
from pathlib import Path
from string import Template

from ..io import check_file, replace_folder
from ..tagging.model_config import CONFIG, ONNX, ModelConfig
from .runtime import HASHES, copy_runtime

PAGE = "index.html"
STATIC = ("style.css", "page.js", "tagger.js", "pixels.js", "jpeg.js")
PARTS = {PAGE, *STATIC, CONFIG, ONNX, *HASHES}


def write_site(
    model: str | os.PathLike, folder: str | os.PathLike, *, runtime: Path | None = None, with_boxes: bool = False
) -> None:
    """Write ``folder``, whole or not at all; an earlier page there is replaced.

    Args:
        model: model folder with ``model.onnx``.
        runtime: tarball or unpacked folder of onnxruntime-web; None: downloaded once by npm.
        with_boxes: the page asks its server, :func:`.make_server`, for boxes.

    Raises:
        FileExistsError: ``folder`` has other files.
        FileNotFoundError, ValueError, RuntimeError: the model folder or the runtime is incomplete; names what to do.
    """
    model = Path(model)
    ModelConfig.read(model)
    if not (model / ONNX).exists():
        raise FileNotFoundError(f"{model} has no {ONNX}, which the page runs: export the model again")
    check_file(model / ONNX)
    with replace_folder(Path(folder), PARTS) as tmp_path:
        for name in (CONFIG, ONNX):
            shutil.copyfile(model / name, tmp_path / name)
        page = files(__package__) / "page"
        for name in STATIC:
            (tmp_path / name).write_bytes((page / name).read_bytes())
        template = Template((page / PAGE).read_text(encoding="utf-8"))
        title = html.escape(find_title(model))
        text = template.substitute(title=title, boxes="yes" if with_boxes else "no")
        (tmp_path / PAGE).write_text(text, encoding="utf-8")
        copy_runtime(tmp_path, runtime)


def find_title(model: Path) -> str:
    """Return the name of the model folder, or of the folder around ``model``, as wsd train names it."""
    path = model.resolve()
    return (path.parent.name if path.name == "model" else path.name) or "Tagger"
