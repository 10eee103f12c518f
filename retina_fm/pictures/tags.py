"""What a photo says of itself beside its pixels: the eye, the patient, the day, the size of a pixel.

Two speak: its file (DICOM tags, a camera's own format), and the row of a table that a user has of it. The row
goes first wherever it says something.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from retina_fm._io.persons import is_blank, is_nobody
from retina_fm.pictures import dicom, vendor
from retina_fm.pictures.sources import expand
from retina_fm.vocabulary import Eye

COLUMNS = ("eye", "patient_id", "acquired")
"""What tables and indexes hold of it, as text."""
GIVEN = (*COLUMNS, "spacing_um")
"""What the dict of a photo may say beside its ``path`` or ``bytes``."""
_RIGHT, _LEFT = frozenset({"right", "od", "r", "re"}), frozenset({"left", "os", "oi", "og", "l", "le"})


class Tags(NamedTuple):
    """What is said of a photo.

    Attributes:
        eye: ``left`` or ``right``; a word of a user's table that is neither stays as it is.
        patient_id: as it is written.
        acquired: ISO 8601, a day or a day with its time.
        spacing_um: micrometres of the retina a pixel, the same both ways.
        eye_source: who said which eye: ``dicom``, ``camera file`` or ``column``.
    """

    eye: str | None = None
    patient_id: str | None = None
    acquired: str | None = None
    spacing_um: float | None = None
    eye_source: str | None = None


NOTHING = Tags()


def eye_of(word: str) -> Eye | None:
    """The eye that a word means: ``right``, ``OD``, ``R``; ``left``, ``OS``, ``OG``, ``L``."""
    plain = word.strip().lower()
    if plain in _RIGHT:
        return "right"
    return "left" if plain in _LEFT else None


def tags_of(photo: Any, content: Any = None) -> Tags:
    """All that is said of a photo: by its row first, then by its file.

    Args:
        photo: in any form; a dict may have ``eye``, ``patient_id``, ``acquired`` and ``spacing_um`` beside
            ``path`` or ``bytes``.
        content: what :func:`retina_fm.pictures.reading.opened` made of it, where it was read already.
    """
    return merged(given_tags(photo), file_tags(photo, content))


def given_tags(photo: Any) -> Tags:
    """What the dict of a photo says, which is what a user's table says."""
    if not isinstance(photo, Mapping):
        return NOTHING
    said = {name: None if is_blank(photo.get(name)) else str(photo[name]).strip() for name in GIVEN}
    eye = said["eye"]
    return Tags(
        eye=eye and (eye_of(eye) or eye),
        patient_id=None if is_nobody(said["patient_id"]) else said["patient_id"],
        acquired=said["acquired"],
        spacing_um=_length(said["spacing_um"]),
        eye_source="column" if eye else None,
    )


def file_tags(photo: Any, content: Any = None) -> Tags:
    """What the file of a photo says; nothing where it is no such file, or cannot be read.

    What is wrong with it is said where its pixels are read.
    """
    within = isinstance(photo, Mapping)
    frame = photo.get("frame") if within else None
    path = photo.get("path") if within else photo
    name = os.fspath(path) if isinstance(path, str | os.PathLike) else ""
    source = photo if content is None else content
    if isinstance(source, Mapping):
        known = (source.get(name) for name in ("bytes", "path", "dataset", "photo"))
        source = next((one for one in known if one is not None), None)
    try:
        if dicom.is_dataset(source) or dicom.is_dicom(source):
            return _from_file(dicom.said_by(source), "dicom")
        if vendor.is_vendor(source, name):
            return _from_file(vendor.said_by(source, name, frame), "camera file")
    except Exception:  # readers raise many kinds on damaged files
        return NOTHING
    return NOTHING


def with_rows(photos: Any, columns: Mapping[str, Sequence[str]]) -> Any:
    """Photos that know what a user's table says of them, a value a photo in each column."""
    if not columns:
        return photos
    rows = (dict(zip(columns, cells, strict=True)) for cells in zip(*columns.values(), strict=True))
    return [{**row, **as_dict(photo)} for photo, row in zip(expand(photos), rows, strict=True)]


def as_dict(photo: Any) -> dict[str, Any]:
    """A photo as a dict, so that more can be said of it."""
    if isinstance(photo, Mapping):
        return dict(photo)
    if isinstance(photo, str | os.PathLike):
        return {"path": os.fspath(photo)}
    return {"photo": photo}


def merged(first: Tags, second: Tags) -> Tags:
    """The first one's word, and the second's where the first says nothing."""
    said = {name: value for name, value in first._asdict().items() if value is not None}
    return second._replace(**said)


def _from_file(said: dicom.Said | vendor.Said, source: str) -> Tags:
    patient = None if is_nobody(said.patient_id) else said.patient_id
    return Tags(said.eye, patient, said.acquired, said.spacing_um, source if said.eye else None)


def _length(text: str | None) -> float | None:
    if text is None or not re.fullmatch(r"\d+(\.\d*)?|\.\d+", text):
        return None
    return float(text) or None
