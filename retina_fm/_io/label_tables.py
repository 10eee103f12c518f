"""Tables of labels as people have them: one reader for every door, which says what it understood.

What contradicts itself is refused with its lines; what can be meant in one way only is taken so, and noted.
"""

from __future__ import annotations

import csv
import io
import posixpath
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from retina_fm._io.persons import in_words, is_blank, persons, spellings
from retina_fm.errors import ConfigError, RetinaError

DELIMITERS = ",;\t"
_KNOWN = ("path", "label", "mask", "patient_id", "eye", "acquired", "split", "modality", "use")
_SPLITS = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
_USES = {
    **dict.fromkeys(("yes", "y", "true", "t", "1"), "yes"),
    **dict.fromkeys(("no", "n", "false", "f", "0"), "no"),
}
_SHOWN = 3


@dataclass(frozen=True)
class LabelTable:
    """A table, checked.

    Attributes:
        source: the file.
        columns: their names.
        rows: by column; cells without spaces around them, ``split`` and ``use`` in the project's words.
        lines: of the file, on which each row ends.
        notes: what was taken as something else than it says, in words.
        text: of the file.
    """

    source: Path
    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    lines: list[int]
    notes: list[str] = field(default_factory=list)
    text: str = field(default="", repr=False)


def read_label_table(
    path: str | Path, *, refused: type[RetinaError] = ConfigError, once: bool = True, free: bool = False
) -> LabelTable:
    """Read a CSV in UTF-8, divided by commas, semicolons or tabs.

    Args:
        path: the file.
        refused: the kind of error that it raises.
        once: whether rows that repeat are left out; False refuses them.
        free: columns and values mean what the caller makes of them; rows may repeat.

    Raises:
        refused: it cannot be read; a row has fewer or more cells than the header; two columns share a name; a
            picture has two rows that differ; a part or a use that is none.
    """
    source = Path(path)
    try:
        text = source.read_text(encoding="utf-8-sig")
        found = _cells(text)
    except (OSError, ValueError, csv.Error) as error:
        raise refused(f"{source} cannot be read as CSV ({error}). Give a table in UTF-8.") from None
    header = tuple(name if free else known_name(name) for name in found[0][1]) if found else ()
    twice = [name for name, count in Counter(header).items() if count > 1 and name]
    if twice:
        raise refused(f"{source} has two columns {twice[0]!r}. Keep one, or give the other another name.")
    rows, lines = [], []
    for line, cells in found[1:]:
        if not any(cells):
            continue
        if len(cells) < len(header) or any(cells[len(header) :]):
            raise refused(
                f"{source}, line {line} has {len(cells)} cells, the header has {len(header)}. Complete the "
                "row; a value that holds the separator needs quotes."
            )
        rows.append({name: cell for name, cell in zip(header, cells, strict=False) if name})
        lines.append(line)
    table = LabelTable(source, tuple(name for name in header if name), rows, lines, text=text)
    if free:
        return table
    _in_words_of_ours(table, refused)
    return _without_repeats(table, refused, once) if "path" in header else table


def one_spelling(values: Sequence[str], *, several: bool = False) -> tuple[list[str], list[str]]:
    """Labels with one spelling a class, empty where there is none; and what was written otherwise.

    Labels are one class where they differ in spaces, case, Unicode form, or as numbers are written (``1``,
    ``1.0``, ``01``); the class is called as most rows call it, the first of them where it is a draw.

    Args:
        values: a label a row.
        several: labels are joined by a bar.
    """
    parts = [[p.strip() for p in value.split("|")] if several else [value.strip()] for value in values]
    counts = Counter(part for row in parts for part in row if not is_blank(part))
    ways: dict[tuple[str, object], list[str]] = {}
    for way in counts:
        ways.setdefault(_label_key(way), []).append(way)
    name = {way: max(same, key=counts.__getitem__) for same in ways.values() for way in same}
    notes = [
        f"{way!r} is {name[way]!r} ({counts[way]} row{'s' * (counts[way] > 1)})"
        for way in counts
        if name[way] != way
    ]
    known = [dict.fromkeys(name[part] for part in row if not is_blank(part)) for row in parts]
    return ["|".join(row) for row in known], notes


def understood(
    table: LabelTable,
    column: str,
    values: Iterable[str],
    left_out: Mapping[str, int],
    *,
    notes: Sequence[str] = (),
    numbers: bool = False,
) -> str:
    """What was read, in one line: classes with counts, rows left out and why, patients, what was merged.

    Args:
        table: that was read.
        column: of the labels.
        values: those of the rows that are used.
        left_out: rows that are not, by reason.
        notes: further ones.
        numbers: the values are measurements.
    """
    used = list(values)
    if numbers:
        shown = f"{len(used)} values"
    else:
        counts = Counter(part for value in used for part in value.split("|") if part)
        shown = ", ".join(
            f"{name} ({count})" for name, count in sorted(counts.items(), key=lambda c: _order(c[0]))
        )
    said = [f"{table.source.name}: {column}: {shown or 'nothing'}"]
    out = [f"{count} {reason}" for reason, count in left_out.items() if count]
    if out:
        said.append(f"left out: {', '.join(out)}")
    if "patient_id" in table.columns:
        said.append(patients_in_words([row["patient_id"] for row in table.rows]))
    return "; ".join([*said, *table.notes, *notes])


def patients_in_words(ids: Sequence[str]) -> str:
    """How many patients there are, how many rows name none, and whose ids are written in several ways."""
    found = persons(ids)
    nobody = sum(person is None for person in found)
    said = f"{len(set(found) - {None})} patients"
    if nobody:
        said += f" and {nobody} row{'s' * (nobody > 1)} of nobody known"
    several = list(spellings(ids).values())
    if several:
        said += f", {len(several)} written in several ways ({', '.join(map(in_words, several[:_SHOWN]))})"
    return said


def _cells(text: str) -> list[tuple[int, list[str]]]:
    """Line and stripped cells of each row, blank lines left out."""
    if named := re.match(r"sep=(.)\r?\n", text):  # a spreadsheet's own note
        text = text[named.end() :]
    headers = {d: next(csv.reader([text.partition("\n")[0]], delimiter=d), []) for d in DELIMITERS}
    named_path = [d for d, names in headers.items() if "path" in map(known_name, map(_stripped, names))]
    delimiter = max(named_path or DELIMITERS, key=lambda d: len(headers[d]))  # the first where it is a draw
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    return [(reader.line_num, [_stripped(cell) for cell in row]) for row in reader if row]


def _stripped(cell: str) -> str:
    return cell.strip().strip("\u200b\u200c\u200d\u2060\ufeff").strip()


def known_name(name: str) -> str:
    """A column that has a meaning, under its own name however it is written."""
    plain = re.sub(r"[\s_\-]+", "", name.casefold())
    return next((known for known in _KNOWN if known.replace("_", "") == plain), name)


def bases_of(table: Path, images: str | Path | None = None) -> list[Path]:
    """Folders that a table's paths may be relative to, the first that holds one being right.

    Args:
        table: the file.
        images: a folder, from the working folder or from the table's; without it, the table's own and a
            folder ``images`` beside it.
    """
    if images:
        return list(dict.fromkeys([Path(images), table.parent / images]))
    return [table.parent, table.parent / "images"]


def placed(path: str, bases: Sequence[Path]) -> Path:
    """Where a table's path leads; under the first base where it is nowhere."""
    places = [base / path for base in bases]
    return next((place for place in places if place.exists()), places[0])


def _in_words_of_ours(table: LabelTable, refused: type[RetinaError]) -> None:
    for column, words in (("split", _SPLITS), ("use", _USES)):
        if column not in table.columns:
            continue
        for row, line in zip(table.rows, table.lines, strict=True):
            value = row[column].casefold()
            if value and value not in words:
                raise refused(
                    f"{table.source}, line {line} has {column} {row[column]!r}; "
                    f"use {', '.join(dict.fromkeys(words.values()))}."
                )
            row[column] = words.get(value, "")


def _without_repeats(table: LabelTable, refused: type[RetinaError], once: bool) -> LabelTable:
    """One row a picture.

    Raises:
        refused: two that differ; with ``once=False``, two that do not, too.
    """
    seen: dict[str, int] = {}
    keep = []
    for number, row in enumerate(table.rows):
        if not row["path"]:
            raise refused(
                f"{table.source}, line {table.lines[number]} has no path. Fill it in, or take it out."
            )
        place = unicodedata.normalize("NFC", posixpath.normpath(row["path"]))
        first = seen.setdefault(place, number)
        if first == number:
            keep.append(number)
            continue
        other = table.rows[first]
        differing = [c for c in table.columns if c != "path" and row[c] != other[c]]
        where = f"{table.source}, lines {table.lines[first]} and {table.lines[number]}"
        if differing:
            shown = ", ".join(f"{c} {other[c]!r} and {row[c]!r}" for c in differing[:_SHOWN])
            raise refused(
                f"{where}: {row['path']} is listed more than once, with {shown}. Keep the right one."
            )
        if not once:
            raise refused(f"{where}: {row['path']} is listed more than once. Keep one row a picture.")
    repeated = len(table.rows) - len(keep)
    notes = [*table.notes, f"{repeated} repeated rows read once"] if repeated else table.notes
    rows, lines = [table.rows[n] for n in keep], [table.lines[n] for n in keep]
    return replace(table, rows=rows, lines=lines, notes=notes)


def _label_key(label: str) -> tuple[str, object]:
    plain = " ".join(unicodedata.normalize("NFKC", label).split()).casefold()
    try:
        return ("number", float(plain)) if "_" not in plain else ("name", plain)
    except ValueError:
        return "name", plain


def _order(name: str) -> tuple[int, float, str]:
    kind, key = _label_key(name)
    return (0, float(str(key)), "") if kind == "number" else (1, 0.0, name)
