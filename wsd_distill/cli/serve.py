"""Serve a web page that runs a tagger in the browser, with boxes where the teacher is at hand.

    wsd serve pets/model
    wsd serve pets/model --teacher pets/runs/seed0/teacher

The page computes the labels in the browser. With a teacher, photos are sent to this server for their boxes.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from ..compat import has_detectron2
from ..tagging.model_config import ModelConfig
from ..web import BoxFinder, make_server, write_site
from .teacher import find_teacher, load_evidence


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``wsd serve``."""
    parser.add_argument("model", type=Path, help="model folder")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s, this machine)")
    parser.add_argument("--port", type=int, default=8000, help="(default %(default)s)")
    text = "folder of a run of T-WDet (default: the teacher of wsd train, if MODEL is in its folder and it has one)"
    parser.add_argument("--teacher", type=Path, metavar="RUN", help=text)
    parser.add_argument(
        "--runtime", type=Path, metavar="FILE_OR_FOLDER", help="npm package onnxruntime-web, or unpacked"
    )


def run(arguments: argparse.Namespace) -> int:
    """Serve until interrupted."""
    find_boxes = _choose_boxes(arguments.model, arguments.teacher)
    with tempfile.TemporaryDirectory() as folder:
        write_site(arguments.model, folder, runtime=arguments.runtime, with_boxes=find_boxes is not None)
        with make_server(folder, arguments.host, arguments.port, find_boxes) as server:
            print(f"http://{arguments.host}:{server.server_address[1]}/ (Ctrl+C ends it)", flush=True)
            try:
                server.serve_forever()
            except KeyboardInterrupt:
                print()
    return 0


def _choose_boxes(model: Path, teacher: Path | None) -> BoxFinder | None:
    found = teacher or find_teacher(model)
    if found is None:
        return None
    if teacher is None and not has_detectron2():
        print(f"no boxes: the teacher {found} needs Detectron2 and the extra 'train' (INSTALL.md)")
        return None
    find_boxes = load_evidence(found, ModelConfig.read(model).classes, "--teacher")
    print(f"boxes: {found}")
    return find_boxes
