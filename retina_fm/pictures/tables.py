"""Tables and their columns, recognised by what they answer to: their libraries are not imported here."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from retina_fm.errors import PictureError

_USUAL = ("image", "photo", "img", "picture")


def is_table(photos: Any) -> bool:
    """Whether this is a data set with columns (``Dataset``, ``IterableDataset`` or a dict of them)."""
    return not isinstance(photos, type) and hasattr(photos, "column_names") and hasattr(photos, "cast_column")


def is_column(photos: Any) -> bool:
    """Whether this is one column of a table: a series of pandas or polars, an array of Arrow."""
    return _library(photos) in ("pandas", "polars", "pyarrow") and not _is_frame(photos)


def refuse_frame(photos: Any) -> None:
    """Refuse a whole table, which would be read by the names of its columns.

    Raises:
        PictureError: it is a data frame or a table of Arrow.
    """
    if _library(photos) in ("pandas", "polars", "pyarrow") and _is_frame(photos):
        names = ", ".join(str(name) for name in list(photos.columns)[:8] if isinstance(name, str))
        raise PictureError(
            f"A {type(photos).__name__} is a whole table; pass its column of photos, such as table['path']"
            f"{f' ({names})' if names else ''}."
        )


def values_of(column: Any) -> Iterator[Any]:
    """The values of a column as Python's own."""
    for value in column:
        yield value.as_py() if hasattr(value, "as_py") else value


def photos_of(table: Any) -> Iterator[Any]:
    """The photos of a data set's one column of pictures, undecoded where they are kept encoded.

    Raises:
        PictureError: no column of pictures, several, or a dictionary of splits.
    """
    if isinstance(table.column_names, dict):
        splits = ", ".join(map(repr, table.column_names))
        raise PictureError(f"This is a dictionary of data sets; choose a split: {splits}.")
    name = _column(table)
    feature = (table.features or {}).get(name)
    kind: Any = type(feature)
    if kind.__name__ == "Image":
        # bytes, not decoded pictures: they are cheap to hand to another process, and keep their EXIF
        table = table.cast_column(name, kind(decode=False))
    for row in table.with_format(None):
        yield row[name]


def _column(table: Any) -> str:
    names = list(table.column_names or [])
    features = table.features or {}
    pictures = [name for name in names if type(features.get(name)).__name__ == "Image"]
    if not pictures:
        pictures = [name for name in names if name.lower() in _USUAL]
    if len(pictures) != 1:
        found = f"has {len(pictures)} columns of pictures ({', '.join(pictures)})" if pictures else "has none"
        raise PictureError(
            f"A data set is read by its one column of pictures; this one {found} among "
            f"{', '.join(names) or 'no columns'}. Pass the column itself: dataset['NAME']."
        )
    return str(pictures[0])


def _library(value: Any) -> str:
    return "" if isinstance(value, type) else type(value).__module__.partition(".")[0]


def _is_frame(value: Any) -> bool:
    return hasattr(value, "columns") and hasattr(value, "shape")
