"""Where the recipes and tools are: beside the package in a checkout, inside it in a wheel."""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parents[1]


def find_root() -> Path:
    """Return the folder with ``configs`` and ``tools``.

    Raises:
        FileNotFoundError: the installation lacks them.
    """
    for folder in (_PACKAGE.parent, _PACKAGE / "share"):
        if (folder / "configs" / "common" / "train.py").is_file() and (folder / "tools" / "train_net.py").is_file():
            return folder
    raise FileNotFoundError(
        f"{_PACKAGE} has no recipes: install the package again, from a wheel that setup.py builds or as a checkout"
    )
