"""Root folder of the datasets."""

from __future__ import annotations

import os


def datasets_root() -> str:
    """Return ``$DETECTRON2_DATASETS``, by default ``datasets``, as Detectron2 does."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))
