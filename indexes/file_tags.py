"""What files say of themselves as metadata of an index, beside what their user says, who goes first."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from retina_fm._io.label_tables import known_name
from retina_fm._io.persons import is_blank
from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm.indexes.metadata import PATIENT, Metadata
from retina_fm.indexes.writer import Writer
from retina_fm.pictures.tags import COLUMNS, Tags


class Rows(NamedTuple):
    """Metadata to write: types of its columns, and values in their order by place."""

    kinds: dict[str, str]
    rows: dict[int, tuple[Any, ...]]


def hidden_metadata(metadata: Metadata, pseudonyms: Pseudonyms | None) -> Metadata:
    """Metadata with the patients behind pseudonyms, where there are some; of a column ``Patient ID``, too."""
    ids = {at for at, name in enumerate(metadata.kinds) if known_name(name) == PATIENT}
    if pseudonyms is None or not ids:
        return metadata
    rows = {
        name: tuple(pseudonyms.of(cell) if at in ids else cell for at, cell in enumerate(row))
        for name, row in metadata.rows.items()
    }
    kinds = {name: "TEXT" if at in ids else kind for at, (name, kind) in enumerate(metadata.kinds.items())}
    return Metadata(kinds, rows)


def with_tags(
    metadata: Metadata, said: Mapping[str, Tags], places: Mapping[str, int], writer: Writer
) -> Iterator[Rows]:
    """What to write of pictures: what was given, else what they say, else what is held of them.

    A picture that nothing was given for keeps its other metadata. A column whose values a user keeps in
    another type than text is his alone.

    Args:
        metadata: that was given.
        said: of each picture, by its user's row first.
        places: of the pictures that are to be written.
        writer: of the index.
    """
    held = writer.kinds
    spoken = {name for name in COLUMNS if any(getattr(tags, name) is not None for tags in said.values())}
    own = {name: metadata.kinds.get(name) or held.get(name) or "TEXT" for name in COLUMNS}
    free = [name for name in COLUMNS if own[name] == "TEXT" and (name in spoken or name in held)]
    given, others = Rows({**metadata.kinds, **dict.fromkeys(free, "TEXT")}, {}), Rows(
        {**held, **dict.fromkeys(free, "TEXT")}, {}
    )  # fmt: skip
    for name, place in places.items():
        row = metadata.rows.get(name)
        if row is not None and not free:
            given.rows[place] = row
            continue
        before = writer.described(place)
        values = before if row is None else dict(zip(metadata.kinds, row, strict=True))
        for column in free:
            told = getattr(said[name], column)
            words = (
                (told, before.get(column)) if row is None else (values.get(column), told, before.get(column))
            )
            values[column] = next((word for word in words if not is_blank(word)), None)
        part = others if row is None else given
        part.rows[place] = tuple(values.get(column) for column in part.kinds)
    yield from (part for part in (given, others) if part.rows)
