"""The argument TAGS of ``wsd train`` and ``wsd check``."""

from __future__ import annotations

TAGS = "file or folder of tags (docs/tags.md), or train=FILE val=FILE test=FILE"


def read_sources(words: list[str]) -> str | dict[str, str]:
    """Return one file or folder, or split -> file.

    Raises:
        ValueError: words that are not split=FILE, or a split twice.
    """
    if len(words) == 1 and not words[0].startswith(("train=", "val=", "test=")):
        return words[0]
    pairs = [word.partition("=") for word in words]
    if not all(file for _, _, file in pairs):
        raise ValueError(f"{' '.join(words)}: give one file of tags, or train=FILE val=FILE test=FILE")
    found = {split: file for split, _, file in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"{' '.join(words)}: a split is given twice: give each once")
    return found
