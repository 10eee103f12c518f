"""Tables that people hand in and get: CSV in UTF-8, and the first sheet of an Excel file."""

from __future__ import annotations

import csv
import io
import warnings
import zipfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm._io.names import as_text
from retina_fm._io.seals import check_table
from retina_fm.errors import LayoutError, MissingDependencyError

_FORMULA = ("=", "+", "-", "@", "\t", "\r")


class CsvRows(NamedTuple):
    """A table as text: its columns, its rows by column, and the line of the file that each row ends on."""

    columns: tuple[str, ...]
    rows: list[dict[str, str]]
    lines: list[int]


def parse_csv(text: str, *, delimiter: str = ",") -> CsvRows:
    """The rows below a header; cells that a row lacks are empty, cells beyond the header are left out.

    Raises:
        ValueError: it is no CSV.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter)
    rows, lines = [], []
    try:
        columns = tuple(reader.fieldnames or ())
        for row in reader:
            rows.append({column: row[column] or "" for column in columns})
            lines.append(reader.line_num)
    except csv.Error as error:
        raise ValueError(str(error)) from None
    return CsvRows(columns, rows, lines)


def read_csv(path: Path) -> CsvRows:
    """A CSV file in UTF-8, with or without a byte-order mark; one of ours is compared with its checksum.

    Raises:
        OSError: it cannot be opened.
        ValueError: it is not UTF-8, no CSV, or damaged.
    """
    data = path.read_bytes()
    check_table(path, data)
    with io.TextIOWrapper(io.BytesIO(data), encoding="utf-8-sig") as text:
        return parse_csv(text.read())


def csv_bytes(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> bytes:
    """A CSV file's bytes, lines ended by a line feed on every system; names as :func:`as_text` has them."""
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    return as_text(text.getvalue()).encode()


def inert(value: Any) -> Any:
    """A cell that no spreadsheet runs: text that begins as a formula does stands behind an apostrophe."""
    text = str(value)
    if not text.startswith(_FORMULA) or _is_number(text):
        return value
    return f"'{text}"


def inert_path(path: str) -> str:
    """A path that no spreadsheet runs, and that still is one."""
    return f"./{path}" if path.startswith(_FORMULA) else path


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def sheet_rows(path: Path) -> list[list[str]]:
    """Rows of the first sheet of an ``.xlsx`` file as stripped text; whole numbers have no point.

    Raises:
        MissingDependencyError: openpyxl (extra ``evaluate``) is not installed.
        LayoutError: it is no such file.
    """
    try:
        from openpyxl import load_workbook
        from openpyxl.utils.exceptions import InvalidFileException
    except ImportError:
        raise MissingDependencyError(
            f"{path}: Excel sheets need openpyxl; install it with: pip install openpyxl "
            "(or '.[evaluate]' in a checkout)"
        ) from None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and validations, which say nothing about values
            sheet = load_workbook(path, data_only=True).worksheets[0]
    except (OSError, zipfile.BadZipFile, InvalidFileException, KeyError, IndexError, ValueError) as error:
        raise LayoutError(f"{path} cannot be read as an Excel sheet ({error}). Fetch it again.") from None
    return [[_text(value) for value in row] for row in sheet.iter_rows(values_only=True)]


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value).strip()
