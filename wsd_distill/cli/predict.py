"""Write the labels of photos, by a model folder.

    wsd predict pets/model photos/new.jpg
    wsd predict pets/model photos/ 'shards/{000..099}.tar' more.parquet --out tags.parquet --on-error skip

Without --out, labels are printed. Started again after an interruption, it goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path

from ..predicting.run import Options, Summary, TaggerLike, predict, predict_to_file
from ..predicting.sources import open_sources
from ..predicting.writers import FORMATS, Record, find_format, text_writer
from .teacher import find_teacher, load_evidence

DEFAULT_WORKERS = 2
TEACHER_FILES = ("config.yaml", "model_final.pth")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of ``wsd predict``."""
    parser.add_argument("model", help="model folder")
    parser.add_argument(
        "source",
        nargs="+",
        help="photos, folders, globs, 'shards/{000..099}.tar', or Parquet files with a column of paths or bytes",
    )
    parser.add_argument("--out", metavar="FILE", help=f"{', '.join(FORMATS)}; without it, JSON lines are printed")
    parser.add_argument("--format", choices=list(FORMATS.values()), help="format of the output, instead of its suffix")
    parser.add_argument("--threshold", type=float, help="probability from which a label counts, instead of the tuned")
    parser.add_argument("--all", action="store_true", help="add the probabilities of all classes")
    boxes = "add T-WDet's boxes of the labels, by the folder of its run (default: the teacher of MODEL's wsd train)"
    parser.add_argument("--boxes", nargs="?", const="", metavar="RUN", help=boxes)
    parser.add_argument("--on-error", choices=("fail", "skip"), default="fail", help="a photo that cannot be read")
    parser.add_argument("--overwrite", action="store_true", help="replace the output and start again")
    parser.add_argument("--batch-size", type=int, default=32, help="photos per call of the network (%(default)s)")
    parser.add_argument("--workers", type=int, default=DEFAULT_WORKERS, help="threads that decode (%(default)s)")
    parser.add_argument("--column", help="column of Parquet files with the photos")
    parser.add_argument("--ray", nargs="?", const="local", metavar="ADDRESS", help="run on a Ray cluster; alone: here")
    parser.add_argument("--backend", choices=("onnx", "int8", "torch"), help="default: ONNX Runtime if it is installed")


def run(arguments: argparse.Namespace) -> int:
    """Predict; return 1 if photos were skipped, else 0.

    Raises:
        ValueError, FileNotFoundError, FileExistsError, RuntimeError: an error of the user, in one sentence.
    """
    options = Options(
        threshold=arguments.threshold,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        on_error=arguments.on_error,
        with_all=arguments.all,
    )
    summary = run_on_ray(arguments, options) if arguments.ray else run_here(arguments, options)
    if summary.failed or arguments.out is not None:
        print(summary, file=sys.stderr)
    return 1 if summary.failed else 0


def run_on_ray(arguments: argparse.Namespace, options: Options) -> Summary:
    """Predict on a Ray cluster and write a folder of Parquet files."""
    if arguments.out is None or arguments.format not in (None, "parquet") or os.path.splitext(arguments.out)[1]:
        raise ValueError("--ray writes a folder of Parquet files: give --out a path without a suffix")
    from ..predicting.cluster import predict_with_ray

    model = os.path.abspath(arguments.model)
    load = partial(load_tagger, model, arguments.backend)
    tagger = load()  # an error of the model is one of this machine
    teacher = choose_teacher(arguments)
    load_boxes = None if teacher is None else partial(load_evidence, os.path.abspath(teacher), tagger.classes)
    if load_boxes is not None:
        load_boxes()
    sources = (arguments.source, arguments.column, arguments.out)
    return predict_with_ray(load, *sources, options, arguments.ray, load_boxes)


def run_here(arguments: argparse.Namespace, options: Options) -> Summary:
    """Predict in this process and write a file, or print."""
    photos = open_sources(arguments.source, arguments.column)
    tagger = load_tagger(arguments.model, arguments.backend)
    teacher = choose_teacher(arguments)
    columns = (tagger.classes, options.with_all, teacher is not None)
    form = find_format(arguments.out, arguments.format, *columns)
    evidence = None if teacher is None else load_evidence(teacher, tagger.classes)
    if arguments.out is None:
        write = text_writer(sys.stdout, form, *columns)
        records = _print_records(predict(tagger, photos, options, evidence), write)
    else:
        settings = get_settings(arguments, teacher)
        records = predict_to_file(
            tagger, photos, arguments.out, form, settings, options, evidence, overwrite=arguments.overwrite
        )
    summary = Summary()
    for record in _show_progress(records, hidden=arguments.out is None):
        summary.add(record)
    return summary


def load_tagger(model: str, backend: str | None = None) -> TaggerLike:
    """Load the model folder; torch is imported only if it runs the network."""
    from ..tagging import Tagger

    return Tagger.load(model, backend)


def choose_teacher(arguments: argparse.Namespace) -> Path | None:
    """Return the run of T-WDet that ``--boxes`` names, or the teacher beside the model; None without ``--boxes``."""
    if arguments.boxes is None:
        return None
    if arguments.boxes:
        return Path(arguments.boxes)
    teacher = find_teacher(arguments.model)
    if teacher is None:
        text = f"--boxes: {arguments.model} has no teacher beside it (runs/seed0/teacher of wsd train)"
        raise FileNotFoundError(f"{text}: give the run of T-WDet, --boxes RUN")
    return teacher


def get_settings(arguments: argparse.Namespace, teacher: Path | None = None) -> dict:
    """What the results depend on, besides the photos."""
    boxes = {} if teacher is None else {"--boxes": _hash(*(teacher / name for name in TEACHER_FILES))}
    return {
        **boxes,
        "model": _hash_model(Path(arguments.model), arguments.backend),
        "sources": [arguments.column, *map(os.fspath, arguments.source)],
        "--threshold": arguments.threshold,
        "--all": arguments.all,
    }


def _hash_model(folder: Path, backend: str | None) -> str:
    """Hash ``config.json`` and the weights that the backend reads."""
    from ..tagging.backends import FILES, choose_backend

    return _hash(folder / "config.json", folder / FILES[backend or choose_backend(folder)])


def _hash(*files: Path) -> str:
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            for block in iter(partial(file.read, 1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _print_records(records: Iterable[Record], write: Callable[[Record], object]) -> Iterator[Record]:
    for record in records:
        write(record)
        sys.stdout.flush()
        yield record


def _show_progress(records: Iterable[Record], hidden: bool) -> Iterable[Record]:
    from tqdm import tqdm

    return tqdm(records, unit=" photos", disable=hidden or None)  # None: only in a terminal
