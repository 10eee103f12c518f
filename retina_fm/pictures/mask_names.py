"""Which mask belongs to which photo, by their names: one rule for training and adapters."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Collection, Iterable

_BEFORE = "_-."  # what may follow a photo's name in its mask's: p1_vessels, p1-1, p1.jpg
_AFTER = "_-"  # what may come before it: mask_p1


def owner(mask: str, photos: Collection[str]) -> str | None:
    """The photo that a mask is named after.

    That is the photo of the same name; else the longest name that the mask's goes on from with ``_``, ``-``
    or ``.``; else the longest that it ends with after ``_`` or ``-``. So ``p1_2`` is a mask of ``p1`` only
    where there is no photo ``p1_2``.

    Args:
        mask: the mask's name without its suffix.
        photos: the photos' names likewise; a set, where there are many.
    """
    if mask in photos:
        return mask
    ends = (mask[:place] for place in range(len(mask) - 1, 0, -1) if mask[place] in _BEFORE)
    starts = (mask[place + 1 :] for place in range(1, len(mask) - 1) if mask[place] in _AFTER)
    return next((name for names in (ends, starts) for name in names if name in photos), None)


def masks_by_photo(photos: Iterable[str], masks: Iterable[str]) -> dict[str, list[str]]:
    """Masks of each photo by name, the photo's own name alone where there is one, else all in order.

    Photos without a mask are left out. Composed and decomposed accents are the same.
    """
    names = set(photos)
    spelling: Callable[[str], str] = _spelling
    known = {spelling(name): name for name in names}
    if len(known) < len(names):  # two photos differ in nothing else
        known, spelling = {name: name for name in names}, str
    found: dict[str, list[str]] = {}
    for mask in sorted(masks):
        name = owner(spelling(mask), known)
        if name is not None:
            found.setdefault(known[name], []).append(mask)
    own = {
        name: [mask for mask in of_it if spelling(mask) == spelling(name)] for name, of_it in found.items()
    }
    return {name: [name] if name in own[name] else own[name] or of_it for name, of_it in found.items()}


def _spelling(name: str) -> str:
    """One spelling of names whose accents are letters of their own on one disk and not on another."""
    return unicodedata.normalize("NFC", name)
