"""Match the image names of a proposal file to the images of a dataset."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import PurePath

from ..data.types import DatasetDict
from ..io import IMAGE_SUFFIXES
from .formats.proposal_file import ProposalFile

logger = logging.getLogger(__name__)


def match_images(source: ProposalFile, records: list[DatasetDict]) -> list[str | None]:
    """Find the name of each image in a proposal file.

    Names are compared as they are, else without folder and suffix, else as numbers without leading zeros. A name with
    another parent folder than the image is another image. Another form than the first is used, and logged, only if it
    matches more images and no two names or images become equal; numbers only if every image matches. It is an error if
    it leaves over most names of the file, as of another split with equal numbers, unless names have the images' folder.

    Returns:
        A name per image, or None if the file has no proposals for it.

    Raises:
        ValueError: two images of the dataset have the same name, no image has proposals, or most names are left over.
    """
    found: list[str | None] = [name if (name := source.image_name(r)) in source else None for r in records]
    _check_unique(source, records)
    count, text, target = len(records) - found.count(None), "", ""
    if count < len(records):
        stems, files = [_stem(str(r["image_id"])) for r in records], [_stem(r["file_name"]) for r in records]
        for keys, kind in ((stems, "image_id"), (files, "file_name")):
            other = _match(source, records, keys, _stem)
            if len(records) - other.count(None) > count:
                found, count = other, len(records) - other.count(None)
                text, target = "without folder and suffix", kind
        for keys, kind in ((stems, "image_id"), (files, "file_name")):
            other = _match(source, records, [_number(key) for key in keys], lambda name: _number(_stem(name)))
            if None not in other and count < len(records):
                found, count = other, len(records)
                text, target = "as numbers", kind
    if records and not count:
        names = _examples(f"'{name}'" for name in source)
        spellings = f"{names}, and the dataset has {_examples(_spelling(record) for record in records)}"
        raise ValueError(
            f"{source.path}: no name of an image is in the dataset: the file has {spellings}. Use the file of this "
            "dataset, or write its names as the dataset does"
        )
    if text:
        name, record = next((name, record) for name, record in zip(found, records) if name is not None)
        example = f"{text}: '{name}' -> '{dict(record)[target]}'"
        if 2 * count < len(source) and not all(PurePath(name).parent.name for name in found if name is not None):
            raise ValueError(
                f"{source.path}: {len(source) - count} of its {len(source)} names are not in the dataset, and the "
                f"others are matched only {example}: it seems to be the file of another split; use the file of this "
                "dataset, or write its names as the dataset does"
            )
        logger.warning("%s: names are matched %s", source.path, example)
    return found


def _match(
    source: ProposalFile, records: list[DatasetDict], keys: Sequence[str | None], key_of: Callable[[str], str | None]
) -> list[str | None]:
    """Match images with ``keys`` to names with an equal ``key_of``; no match at all if two images have equal keys."""
    if max(Counter(key for key in keys if key is not None).values(), default=0) > 1:
        return [None] * len(records)
    images = dict(zip(keys, records))
    names: dict[str, list[str]] = {}
    for name in source:
        key = key_of(name)
        if key in images and key is not None and _same_folder(name, images[key]):
            names.setdefault(key, []).append(name)
    if any(len(some) > 1 for some in names.values()):
        return [None] * len(records)
    return [names[key][0] if key in names else None for key in keys]


def _same_folder(name: str, record: DatasetDict) -> bool:
    """Return False if a name has another parent folder than the image."""
    folder = PurePath(name).parent.name
    return not folder or folder in [PurePath(str(record[key])).parent.name for key in ("image_id", "file_name")]


def _stem(name: str) -> str:
    path = PurePath(name)
    return path.stem if path.suffix.lower() in IMAGE_SUFFIXES else path.name


def _number(name: str | None) -> str | None:
    return str(int(name)) if name and name.isascii() and name.isdigit() and len(name) < 20 else None


def _check_unique(source: ProposalFile, records: list[DatasetDict]) -> None:
    seen: dict[str, DatasetDict] = {}
    for record in records:
        name = source.image_name(record)
        other = seen.setdefault(name, record)
        if other is not record:
            files = f"{other['file_name']} and {record['file_name']}"
            raise ValueError(f"two images of the dataset have the name '{name}': {files}")


def _spelling(record: DatasetDict) -> str:
    return f"image id '{record['image_id']}' ({record['file_name']})"


def _examples(spellings: Iterable[str]) -> str:
    some = list(spellings)
    return ", ".join(some[:2]) + (", ..." if len(some) > 2 else "")
