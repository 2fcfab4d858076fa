"""Where datasets live."""

from __future__ import annotations

import os


def datasets_root() -> str:
    """``$DETECTRON2_DATASETS``, or ``datasets`` where that is not set, as in Detectron2."""
    return os.path.expanduser(os.environ.get("DETECTRON2_DATASETS", "datasets"))
