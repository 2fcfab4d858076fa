"""Tags of photos: read from each format that people have them in, split, and checked."""

from .read import read_tags
from .split import split_tags
from .table import TagTable

__all__ = ["TagTable", "read_tags", "split_tags"]
