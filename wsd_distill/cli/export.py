"""Write a model folder from a run, an int8 model beside one, or a web page that runs a model folder.

    wsd export output/pets/.../student --out pets/model
    wsd export pets/model --int8 --max-map-drop 0.3
    wsd export pets/model --int8 --calibration val.csv --images photos/
    wsd export pets/model --format web --out site/

A run is the folder that tools/train_net.py has written; the folder gets the thresholds and metrics of its results.
--int8 needs labelled photos, to set the ranges and to measure the loss of mAP: in any format of docs/tags.md,
by default the validation photos of the run, or of the wsd train that has written the model folder.
--format web writes a static folder; npm downloads onnxruntime-web for it, once, or --runtime gives it.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from ..tagging.model_config import CONFIG, INT8, ONNX, ModelConfig


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``wsd export``."""
    parser.add_argument("source", type=Path, metavar="RUN_OR_MODEL", help="folder of a run, or a model folder")
    parser.add_argument("--out", type=Path, metavar="FOLDER", help="model folder to write, from a run, or web folder")
    parser.add_argument("--format", choices=["onnx", "web"], default="onnx", help="(default onnx)")
    parser.add_argument(
        "--runtime", type=Path, metavar="FILE_OR_FOLDER", help="npm package onnxruntime-web, or unpacked"
    )
    parser.add_argument("--int8", action="store_true", help=f"write {INT8} too, or into a model folder")
    parser.add_argument("--calibration", metavar="TAGS", help="labelled photos for --int8 (default: val)")
    parser.add_argument("--images", type=Path, metavar="FOLDER", help="folder of the photos (default: that of TAGS)")
    parser.add_argument("--separator", metavar="MARK", help="what separates labels in one text (default: detected)")
    parser.add_argument(
        "--max-map-drop", type=float, default=0.3, metavar="PERCENT", help="largest loss of mAP by int8 (default 0.3)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Write what the arguments ask for."""
    source, is_model = arguments.source, (arguments.source / CONFIG).exists()
    if not source.is_dir():
        raise FileNotFoundError(f"{source} is not a folder: give the folder of a run or a model folder")
    if arguments.format == "web":
        return _export_web(arguments, is_model)
    if arguments.runtime is not None:
        raise ValueError(f"--runtime {arguments.runtime} is for --format web: add it, or leave --runtime out")
    if is_model and not arguments.int8:
        raise ValueError(f"{source} is a model folder already, with {ONNX}: add --int8 to write {INT8}")
    if is_model and arguments.out is not None:
        raise ValueError(f"--out {arguments.out}: {INT8} is written into {source}, leave --out out")
    if not is_model and arguments.out is None:
        raise ValueError("--out is missing: give the model folder to write")
    if arguments.int8 and is_model and not arguments.calibration:
        arguments.calibration, arguments.images = _find_validation(source)
    _export_onnx(arguments, None if is_model else source, source if is_model else arguments.out)
    return 0


def _export_onnx(arguments: argparse.Namespace, run: Path | None, folder: Path) -> None:
    """Write the model folder of a run, if one is given, and the int8 model, if it is asked for."""
    from ..report.graphs import add_graphs, find_report

    report = find_report(folder) if arguments.int8 else None  # before anything is written
    val = None if run is None else _export_run(run, folder)
    if arguments.int8:
        _quantize(folder, arguments, val)
        if report is not None:
            add_graphs(report, report.parent.name, ModelConfig.read(folder).graphs)


def _export_web(arguments: argparse.Namespace, is_model: bool) -> int:
    from ..web import write_site

    if not is_model:
        raise ValueError(f"{arguments.source} has no {CONFIG}: --format web needs a model folder; export the run first")
    if arguments.int8:
        raise ValueError(f"--int8: the page runs {ONNX}; leave --int8 out")
    if arguments.out is None:
        raise ValueError("--out is missing: give the web folder to write")
    write_site(arguments.source, arguments.out, runtime=arguments.runtime)
    print(f"{arguments.out}: put it on any web server, or try python -m http.server -d {arguments.out}")
    return 0


def _export_run(run: Path, folder: Path) -> str:
    """Write the model folder; return the name of the run's val split."""
    from ..tagging.from_run import read_run, read_samples
    from ..tagging.save import save_model_folder

    cfg, model, config = read_run(run)
    difference = save_model_folder(model, config, folder, samples=read_samples(cfg.dataset.val, config))
    print(
        f"{folder}: {len(config.classes)} classes, probabilities of ONNX Runtime and PyTorch equal to {difference:.1g}"
    )
    return cfg.dataset.val


def _find_validation(model: Path) -> tuple[str, Path]:
    """Return the list of validation photos that wsd train has written beside a model folder, and their folder."""
    lists = model.resolve().parent / "lists"
    val, images = lists / "val.parquet", lists / "images.txt"
    if not (val.exists() and images.exists()):
        text = f"{model} has no validation photos of wsd train beside it"
        raise ValueError(f"--int8 needs --calibration, because {text}: give labelled photos (docs/tags.md)")
    return str(val), Path(images.read_text(encoding="utf-8").removesuffix("\n"))


def _quantize(folder: Path, arguments: argparse.Namespace, val: str | None) -> None:
    from ..tagging.from_run import labelled_photos
    from ..tagging.quantize import quantize
    from ..tags import read_tags

    classes, source = ModelConfig.read(folder).classes, arguments.calibration
    if val is not None and source in (None, "val"):
        photos, labels = labelled_photos(val, len(classes))
    else:
        images = arguments.images or (Path(source) if Path(source).is_dir() else Path(source).parent)
        table = read_tags(source, images, arguments.separator, classes)
        photos, labels = [str(images / file) for file in table.files], table.label_matrix()
    for name, found in quantize(folder, photos, labels, max_map_drop=arguments.max_map_drop).items():
        print(f"{name}: {found}")
