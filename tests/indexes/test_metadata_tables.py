"""Tables beside an index: semicolons, spaces, blank patients and spellings mean what people mean by them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import retina_fm
from retina_fm.errors import ConfigError
from retina_fm.indexes.duplicates import Duplicate
from retina_fm.indexes.metadata import agree, read_metadata


def vectors(count: int) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, 8)).astype(np.float32)


def test_semicolons_and_spaces_are_read_and_short_rows_are_refused(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text("path;patient_id;split\na.png; 007 ;fold 1\nb.png;;\n")
    found, folder = read_metadata(table)
    assert folder == tmp_path
    assert found.to_pylist() == [
        {"path": "a.png", "patient_id": "007", "split": "fold 1"},
        {"path": "b.png", "patient_id": None, "split": None},
    ]
    table.write_text("path,label\na.png\n")
    with pytest.raises(ConfigError, match="line 2 has 1 cells"):
        read_metadata(table)
    table.write_text("")
    with pytest.raises(ConfigError, match="cannot be read"):
        read_metadata(table)


@pytest.mark.parametrize("blank", ["", " ", "NA", "unknown", None])
def test_excluding_the_same_patient_takes_blank_patients_for_nobody(blank: str | None) -> None:
    names = ["a", "b", "c", "d"]
    index = retina_fm.index(vectors(4), paths=names, metadata={"patient_id": [blank, blank, "P-07", "p7"]})
    found = index.search(vectors(4)[:1], k=4)[0]
    assert len(found) == 4
    excluded = index._excluded(index_queries(index, 0), "patient_id", include_query=False)
    assert excluded is not None and excluded[0].tolist() == []
    person = index._excluded(index_queries(index, 2), "patient_id", include_query=False)
    assert person is not None and person[0].tolist() == [2, 3]


def index_queries(index: retina_fm.indexes.ImageIndex, place: int) -> object:
    from retina_fm.indexes.queries import Queries

    return Queries(vectors(4)[place : place + 1], None, [None], ["x"], np.array([place]), True)


def test_recall_and_duplicates_know_a_person_by_all_spellings() -> None:
    assert agree("patient_id", "P-07", "p7") and not agree("patient_id", "NA", "NA")
    assert agree("site", "NA1", "NA1") and not agree("site", None, None)
    pair = Duplicate("a", "b", 1.0, True, {"patient_id": "P-07"}, {"patient_id": "p 7"})
    assert not pair.differs_in("patient_id")
    index = retina_fm.index(vectors(3), metadata={"patient_id": ["P-07", "p7", ""]})
    assert index.evaluate(k=(1,), repeats=0).queries == 2
