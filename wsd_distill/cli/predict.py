"""``wsd predict``: labels of photos, by a model folder."""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from ..predicting.run import Options, Summary, TaggerLike, predict, predict_to_file
from ..predicting.sources import open_sources
from ..predicting.writers import FORMATS, Record, find_format, text_writer

DEFAULT_WORKERS = 2


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
    load()  # an error of the model is one of this machine
    return predict_with_ray(load, arguments.source, arguments.column, arguments.out, options, arguments.ray)


def run_here(arguments: argparse.Namespace, options: Options) -> Summary:
    """Predict in this process and write a file, or print."""
    photos = open_sources(arguments.source, arguments.column)
    tagger = load_tagger(arguments.model, arguments.backend)
    form = find_format(arguments.out, arguments.format, tagger.classes, options.with_all)
    if arguments.out is None:
        records = _print_records(predict(tagger, photos, options), form, tagger.classes, options.with_all)
    else:
        settings = get_settings(arguments)
        records = predict_to_file(tagger, photos, arguments.out, form, settings, options, overwrite=arguments.overwrite)
    summary = Summary()
    for record in _show_progress(records, hidden=arguments.out is None):
        summary.add(record)
    return summary


def load_tagger(model: str, backend: str | None = None) -> TaggerLike:
    """Load the model folder; torch is imported only if it runs the network."""
    from ..tagging import Tagger

    return Tagger.load(model, backend)


def get_settings(arguments: argparse.Namespace) -> dict:
    """What the results depend on, besides the photos."""
    return {
        "model": _hash_model(Path(arguments.model), arguments.backend),
        "sources": [arguments.column, *map(os.fspath, arguments.source)],
        "--threshold": arguments.threshold,
        "--all": arguments.all,
    }


def _hash_model(folder: Path, backend: str | None) -> str:
    """Hash ``config.json`` and the weights that the backend reads."""
    from ..tagging.backends import FILES, choose_backend

    digest = hashlib.sha256()
    for name in ("config.json", FILES[backend or choose_backend(folder)]):
        with open(folder / name, "rb") as file:
            for block in iter(partial(file.read, 1 << 20), b""):
                digest.update(block)
    return digest.hexdigest()


def _print_records(records: Iterable[Record], form: str, classes: list[str], with_all: bool) -> Iterator[Record]:
    write = text_writer(sys.stdout, form, classes, with_all)
    for record in records:
        write(record)
        sys.stdout.flush()
        yield record


def _show_progress(records: Iterable[Record], hidden: bool) -> Iterable[Record]:
    from tqdm import tqdm

    return tqdm(records, unit=" photos", disable=hidden or None)  # None: only in a terminal
