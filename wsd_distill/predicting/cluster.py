"""Prediction on several machines with Ray Data: read, predict in actors that hold the model, write Parquet."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import pyarrow as pa
import pyarrow.parquet as pq

from ..ray_cluster import connect, ray
from .run import EvidenceLike, Options, Summary, TaggerLike, predict
from .sources import SHARD_SUFFIXES, Photo, check_sources, list_files, open_source, raise_error
from .writers import parquet_schema


def predict_with_ray(
    load_tagger: Callable[[], TaggerLike],
    sources: list[str],
    column: str | None,
    output: str,
    options: Options,
    address: str = "local",
    load_evidence: Callable[[], EvidenceLike] | None = None,
) -> Summary:
    """Predict on a Ray cluster and write a folder of Parquet files, in no particular order.

    Every machine reads the model and the sources by the same paths. A shard is read by one task, and a photo is decoded
    where its actor runs. Ray repeats what a lost machine was doing.

    Args:
        load_tagger: called once in each actor.
        address: of a running cluster; "local" starts one on this machine, for the time of the run.
        load_evidence: called once in each actor; its boxes are added.

    Raises:
        FileExistsError: ``output`` exists.
        ValueError: a source has no photos, or a photo cannot be read and ``options.on_error`` is "fail".
    """
    if os.path.exists(output):
        raise FileExistsError(f"{output} exists: delete it, or give another --out")
    check_sources(sources, column)
    unfinished = f"{os.path.abspath(output)}.ray_parts"  # not the .parts of a run without Ray
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        with connect(address):
            actors = max(1, int(ray.cluster_resources()["CPU"]) - 1)
            paths = [os.path.abspath(path) for path in list_files(sources)]
            blocks = count_blocks(paths, options.batch_size, 2 * (actors + 1))
            files = ray.data.from_items([{"path": path} for path in paths], override_num_blocks=blocks)
            photos = files.flat_map(partial(read_rows, column=column))
            results = photos.map_batches(
                Predictor,
                fn_constructor_args=(load_tagger, replace(options, on_error="skip"), load_evidence),
                batch_size=options.batch_size,
                batch_format="pyarrow",
                compute=ray.data.ActorPoolStrategy(min_size=1, max_size=actors),
            )
            if options.on_error == "fail":
                results = results.map_batches(check_errors, batch_format="pyarrow")
            results.write_parquet(unfinished)
    except ray.exceptions.RayTaskError as error:
        found = re.search(rf"{PhotoError.__name__}: (.*)", str(error))  # Ray passes errors of tasks on as text
        if found is None:
            raise
        raise ValueError(found[1]) from None
    os.rename(unfinished, output)
    return _summarize(output)


def count_blocks(files: list[str], batch_size: int, at_least: int) -> int:
    """Return the number of parts for Ray to split files into: a batch of photos, or a shard, in each.

    Ray's own number for its data, 200 or ``at_least``, is the largest. A few photos in each of 200 parts cost more than
    their labels.
    """
    shards = sum(file.lower().endswith(SHARD_SUFFIXES) for file in files)
    wanted = shards + -(-(len(files) - shards) // batch_size)
    return max(1, min(wanted, max(200, at_least)))


class Predictor:
    """Actor with a model: a batch of rows of :func:`read_rows` -> a table of results."""

    def __init__(
        self,
        load_tagger: Callable[[], TaggerLike],
        options: Options,
        load_evidence: Callable[[], EvidenceLike] | None,
    ):
        self.tagger, self.options = load_tagger(), options
        self.evidence = None if load_evidence is None else load_evidence()
        self.schema = parquet_schema(self.tagger.classes, options.with_all, self.evidence is not None)

    def __call__(self, batch: pa.Table) -> pa.Table:
        records = predict(self.tagger, map(_to_photo, batch.to_pylist()), self.options, self.evidence)
        return pa.Table.from_pylist(list(records), self.schema)


class PhotoError(ValueError):
    """A photo cannot be read."""


def read_rows(item: dict[str, str], column: str | None) -> Iterator[dict]:
    """Yield the photos of a file or shard as rows: ``file``, and one of ``path``, ``bytes`` and ``error``."""
    for photo in open_source(item["path"], column):
        row = {"file": photo.name, "path": "", "bytes": b"", "error": ""}
        try:
            content = photo.load()
        except (ValueError, OSError) as error:
            row["error"] = str(error)
        else:
            row["path" if isinstance(content, str) else "bytes"] = content
        yield row


def check_errors(batch: pa.Table) -> pa.Table:
    """Raise PhotoError at the first photo that could not be read."""
    for error in batch["error"].drop_null().to_pylist():
        raise PhotoError(error)
    return batch


def _to_photo(row: dict) -> Photo:
    if row["error"]:
        return Photo(row["file"], partial(raise_error, row["error"]))
    return Photo(row["file"], partial(os.fspath, row["path"]) if row["path"] else partial(bytes, row["bytes"]))


def _summarize(output: str) -> Summary:
    summary = Summary()
    for name in sorted(os.listdir(output)):
        for error in pq.read_table(os.path.join(output, name), columns=["error"])["error"].to_pylist():
            summary.add({"error": error})
    return summary
