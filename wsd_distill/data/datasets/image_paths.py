"""Paths of images from the names that lists have."""

from __future__ import annotations

import os
import re

_SCHEME = re.compile(r"\s*[A-Za-z][A-Za-z0-9+.-]*://")


def is_remote(path: str) -> bool:
    """Return whether a path is an address (``scheme://``)."""
    return bool(_SCHEME.match(path))


def image_path(
    image_root: str | os.PathLike,
    name: str,
    location: str,
    *,
    allow_remote: bool = False,
    allow_outside: bool = False,
) -> str:
    """Return the normalized path of an image; an address is returned as it is.

    Args:
        image_root: folder that ``name`` is relative to.
        name: as listed in a file.
        location: file and line, for the error.
        allow_remote: ``dataset.allow_remote``: addresses may be read from the network.
        allow_outside: ``dataset.allow_outside``: absolute paths and ``..`` may leave ``image_root``.

    Raises:
        ValueError: ``name`` is not allowed; says which setting allows it.
    """
    path = os.path.join(image_root, name)
    address = next((text for text in (name, path) if is_remote(text)), None)
    if address is not None:
        if not allow_remote:
            raise ValueError(f"{location}: {address!r} would be read from the network: set dataset.allow_remote=True")
        return address.strip()
    if "\0" in path:
        raise ValueError(f"{location}: the file name {name!r} has a zero byte: correct it")
    path, root = os.path.normpath(path), os.path.normpath(image_root)
    if not allow_outside and not _is_inside(path, root):
        text = f"{location}: {name!r} is outside of the image folder {root}"
        raise ValueError(f"{text}: correct it or dataset.image_root, or set dataset.allow_outside=True")
    return path


def _is_inside(path: str, root: str) -> bool:
    path, root = os.path.abspath(path), os.path.abspath(root)
    return path.startswith(root.rstrip(os.sep) + os.sep)
