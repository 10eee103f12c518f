"""Tables as people have them: what can be meant in one way is read and said, contradictions are refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from retina_fm._io.label_tables import one_spelling, read_label_table, understood
from retina_fm.errors import ConfigError


def table(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "path,label\na.png,1\nb.png,0\n",
        "path;label\na.png;1\nb.png;0\n",
        "sep=;\npath;label\na.png;1\nb.png;0\n",
        "path\tlabel\na.png\t1\nb.png\t0\n",
        "\ufeffpath , Label\n a.png, 1 \nb.png,0,\n,\n\n",
    ],
)
def test_commas_semicolons_tabs_and_spaces_are_one_table(tmp_path: Path, text: str) -> None:
    read = read_label_table(table(tmp_path, text))
    assert read.columns == ("path", "label")
    assert read.rows == [{"path": "a.png", "label": "1"}, {"path": "b.png", "label": "0"}]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("path,label,eye\na.png,1\n", "line 2 has 2 cells, the header has 3"),
        ("path,label\na.png,mild, left\n", "line 2 has 3 cells"),
        ("path,label,label\na.png,1,2\n", "two columns 'label'"),
        (
            "path,label\na.png,1\na.png,2\n",
            "lines 2 and 3: a.png is listed more than once, with label '1' and '2'",
        ),
        ("path,label\na.png,1\n./a.png,2\n", "more than once"),
        ("path,label\n,1\n", "line 2 has no path"),
        ("path,split\na.png,holdout\n", "split 'holdout'; use train, val, test"),
        ("path,use\na.png,perhaps\n", "use 'perhaps'; use yes, no"),
        ('path,label\na.png,"1\nb.png,2\n', "cannot be read"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused_with_its_lines(
    tmp_path: Path, text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        read_label_table(table(tmp_path, text))


def test_a_table_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read"):
        read_label_table(tmp_path / "none.csv")


def test_parts_and_uses_are_read_in_any_words(tmp_path: Path) -> None:
    text = "path,split,use\na,valid,No\nb,Training,TRUE\nc,Validation,1\nd,test,\n"
    rows = read_label_table(table(tmp_path, text)).rows
    assert [row["split"] for row in rows] == ["val", "train", "val", "test"]
    assert [row["use"] for row in rows] == ["no", "yes", "yes", ""]


def test_repeated_rows_are_read_once_or_refused(tmp_path: Path) -> None:
    path = table(tmp_path, "path,label\na,1\na,1\nb,0\n")
    read = read_label_table(path)
    assert len(read.rows) == 2 and read.notes == ["1 repeated rows read once"]
    with pytest.raises(ConfigError, match="lines 2 and 3: a is listed more than once"):
        read_label_table(path, once=False)


def test_spellings_of_a_label_are_one_class_and_blanks_are_none() -> None:
    labels, notes = one_spelling(["1 ", "1.0", "1", "01", "NA", "unknown", "", "DR", "dr", "DR", "none"])
    assert labels == ["1", "1", "1", "1", "", "", "", "DR", "DR", "DR", "none"]
    assert notes == ["'1.0' is '1' (1 row)", "'01' is '1' (1 row)", "'dr' is 'DR' (1 row)"]
    assert one_spelling(["1.0", "2.0"]) == (["1.0", "2.0"], [])
    assert one_spelling(["N | D", "d"], several=True)[0] == ["N|D", "D"]
    assert one_spelling(["1_0", "10"])[0] == ["1_0", "10"]


def test_what_was_understood_is_said_in_one_line(tmp_path: Path) -> None:
    text = "path,label,patient_id\na,1,P1\nb,0,p1\nc,1,\n"
    read = read_label_table(table(tmp_path, text))
    said = understood(read, "label", ["1", "0", "10"], {"with use=no": 2, "of split=test": 0}, notes=["x"])
    assert said == (
        "labels.csv: label: 0 (1), 1 (1), 10 (1); left out: 2 with use=no; "
        "1 patients and 1 row of nobody known, 1 written in several ways ('P1' = 'p1'); x"
    )
    assert "2 values" in understood(read, "age", ["1", "2"], {}, numbers=True)
