"""The page of ``wsd check``: classes, problems and sample photos, in one file."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np

import wsd_distill

from ..io import atomic_write
from ..report.templates import render_page
from ..report.thumbnails import make_thumbnail
from .findings import TagCheck
from .table import SPLITS, TagTable

MAX_SAMPLES = 24
_MAX_GROUPS, _MAX_IN_GROUP, _MAX_DETAILS, _MAX_CLASSES = 6, 4, 50, 200


def write_page(
    path: str | os.PathLike, table: TagTable, check: TagCheck, images: str | os.PathLike, title: str
) -> None:
    """Write a page that opens from disk and loads nothing.

    Args:
        path: of the HTML file.
        table: photos with tags.
        check: their counts and findings.
        images: folder of the photos.
        title: name of the tags, for the headline.
    """
    files, labels = table.files, _describe_tags(table)

    def photo(row: int) -> dict[str, Any]:
        data = make_thumbnail(os.path.join(images, files[row])) if check.readable[row] else None
        return {"file": files[row], "tags": labels[row], "data": data}

    order = np.argsort(-check.positive, kind="stable")[:_MAX_CLASSES].tolist()
    html = render_page(
        Path(__file__).with_name("page.html"),
        title=title,
        written=datetime.now().strftime("%Y-%m-%d %H:%M"),
        version=wsd_distill.__version__,
        table=table,
        check=check,
        classes=[(table.classes[k], int(check.positive[k]), int(check.unknown[k])) for k in order],
        most=max(1, int(check.positive.max(initial=0))),
        splits={name: table.table["split"].to_pylist().count(name) for name in SPLITS} if table.has_split else {},
        samples=[photo(row) for row in choose_samples(table, check)],
        shown={
            number: [[photo(row) for row in group[:_MAX_IN_GROUP]] for group in finding.groups[:_MAX_GROUPS]]
            for number, finding in enumerate(check.findings)
        },
        max_details=_MAX_DETAILS,
    )
    with atomic_write(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def choose_samples(table: TagTable, check: TagCheck) -> list[int]:
    """Return rows of at most ``MAX_SAMPLES`` readable photos: in turns, the next photo of each class."""
    rows, classes = table.pairs("positive")
    kept = check.readable[rows]
    rows, classes = rows[kept], classes[kept]
    order = np.argsort(classes, kind="stable")
    starts = np.searchsorted(classes[order], np.arange(len(table.classes)))
    turns = np.arange(len(order)) - starts[classes[order]]  # how many photos of the class come before
    chosen = dict.fromkeys(rows[order[np.argsort(turns, kind="stable")]].tolist())
    return list(chosen)[:MAX_SAMPLES]


def _describe_tags(table: TagTable) -> list[str]:
    """Return the tags of each photo as text, unknown ones with a question mark."""
    texts = []
    for positive, unknown in zip(table.table["positive"].to_pylist(), table.table["unknown"].to_pylist()):
        names = [table.classes[k] for k in positive] + [f"?{table.classes[k]}" for k in unknown[:10]]
        texts.append(", ".join(names + ["..."] * (len(unknown) > 10)) or "no tag")
    return texts
