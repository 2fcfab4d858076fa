"""The loop of a prediction: photos are decoded in threads while the network runs."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import lru_cache, partial
from itertools import chain, islice
from typing import Any, Protocol

import numpy as np

from ..data.image import ImageError, ImageFile
from .parts import Parts
from .sources import Photo
from .writers import Record, write_results

PART_SIZE = 1024  # photos; a run that is killed loses at most as many
SHOWN_ERRORS = 5
DECIMALS = 6  # of probabilities


class TaggerLike(Protocol):
    """What is needed of :class:`wsd_distill.tagging.Tagger`."""

    classes: list[str]
    thresholds: np.ndarray  # (K,)

    def read(self, image: str | bytes) -> np.ndarray: ...  # (S, S, 3) uint8

    def probabilities(self, pixels: np.ndarray) -> np.ndarray: ...  # (N, S, S, 3) uint8 -> (N, K)


class EvidenceLike(Protocol):
    """What is needed of :class:`wsd_distill.evidence.Evidence`."""

    class_names: list[str]

    def __call__(self, image: str | bytes) -> Mapping[str, Sequence[Any]]: ...  # label -> boxes with their scores


@dataclass(frozen=True)
class Options:
    """How photos are predicted.

    Attributes:
        threshold: of every class; None: those of the model.
        batch_size: photos per call of the network.
        workers: threads that decode.
        on_error: "fail" raises at a photo that cannot be read; "skip" writes the error in its row.
        with_all: add the probabilities of all classes.
    """

    threshold: float | None = None
    batch_size: int = 32
    workers: int = 2
    on_error: str = "fail"
    with_all: bool = False

    def __post_init__(self):
        if self.threshold is not None and not 0 <= self.threshold <= 1:
            raise ValueError(f"--threshold {self.threshold:g}: give a probability, 0 to 1")
        for name in ("batch_size", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"--{name.replace('_', '-')} {getattr(self, name)}: give 1 or more")


@dataclass
class Summary:
    """Number of photos, of those that failed, and the first of their errors."""

    photos: int = 0
    failed: int = 0
    errors: list[str] = field(default_factory=list)

    def add(self, record: Record) -> None:
        self.photos += 1
        if record["error"] is not None:
            self.failed += 1
            if len(self.errors) < SHOWN_ERRORS:
                self.errors.append(record["error"])

    def __str__(self) -> str:
        lines = [f"{self.photos} photos, {self.failed} could not be read"]
        more = self.failed - len(self.errors)
        return "\n  ".join(lines + self.errors + ([f"and {more} more: column 'error'"] if more else []))


def predict(
    tagger: TaggerLike, photos: Iterable[Photo], options: Options, evidence: EvidenceLike | None = None
) -> Iterator[Record]:
    """Yield a record (see ``writers``) per photo, in order.

    At most two batches are decoded ahead. A file is read once.

    Args:
        evidence: adds the boxes of the labels; the bytes of two batches are kept for it.

    Raises:
        ValueError: a photo cannot be read, and ``options.on_error`` is "fail".
    """
    thresholds = tagger.thresholds if options.threshold is None else np.full(len(tagger.classes), options.threshold)
    photos = photos if evidence is None else map(_keep_bytes, photos)
    with ThreadPoolExecutor(options.workers) as pool:
        try:
            while_reading = _read_ahead(pool, tagger, iter(photos), 2 * options.batch_size, options.on_error)
            while batch := list(islice(while_reading, options.batch_size)):
                pixels = [read for _, read in batch if isinstance(read, np.ndarray)]
                found = iter(tagger.probabilities(np.stack(pixels)) if pixels else ())
                for photo, read in batch:
                    row = next(found) if isinstance(read, np.ndarray) else None
                    error = read if isinstance(read, str) else None
                    record = _record(photo.name, row, error, tagger.classes, thresholds, options.with_all)
                    yield record if evidence is None else _add_boxes(record, photo, evidence, options.on_error)
        finally:
            pool.shutdown(cancel_futures=True)


def predict_to_file(
    tagger: TaggerLike,
    photos: Iterator[Photo],
    output: str,
    form: str,
    settings: dict,
    options: Options,
    evidence: EvidenceLike | None = None,
    *,
    overwrite: bool = False,
    part_size: int = PART_SIZE,
) -> Iterator[Record]:
    """Write the results of all photos to ``output``, part by part, and yield each record once it is on the disk.

    Parts of a run that was stopped are kept. The file appears at the end, and the parts are removed.

    Args:
        form: a value of ``writers.FORMATS``.
        settings: what the results depend on; parts of other settings raise.
        evidence: as in :func:`predict`.

    Raises:
        ValueError: a photo cannot be read, ``output`` is a folder, or parts are of other photos or settings.
        FileExistsError: ``output`` exists, without parts, and ``overwrite`` is not set.
    """
    parts, count = Parts(output), 0
    if os.path.isdir(output):
        raise ValueError(f"{output} is a folder: give --out the path of a file")
    if os.path.exists(output) and not parts.folder.exists() and not overwrite:
        raise FileExistsError(f"{output} exists: use --overwrite, or another --out")
    with parts.open({**settings, "part_size": part_size}, overwrite=overwrite):
        while (first := next(photos, None)) is not None:
            part = chain([first], islice(photos, part_size - 1))
            kept = parts.read(count)
            if kept is not None:
                _check_names(parts, kept, [photo.name for photo in part])
            yield from parts.write(count, predict(tagger, part, options, evidence)) if kept is None else kept
            count += 1
        parts.check_end(count)
        records = parts.records(count)
        write_results(output, form, records, tagger.classes, options.with_all, evidence is not None)
        parts.remove()


def _read_ahead(pool, tagger: TaggerLike, photos: Iterator[Photo], ahead: int, on_error: str):
    """Yield (photo, pixels or error) of each photo, in order, with ``ahead`` photos submitted."""
    waiting: deque[tuple[Photo, Future]] = deque()
    while True:
        for photo in islice(photos, ahead - len(waiting)):
            waiting.append((photo, pool.submit(_call, tagger.read, photo)))
        if not waiting:
            return
        photo, future = waiting.popleft()
        yield photo, _raise_unless_skipped(future.result(), on_error)


def _keep_bytes(photo: Photo) -> Photo:
    """Return the photo with a ``load`` that reads the file once and then returns the same bytes."""
    return photo._replace(load=lru_cache(maxsize=1)(partial(_read_file, photo.load)))


def _read_file(load: Callable[[], str | bytes]) -> bytes:
    content = load()
    return ImageFile(content).data if isinstance(content, str) else content


def _call(function: Callable[[str | bytes], Any], photo: Photo) -> Any:
    """Return the result for the content of a photo, or a sentence that names it and says what is wrong."""
    try:
        return function(photo.load())
    except ImageError as error:  # may be of bytes, without a name
        cause = error.__cause__
        return str(ImageError(photo.name, cause if isinstance(cause, Exception) else error))
    except Exception as error:  # on broken files, decoders raise anything
        text = str(error) or type(error).__name__
        return text if photo.name in text else f"{photo.name}: {text}"


def _raise_unless_skipped(found: Any, on_error: str) -> Any:
    """Return a result of :func:`_call`; raise ValueError if it is an error and ``on_error`` is "fail"."""
    if isinstance(found, str) and on_error == "fail":
        raise ValueError(f"{found}. --on-error skip goes on without it")
    return found


def _record(name: str, row: np.ndarray | None, error: str | None, classes, thresholds, with_all: bool) -> Record:
    kept = [] if row is None else [k for k in np.argsort(-row, kind="stable") if row[k] >= thresholds[k]]
    values = [] if row is None else [round(value, DECIMALS) for value in row.tolist()]
    record: Record = {"file": name, "labels": [classes[k] for k in kept]}
    record.update(probabilities=[values[k] for k in kept], error=error)
    return {**record, "all": values or None} if with_all else record


def _add_boxes(record: Record, photo: Photo, evidence: EvidenceLike, on_error: str) -> Record:
    """Add the boxes of the record's labels; a photo that has no result then has an error instead of labels."""
    found = _raise_unless_skipped(_call(evidence, photo) if record["labels"] else {}, on_error)
    if isinstance(found, str):
        all_ = {"all": None} if "all" in record else {}
        return {**record, "labels": [], "probabilities": [], "error": found, **all_, "boxes": []}
    names = ("x0", "y0", "x1", "y1")
    boxes = [
        {
            "label": label,
            **{name: round(value, 2) for name, value in zip(names, box["box"])},
            "score": round(box["score"], DECIMALS),
        }
        for label in record["labels"]
        for box in found.get(label, ())
    ]
    return {**record, "boxes": boxes}


def _check_names(parts: Parts, kept: list[Record], names: list[str]) -> None:
    """Check that a part has the photos that the sources have now."""
    before = [record["file"] for record in kept]
    if before != names:
        i = next((i for i, pair in enumerate(zip(before, names)) if pair[0] != pair[1]), min(len(before), len(names)))
        old, new = (repr(found[i]) if i < len(found) else "no photo" for found in (before, names))
        text = f"{parts.folder} was made from other photos ({old} then, {new} now)"
        raise ValueError(f"{text}: {parts.remedy}")
