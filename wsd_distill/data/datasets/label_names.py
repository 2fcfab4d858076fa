"""Checks of the labels that a list of images or a file of classes has."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

SEPARATORS = {"semicolon": ";", "comma": ",", "pipe": "|", "tab": "\t", "space": " "}  # of dataset.separator
_EMPTY_WORDS = {  # in lower case: those that pandas reads as missing, and others
    *("nan", "-nan", "none", "null", "na", "n/a", "<na>", "#na", "#n/a", "#n/a n/a", "nil", "undefined"),
    *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan"),
}
_LIST_SEPARATORS = ",;|\u3001\u060c\u061b"  # in NFKC, which has no full-width comma; the others are Chinese and Arabic
_JOINS = (*SEPARATORS.values(), *_LIST_SEPARATORS, *"/\\+&_.:-", " and ", " or ")
_ANY_JOIN = re.compile(r"(?:[\s,;|/\\+&_.:-]|\b(?:and|or)\b)+")
_LIST_FAULT = "has brackets or quotes around it, like a Python list"
_INVISIBLE = ("Cc", "Cf", "Co", "Cs", "Zl", "Zp", "Zs")  # categories of control characters and white space
_JOINERS = "\u200c\u200d"  # part of words in some scripts
_Form = Literal["NFC", "NFKC"]
_LIST_MARKS = " \t'\"[](){}"
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
    faults = find_label_faults(locations)
    if faults:
        if all(fault.startswith(_LIST_FAULT) for _, fault in faults):
            remedy = "Write the labels of an image without brackets and quotes, as a;b"
        shown = "; ".join(f"{locations[label]}: label {label!r} {fault}" for label, fault in faults[:_FIRST])
        rest = f"; and {len(faults) - _FIRST} more" if len(faults) > _FIRST else ""
        raise ValueError(f"{file}: {len(faults)} of {len(locations)} labels look wrong: {shown}{rest}. {remedy}")


def find_label_faults(locations: Mapping[str, str]) -> list[tuple[str, str]]:
    """Return labels that look wrong (see :func:`check_listed_labels`), and what is wrong with each."""
    faults = [(label, fault) for label in locations if (fault := _listed_fault(label, locations))]
    named = {label for label, _ in faults}
    return faults + [(label, fault) for label, fault in _spelling_faults(locations, "NFKC") if label not in named]


def check_class_names(locations: Mapping[str, str], source: str) -> None:
    """Check classes that the user names; unlike labels in a list they may contain separators or joiners of letters.

    Raises:
        ValueError: a name is empty or has invisible characters, or two differ in case, white space or Unicode form
            alone.
    """
    faults = [(name, fault) for name in locations if (fault := _invisible(name, _JOINERS))]
    for name, fault in [*faults, *_spelling_faults(locations, "NFC")]:
        raise ValueError(f"{source}: {locations[name]}: class {name!r} {fault}: correct it")


def spelling(label: str, form: _Form = "NFKC") -> str:
    """Return a label in lower case and a Unicode form, without white space; NFKC has no full-width letters."""
    return "".join(unicodedata.normalize(form, label).casefold().split())


def split_joined(label: str, classes: Iterable[str]) -> list[str]:
    """Return the classes that a label joins, at one separator or at any; [] if a part is no class."""
    known = {spelling(name): name for name in classes}
    text = label.strip(_LIST_MARKS)
    for parts in (*(text.split(separator) for separator in _JOINS), _ANY_JOIN.split(text)):
        found = [known.get(spelling(part.strip(_LIST_MARKS)), "") for part in parts]
        if len(found) > 1 and all(found):
            return found
    return []


def is_list(label: str) -> bool:
    """Whether a label has brackets or quotes around it."""
    return label[:1] in tuple("[({'\"") or label[-1:] in tuple("]}'\"")


def _listed_fault(label: str, locations: Mapping[str, str]) -> str:
    if fault := _invisible(label):
        return fault
    text = unicodedata.normalize("NFKC", label)
    if text.casefold() in _EMPTY_WORDS or all(unicodedata.category(letter)[0] == "P" for letter in text):
        return "is a word for an empty field"
    if is_list(label):
        words = [word.strip(_LIST_MARKS) for word in text.split(",")]
        return f"{_LIST_FAULT}: write {';'.join(word for word in words if word)}"
    for separator, plain in zip(label, text) if len(label) == len(text) else zip(text, text):
        if plain in _LIST_SEPARATORS:
            return f"contains {separator!r}"
    joined = split_joined(text, (other for other in locations if other != label))
    return f"joins the labels {', '.join(joined)}" if joined else ""


def _invisible(label: str, allowed: str = "") -> str:
    if not label.strip():
        return "is empty"
    for letter in label:
        if letter not in allowed and unicodedata.category(letter) in _INVISIBLE and letter != " ":
            return f"has the invisible character U+{ord(letter):04X}"
    return "" if label == label.strip() else "has white space around it"


def _spelling_faults(locations: Mapping[str, str], form: _Form) -> Iterator[tuple[str, str]]:
    first: dict[str, str] = {}
    for label in locations:
        other = first.setdefault(spelling(label, form), label)
        if other != label:
            yield label, f"differs from {other!r} ({locations[other]}) in case, white space or Unicode form alone"
