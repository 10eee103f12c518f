"""Finding things in a data set's official download, whatever folder it was unpacked into."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from retina_fm._io.tables import parse_csv
from retina_fm.errors import LayoutError

Rows = list[dict[str, str]]
Raw = dict[str, str | Path]
"""A row whose paths are not yet text."""
PICTURES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".gif", ".ppm"})


def one(folder: Path, pattern: str, what: str) -> Path:
    """The one file or folder below ``folder`` that a pattern fits, the shallowest of several.

    Args:
        folder: of the download.
        pattern: for ``Path.rglob``; letters in any case.
        what: it is, for the message.

    Raises:
        LayoutError: there is none.
    """
    found = sorted(_rglob(folder, pattern), key=lambda path: (len(path.parts), str(path)))
    if not found:
        raise LayoutError(f"{folder} has no {pattern} ({what}). Unpack the official download there.")
    return found[0]


def maybe(folder: Path, pattern: str) -> Path | None:
    """As :func:`one`, or None."""
    found = sorted(_rglob(folder, pattern), key=lambda path: (len(path.parts), str(path)))
    return found[0] if found else None


def pictures(folder: Path, *, deep: bool = False) -> list[Path]:
    """Pictures of a folder in natural order.

    Raises:
        LayoutError: there are none, or only packed ones.
    """
    every = folder.rglob("*") if deep else folder.iterdir()
    paths = [p for p in every if p.is_file() and not p.name.startswith(".")]
    found = [p for p in paths if p.suffix.lower() in PICTURES]
    if not found and any(p.suffix == ".gz" for p in paths):
        raise LayoutError(f"The pictures in {folder} are packed. Run there: gunzip *.gz")
    if not found:
        raise LayoutError(f"{folder} holds no pictures. Unpack the official download there.")
    return sorted(found, key=lambda path: _natural(str(path)))


def table(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Rows of a CSV with stripped names and values, UTF-8 or Latin-1."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    rows = parse_csv(text, delimiter=delimiter).rows
    return [{column.strip(): cell.strip() for column, cell in row.items()} for row in rows]


def column(rows: Sequence[dict[str, str]], source: Path, *names: str) -> str:
    """The first of several spellings that a table has.

    Raises:
        LayoutError: it has none of them.
    """
    have = {name.lower(): name for name in (rows[0] if rows else {})}
    for name in names:
        if name.lower() in have:
            return have[name.lower()]
    raise LayoutError(f"{source} has no column {' or '.join(names)}; it has {', '.join(have.values())}.")


def by_stem(folder: Path, *, deep: bool = False) -> dict[str, Path]:
    """Pictures of a folder by lower-case stem."""
    return {path.stem.lower(): path for path in pictures(folder, deep=deep)}


def relative(rows: Iterable[Raw], folder: Path) -> Rows:
    """Rows with their paths written relative to the download."""
    return [
        {k: v.relative_to(folder).as_posix() if isinstance(v, Path) else v for k, v in row.items()}
        for row in rows
    ]


def eye_of(text: str) -> str:
    """``left`` or ``right`` from OD, OS, R, L and whole words; empty where there is none."""
    word = text.strip().lower()
    return {"od": "right", "r": "right", "right": "right", "os": "left", "l": "left", "left": "left"}.get(
        word, ""
    )


def _rglob(folder: Path, pattern: str) -> list[Path]:
    if not folder.is_dir():
        raise LayoutError(f"There is no folder {folder}. Give the folder of the official download.")
    loose = "".join(f"[{c.lower()}{c.upper()}]" if c.isalpha() else c for c in pattern)
    return [path for path in folder.rglob(loose) if "__MACOSX" not in path.parts]


def _natural(text: str) -> list[tuple[int, int, str]]:
    return [(0, int(p), "") if p.isdigit() else (1, 0, p) for p in re.split(r"(\d+)", text) if p]
