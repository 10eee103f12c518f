"""Excel sheets as rows of text, by the two parts of the standard library that it takes."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path
from xml.etree import ElementTree

from retina_fm.errors import LayoutError

_MAIN = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"


def sheet_rows(path: Path) -> list[list[str]]:
    """Rows of the first sheet of an ``.xlsx`` file; numbers that are whole lose their point.

    Raises:
        LayoutError: it is no such file.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            strings = (
                _strings(archive.read("xl/sharedStrings.xml")) if "xl/sharedStrings.xml" in names else []
            )
            sheets = sorted(n for n in names if re.fullmatch(r"xl/worksheets/sheet\d+\.xml", n))
            root = ElementTree.fromstring(archive.read(sheets[0]))
    except (OSError, zipfile.BadZipFile, KeyError, IndexError, ElementTree.ParseError) as error:
        raise LayoutError(f"{path} cannot be read as an Excel sheet ({error}). Fetch it again.") from None
    rows = []
    for row in root.iter(f"{_MAIN}row"):
        values: dict[int, str] = {}
        for place, cell in enumerate(row.iter(f"{_MAIN}c")):
            values[_column(cell.get("r"), place)] = _value(cell, strings)
        rows.append([values.get(index, "") for index in range(max(values, default=-1) + 1)])
    return rows


def _strings(data: bytes) -> list[str]:
    root = ElementTree.fromstring(data)
    return ["".join(t.text or "" for t in item.iter(f"{_MAIN}t")) for item in root.iter(f"{_MAIN}si")]


def _column(reference: str | None, place: int) -> int:
    letters = re.match(r"[A-Z]+", reference or "")
    if letters is None:
        return place
    number = 0
    for letter in letters.group():
        number = 26 * number + ord(letter) - 64
    return number - 1


def _value(cell: ElementTree.Element, strings: list[str]) -> str:
    kind = cell.get("t")
    if kind == "inlineStr":
        return "".join(t.text or "" for t in cell.iter(f"{_MAIN}t")).strip()
    found = cell.find(f"{_MAIN}v")
    text = (found.text or "") if found is not None else ""
    if kind == "s":
        return strings[int(text)].strip() if text else ""
    return text[:-2] if text.endswith(".0") else text.strip()
