"""Pairs of pictures that are the same, or of one eye, as a table and as a page to look at."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from retina_fm._io.files import write_bytes
from retina_fm._io.tables import csv_bytes, inert, inert_path
from retina_fm.errors import OutputError
from retina_fm.indexes.duplicates import Duplicate
from retina_fm.indexes.gallery import ShownPair, save_gallery, save_pair_page
from retina_fm.indexes.hits import Hit, Hits

SHOWN = 300
"""Pairs of a gallery, the surest first; more of them nobody looks at, and a page could not hold."""
_OWN = ("kind", "first", "second", "score", "false_accept")


def pair_row(pair: Duplicate) -> dict[str, Any]:
    """A pair as plain values for JSON."""
    return {"kind": pair.kind, **asdict(pair)}


def write_pairs(pairs: Sequence[Duplicate], path: str | Path) -> Path:
    """A CSV, one row a pair, with the metadata of both as ``first_NAME`` and ``second_NAME``.

    Raises:
        OutputError: it cannot be written.
    """
    names = list(dict.fromkeys(name for p in pairs for name in (*p.first_metadata, *p.second_metadata)))
    columns = [*_OWN, *(f"{which}_{name}" for name in names for which in ("first", "second"))]
    rows = []
    for pair in pairs:
        rate = "" if pair.false_accept is None else f"{pair.false_accept:.1e}"
        row: list[Any] = [
            pair.kind,
            inert_path(pair.first),
            inert_path(pair.second),
            f"{pair.score:.5f}",
            rate,
        ]
        for name in names:
            row += [inert(_text(about.get(name))) for about in (pair.first_metadata, pair.second_metadata)]
        rows.append(row)
    try:
        write_bytes(Path(path), csv_bytes(columns, rows))
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}).") from error
    return Path(path)


def save_pair_gallery(pairs: Sequence[Duplicate], path: str | Path, title: str) -> Path:
    """A page or a sheet with a row a pair; the first 300 pairs, and it says so where there are more."""
    if len(pairs) > SHOWN:
        title = f"{title} (the first {SHOWN} of {len(pairs):,} pairs)"
    if Path(path).suffix.lower() != ".png":
        shown_pairs = [
            ShownPair(p.why, p.first, _lines(p.first, p.first_metadata), p.second,
                      _lines(p.second, p.second_metadata))
            for p in pairs[:SHOWN]
        ]  # fmt: skip
        return save_pair_page(shown_pairs, path, title)
    shown = [
        Hits([Hit(p.second, p.score, 1, p.second_metadata, p.why, p.false_accept)], p.first, p.first,
             p.first_metadata)
        for p in pairs[:SHOWN]
    ]  # fmt: skip
    return save_gallery(shown, path, title=title)


def _lines(path: str, about: Mapping[str, Any]) -> list[str]:
    return [Path(path).name, *(f"{name}: {value}" for name, value in about.items() if _text(value))]


def _text(value: Any) -> str:
    return "" if value is None else str(value)
