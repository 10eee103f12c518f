"""Which eye a photo shows: what is said of it, and what is seen in it."""

from __future__ import annotations

import os
import re
from pathlib import PurePath
from typing import Any, NamedTuple

from retina_fm.measuring.reading import Reading
from retina_fm.pictures.tags import Tags, eye_of
from retina_fm.vocabulary import Eye

_FAR_APART = 0.5  # radii of the field: fovea and disc of a 45 degree photo are 0.6 to 0.8 apart
_DISC_ALONE = 0.3  # of sureness: a disc off the middle is nasal in photos centred on the macula alone


class Said(NamedTuple):
    """An eye that was named, and by what: ``column``, ``dicom``, ``camera file`` or ``file name``."""

    eye: Eye
    source: str


class SeenEye(NamedTuple):
    """An eye as the picture shows it, with a confidence of 0.5 (a guess) to 1."""

    eye: Eye
    confidence: float


def said_of(photo: Any, tags: Tags) -> Said | None:
    """The eye that a photo's row of a table, its file or the name of its file states.

    Args:
        photo: in any form.
        tags: of the photo.
    """
    if tags.eye is not None and (eye := eye_of(tags.eye)) is not None:
        return Said(eye, tags.eye_source or "column")
    path = photo.get("path") if isinstance(photo, dict) else photo
    if isinstance(path, str | os.PathLike) and (named := in_name(PurePath(path).stem)) is not None:
        return Said(named, "file name")
    return None


def in_name(stem: str) -> Eye | None:
    """The eye that a file's name states as a word (``left``, ``OD``) or as an L or R after a number."""
    words = re.findall(r"[a-z]+", re.sub(r"(?<=[a-z])(?=[A-Z])", " ", stem).lower())
    # single letters stand for many things; at the end, after a number, they are eyes
    found = {eye_of(word) for word in words if len(word) > 1 and word not in ("re", "le")}
    if last := re.search(r"\d[ _-]?([LlRr])$", stem):
        found.add(eye_of(last[1]))
    found.discard(None)
    return found.pop() if len(found) == 1 else None


def seen_in(reading: Reading) -> SeenEye | None:
    """The eye by where disc and fovea lie: the disc is nasal of the fovea, on the right of a right eye.

    A mirrored photo shows the other eye. Without a fovea, the disc's side of the field decides, with less
    confidence; without a disc nothing is said.
    """
    disc, fovea = reading.disc, reading.fovea
    if disc is None:
        return None
    if fovea is not None:
        apart = (disc.centre[1] - fovea.centre[1]) / reading.radius
        sureness = min(1.0, abs(apart) / _FAR_APART) * min(disc.sureness, min(1.0, 1.3 * fovea.sureness))
    else:
        apart = (disc.centre[1] - reading.view.shape[1] / 2) / reading.radius
        sureness = _DISC_ALONE * min(1.0, abs(apart) / _FAR_APART) * disc.sureness
    return SeenEye("right" if apart > 0 else "left", 0.5 + 0.5 * sureness)
