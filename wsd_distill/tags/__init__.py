"""Tags of photos: read from each format that people have them in, split, and checked."""

from .decisions import apply_decisions
from .read import read_tags
from .split import split_tags
from .table import TagTable

__all__ = ["TagTable", "apply_decisions", "read_tags", "split_tags"]
