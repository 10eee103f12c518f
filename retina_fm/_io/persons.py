"""Who is who in a column of patients: blanks are nobody, and one person's id may have several spellings."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Any

_BLANK = frozenset({"", "na", "n/a", "#n/a", "<na>", "nan", "nat", "null", "unknown", "?"})
_NOBODY = frozenset({"none", "nil", "unk", "-", "--"})  # as a grade, "none" is one
_DIGITS_APART = "\0"


def is_blank(value: Any) -> bool:
    """Whether a cell says nothing: None, NaN, no letters, or a word such as ``NA`` or ``unknown``."""
    # pandas' NA is neither equal nor unequal to itself; it is known by name, so that pandas is not needed
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str):
        return _plain(value).strip() in _BLANK
    return bool(value != value)


def is_nobody(value: Any) -> bool:
    """Whether an id names no person: a blank, or a word such as ``none``."""
    return is_blank(value) or (isinstance(value, str) and _plain(value).strip() in _NOBODY)


def persons(ids: Iterable[Any]) -> list[str | None]:
    """The person behind each id: the first way in which the id was written, or None for nobody.

    Ids are one person's where they differ in case, leading zeros, ``.0`` at the end, composed or decomposed
    accents, full-width or zero-width letters, spaces, dashes and underscores. Between digits a dash separates
    numbers: ``1-01`` and ``10-1`` are two; ``101`` is the one of them that is there alone.
    """
    given = [None if is_nobody(value) else str(value) for value in ids]
    keys = {way: _key(way) for way in dict.fromkeys(given) if way is not None}
    same = _joined({key: _solid(way) for way, key in keys.items()})
    first: dict[str, str] = {}
    person = {way: first.setdefault(same.get(key, key), way) for way, key in keys.items()}
    return [None if way is None else person[way] for way in given]


def spellings(ids: Sequence[Any]) -> dict[str, list[str]]:
    """Persons whose id is written in more than one way, with all of these in the order of the table."""
    found: dict[str, list[str]] = {}
    for value, person in zip(ids, persons(ids), strict=True):
        if person is not None and str(value) not in found.setdefault(person, []):
            found[person].append(str(value))
    return {person: ways for person, ways in found.items() if len(ways) > 1}


def spelling(patient_id: str) -> str:
    """The one way in which an id is written whose spellings differ in what never tells two persons apart."""
    return _key(patient_id).replace(_DIGITS_APART, "-")


def in_words(ways: Sequence[str]) -> str:
    """A person's id for a message: all its spellings, so that one can look for them."""
    return ways[0] if len(ways) == 1 else " = ".join(repr(way) for way in ways)


def _plain(text: str) -> str:
    """Compatible letters, without those that cannot be seen, in one case."""
    if text.isascii():
        return text.casefold()
    seen = "".join(c for c in unicodedata.normalize("NFKC", text) if unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFKC", "".join("-" if unicodedata.category(c) == "Pd" else c for c in seen)
                                 .casefold())  # fmt: skip


def _separated(text: str) -> str:
    whole = re.sub(r"^(\d+)\.0+$", r"\1", _plain(text).strip())
    joined = re.sub(r"[\s_\-]+", "-", whole).strip("-") or whole
    return re.sub(r"(?<=\d)-(?=\d)", _DIGITS_APART, joined).replace("-", "") or whole


def _key(text: str) -> str:
    return _without_zeros(_separated(text))


def _solid(text: str) -> str:
    return _without_zeros(_separated(text).replace(_DIGITS_APART, ""))


def _without_zeros(text: str) -> str:
    return re.sub(r"(?<![\d.,])0+(?=\d)", "", text)


def _joined(solids: dict[str, str]) -> dict[str, str]:
    """Keys of numbers written apart to the key of the one written together, where no other could be meant."""
    apart: dict[str, list[str]] = {}
    for key, solid in solids.items():
        if _DIGITS_APART in key:
            apart.setdefault(solid, []).append(key)
    return {keys[0]: solid for solid, keys in apart.items() if len(keys) == 1 and solid in solids}
