"""Crop bounds as fundusprep's CSV has them: where the camera's circle lies in each photo, by the photo's id.

The file has the columns ``id``, ``success`` and ``bounds``. ``bounds`` is a Python dictionary as text: ``hw``
(height, width), ``center`` (x, y), ``radius``, ``lines`` (straight edges by name, two points each).
Coordinates there count pixel centres in whole numbers; here pixels have their centres at half-integers.
"""

from __future__ import annotations

import ast
import hashlib
import json
import logging
import math
import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm._io.files import write_bytes
from retina_fm._io.names import as_text
from retina_fm._io.tables import csv_bytes, read_csv
from retina_fm.errors import ConfigError
from retina_fm.pictures.field_of_view import find_field_of_view
from retina_fm.pictures.geometry import Geometry
from retina_fm.pictures.reading import describe, read_picture
from retina_fm.pictures.sources import expand
from retina_fm.pictures.tags import as_dict

logger = logging.getLogger("retina_fm")

_LONGEST = 100_000  # characters of one cell
_UNSAFE = re.compile(r"[/\\\0:]|^\.+")
_NUMPY = re.compile(r"\b(?:np\.|numpy\.)?(?:float|int)\d+\(([^()]*)\)")


class Bounds(NamedTuple):
    """The circle of one photo, in its pixels.

    Attributes:
        height: of the photo; 0 where the file does not say.
        width: of the photo, likewise.
        centre_y: from the top edge.
        centre_x: from the left edge.
        radius: of the circle.
        lines: straight edges as the file has them, for whoever reads it next.
    """

    height: int
    width: int
    centre_y: float
    centre_x: float
    radius: float
    lines: Mapping[str, Any] = {}

    def crop(self, size: int = 1024) -> Geometry:
        """Where fundusprep's square crop of that size lies: brings masks drawn on crops into the photo.

        ``bounds.crop(1024).picture_of(mask)`` is the mask in the photo's own pixels.

        Raises:
            ConfigError: the file does not say how large the photo is.
        """
        if not self.height or not self.width:
            raise ConfigError("These bounds do not say how large their photo is (hw). Write them again.")
        shift = self.radius / size  # fundusprep puts the centre on a pixel's, not between two
        centre_y, centre_x = self.centre_y - shift, self.centre_x - shift
        return Geometry(self.height, self.width, centre_y, centre_x, self.radius, size, margin=0.0)


def bounds_of(photo: Any) -> Bounds | None:
    """The circle that is found in a photo; None where none fits.

    Raises:
        PictureError: it cannot be read.
    """
    picture = read_picture(photo)
    circle = find_field_of_view(picture)
    if circle is None:
        return None
    height, width = picture.shape[:2]
    return Bounds(height, width, circle.centre_y, circle.centre_x, circle.radius)


def write_bounds(path: str | Path, found: Mapping[str, Bounds | None]) -> Path:
    """A CSV of bounds by id, whole or not at all; None is a photo without a circle.

    Raises:
        OSError: it cannot be written.
    """
    rows = [(name, one is not None, {} if one is None else _as_text(one)) for name, one in found.items()]
    write_bytes(Path(path), csv_bytes(["id", "success", "bounds"], rows))
    return Path(path)


def read_bounds(path: str | Path) -> dict[str, Bounds | None]:
    """The bounds of a CSV by id; None where none were found.

    Raises:
        ConfigError: it cannot be read, or is no such table.
    """
    try:
        table = read_csv(Path(path))
    except (OSError, ValueError) as error:
        raise ConfigError(f"The bounds {path} cannot be read ({error}). Give fundusprep's CSV.") from None
    lost = [name for name in ("id", "bounds") if name not in table.columns]
    if lost:
        raise ConfigError(
            f"{path} has no column {lost[0]!r}; it has {', '.join(table.columns) or 'none'}. Bounds have the "
            "columns id, success, bounds."
        )
    found: dict[str, Bounds | None] = {}
    for row, line in zip(table.rows, table.lines, strict=True):
        name = row["id"]
        if name in found:
            raise ConfigError(f"{path}, line {line}: {name!r} is there twice. Keep one row a photo.")
        failed = row.get("success", "True").strip().lower() in ("false", "0")
        found[name] = None if failed else _parsed(row["bounds"], f"{path}, line {line}")
    return found


def with_bounds(photos: Any, bounds: str | Path | Mapping[str, Bounds | None]) -> list[Any]:
    """Photos whose circle is known, to be encoded, measured or predicted by it instead of by our own search.

    Photos whose id has no bounds keep our own; how many is logged.

    Args:
        photos: one or many; the ``id`` of a photo's dict, or its file's name without the ending, is its id.
        bounds: the CSV, or what :func:`read_bounds` made of it.

    Raises:
        ConfigError: the CSV is none, or two photos have the id of one row.
    """
    known = bounds if isinstance(bounds, Mapping) else read_bounds(bounds)
    made, lost = [], 0
    of_id: dict[str, str] = {}
    for photo in expand(photos):
        one = known.get(name := id_of(photo))
        if one is not None and of_id.setdefault(name, describe(photo)) != describe(photo):
            raise ConfigError(
                f"{of_id[name]} and {describe(photo)} have the id {name!r}, and bounds of one would "
                "be used for both. Give a table with the columns id and path."
            )
        lost += one is None
        made.append(photo if one is None else {**as_dict(photo), "bounds": tuple(one[:5])})
    if lost:
        logger.warning("%d of %d photos have no bounds; their circle is searched for.", lost, len(made))
    return made


def id_of(photo: Any) -> str:
    """What tools by id call a photo: its ``id``, or its file's name without the ending, with its frame."""
    if isinstance(photo, Mapping) and photo.get("id"):
        return str(photo["id"])
    path = photo.get("path") if isinstance(photo, Mapping) else photo
    frame = photo.get("frame") if isinstance(photo, Mapping) else None
    stem = Path(os.fspath(path) if isinstance(path, str | os.PathLike) else describe(photo)).stem
    return as_text(stem if frame is None else f"{stem}_{frame}")


def file_name_of(photo: Any) -> str:
    """What a file about a photo is called, without an ending: its id, made a name that lies in one folder."""
    return _UNSAFE.sub("_", id_of(photo))


def ids_of(photos: Iterable[Any]) -> list[str]:
    """The id of each photo.

    Raises:
        ConfigError: two have the same.
    """
    names = [id_of(photo) for photo in photos]
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ConfigError(f"Two photos have the id {name!r}. Give a table with the columns id and path.")
        seen.add(name)
    return names


def digest_of(bounds: str | Path | None) -> str | None:
    """What tells two tables of bounds apart, 16 hex digits."""
    if bounds is None:
        return None
    said = {name: one and list(one[:5]) for name, one in read_bounds(bounds).items()}
    return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:16]


def _as_text(one: Bounds) -> str:
    return repr(
        {
            "hw": (one.height, one.width),
            "center": (float(one.centre_x - 0.5), float(one.centre_y - 0.5)),
            "radius": float(one.radius),
            "lines": dict(one.lines),
        }
    )


def _parsed(text: str, where: str) -> Bounds:
    try:
        if len(text) > _LONGEST:
            raise ValueError("too long")
        plain = _NUMPY.sub(r"\1", text)  # NumPy 2 writes its numbers with their type
        said = ast.literal_eval(plain)
        height, width = (int(value) for value in said.get("hw") or (0, 0))
        x, y = (float(value) for value in said["center"])
        radius = float(said["radius"])
        lines = dict(said.get("lines") or {})
    except (
        ArithmeticError,
        AttributeError,
        KeyError,
        MemoryError,
        RecursionError,
        SyntaxError,
        TypeError,
        ValueError,
    ):
        raise ConfigError(
            f"{where}: {text[:60]!r} are no bounds. They are {{'hw': (height, width), 'center': (x, y), "
            "'radius': r, 'lines': {...}}."
        ) from None
    if not all(map(math.isfinite, (x, y, radius))) or radius <= 0:
        raise ConfigError(f"{where}: a circle of radius {radius} round {x}, {y} is none.")
    return Bounds(height, width, y + 0.5, x + 0.5, radius, lines)
