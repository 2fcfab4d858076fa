"""Checks of the labels that a list of images or a file of classes has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping

SEPARATORS = {"semicolon": ";", "comma": ",", "pipe": "|", "tab": "\t", "space": " "}  # of dataset.separator
_EMPTY_WORDS = ("nan", "none", "null", "n/a", "<na>")
_JOINS = re.compile(r"[\s,;|/\\+&_-]+")
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs")  # categories of control characters and white space
_JOINERS = "\u200c\u200d"  # part of words in some scripts
_FIRST = 5  # labels that an error names


def check_listed_labels(locations: Mapping[str, str], file: str, remedy: str) -> None:
    """Check labels that become classes because a list of images has them.

    Args:
        locations: label -> where it is first used ("line 3").
        file: for the error.
        remedy: what to do about labels that are several in one.

    Raises:
        ValueError: a label has a separator, is written like a list or as an empty word, is a join of other labels, is
            another label in other letters or white space, or has invisible characters; names lines and labels.
    """
    faults = [(label, fault) for label in locations if (fault := _listed_fault(label, locations))]
    named = {label for label, _ in faults}
    faults += [(label, fault) for label, fault in _spelling_faults(locations) if label not in named]
    if faults:
        shown = "; ".join(f"{locations[label]}: label {label!r} {fault}" for label, fault in faults[:_FIRST])
        rest = f"; and {len(faults) - _FIRST} more" if len(faults) > _FIRST else ""
        raise ValueError(f"{file}: {len(faults)} of {len(locations)} labels look wrong: {shown}{rest}. {remedy}")


def check_class_names(locations: Mapping[str, str], source: str) -> None:
    """Check classes that the user names; unlike labels in a list they may contain separators or joiners of letters.

    Raises:
        ValueError: a name is empty or has invisible characters, or two differ in case, white space or Unicode form
            alone.
    """
    faults = [(name, fault) for name in locations if (fault := _invisible(name, _JOINERS))]
    for name, fault in [*faults, *_spelling_faults(locations)]:
        raise ValueError(f"{source}: {locations[name]}: class {name!r} {fault}: correct it")


def spelling(label: str) -> str:
    """Return a label in lower case and NFC, without white space."""
    return "".join(unicodedata.normalize("NFC", label).casefold().split())


def split_joined(label: str, classes: Iterable[str]) -> list[str]:
    """Split a label at the separator at which all parts are classes; [] if there is none."""
    known = set(classes)
    for separator in (*SEPARATORS.values(), "/", "+", "&", "_", "-"):
        parts = [part.strip(" \t'\"[](){}") for part in label.split(separator)]
        if len(parts) > 1 and all(part in known for part in parts):
            return parts
    return []


def _listed_fault(label: str, locations: Mapping[str, str]) -> str:
    if fault := _invisible(label):
        return fault
    if label.casefold() in _EMPTY_WORDS:
        return "is a word for an empty field"
    for separator in ",;|":
        if separator in label:
            return f"contains {separator!r}"
    if label[0] in "[({'\"" or label[-1] in "]}'\"":
        return "has brackets or quotes around it, like a Python list"
    parts = _JOINS.split(label)
    if len(parts) > 1 and all(part in locations for part in parts):
        return f"joins the labels {', '.join(parts)}"
    return ""


def _invisible(label: str, allowed: str = "") -> str:
    if not label.strip():
        return "is empty"
    for letter in label:
        if letter not in allowed and unicodedata.category(letter) in _INVISIBLE and letter != " ":
            return f"has the invisible character U+{ord(letter):04X}"
    return "" if label == label.strip() else "has white space around it"


def _spelling_faults(locations: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for label in locations:
        other = first.setdefault(spelling(label), label)
        if other != label:
            yield label, f"differs from {other!r} ({locations[other]}) in case, white space or Unicode form alone"
