"""Tables come back as they were written, from whatever program wrote them."""

from __future__ import annotations

import datetime
from pathlib import Path

import pytest
from openpyxl import Workbook

from retina_fm._io.tables import csv_bytes, inert, parse_csv, read_csv, sheet_rows
from retina_fm.errors import LayoutError
from retina_fm.indexes.duplicates import Duplicate
from retina_fm.indexes.pair_tables import write_pairs


def test_what_was_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"\xef\xbb\xbf" + csv_bytes(("path", "note"), [("a.png", 'one, "two"'), ("é.png", 2)]))
    assert read_csv(path).rows == [
        {"path": "a.png", "note": 'one, "two"'},
        {"path": "é.png", "note": "2"},
    ]
    assert b"\r" not in path.read_bytes()


def test_rows_that_are_too_short_or_too_long_fit_the_header() -> None:
    table = parse_csv("a;b\r\n1\r\n\r\n2;3;4\r\n", delimiter=";")
    assert table == (("a", "b"), [{"a": "1", "b": ""}, {"a": "2", "b": "3"}], [2, 4])
    assert parse_csv("") == ((), [], [])
    assert parse_csv("a,b\n").columns == ("a", "b")


def test_what_is_no_csv_is_a_value_error(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes("path\né.png\n".encode("latin-1"))
    with pytest.raises(ValueError, match="utf-8"):
        read_csv(tmp_path / "latin.csv")
    with pytest.raises(ValueError, match="field"):
        parse_csv("a\n" + "x" * 200_000)


def test_a_sheet_is_text_without_points(tmp_path: Path) -> None:
    book = Workbook()
    book.active.append(["ID", " Age ", None, "when"])
    book.active.append([3, 47.0, 0.5, datetime.date(2020, 1, 2)])
    book.create_sheet("other").append(["not this one"])
    book.save(tmp_path / "a.xlsx")
    rows = sheet_rows(tmp_path / "a.xlsx")
    assert rows[0] == ["ID", "Age", "", "when"]
    assert rows[1][:3] == ["3", "47", "0.5"]
    assert len(rows) == 2


def test_a_damaged_sheet_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.xlsx").write_text("no")
    with pytest.raises(LayoutError, match=r"a\.xlsx cannot be read"):
        sheet_rows(tmp_path / "a.xlsx")


def test_cells_are_nothing_that_a_spreadsheet_runs(tmp_path: Path) -> None:
    assert [inert(cell) for cell in ("=1+1", "@x", "-a", "-2", 3.5, "a")] == [
        "'=1+1",
        "'@x",
        "'-a",
        "-2",
        3.5,
        "a",
    ]
    pair = Duplicate("=a.png", "b.png", 1.0, True, {"patient_id": "=cmd()"}, {"patient_id": "-7"})
    row = read_csv(write_pairs([pair], tmp_path / "pairs.csv")).rows[0]
    assert (row["first"], row["second"]) == ("./=a.png", "b.png")
    assert (row["first_patient_id"], row["second_patient_id"]) == ("'=cmd()", "-7")
