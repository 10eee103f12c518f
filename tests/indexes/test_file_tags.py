"""Eye, patient and day of pictures' files as metadata of an index; a user's own words go first."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm.errors import ConfigError
from retina_fm.indexes import ImageIndex
from retina_fm.pictures import Pseudonyms
from tests.pictures.camera_files import e2e, fda
from tests.pictures.drawn import dataset, dicom_bytes

TINY = "fundus2video-tiny"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    place = tmp_path / "clinic"
    place.mkdir()
    made = dataset(disc_picture(1), "RGB")
    made.ImageLaterality, made.PatientID, made.StudyDate = "L", "0042", "20200304"
    (place / "a.dcm").write_bytes(dicom_bytes(made))
    (place / "b.fda").write_bytes(fda(disc_picture(2), eye=0))
    Image.fromarray(disc_picture(4)).save(place / "d.jpg")
    return place


@pytest.fixture
def key(tmp_path: Path) -> Path:
    (tmp_path / "key").write_bytes(b"k" * 32)
    return tmp_path / "key"


def index(photos: Any, **settings: Any) -> ImageIndex:
    return retina_fm.index(photos, TINY, dtype="float32", workers=0, signature=False, **settings)


def held(found: ImageIndex, *names: str) -> list[tuple[Any, ...]]:
    rows = found.metadata.select(names or ("eye", "patient_id", "acquired")).to_pylist()
    return [tuple(row.values()) for row in rows]


def test_files_say_and_searches_ask(folder: Path) -> None:
    found = index(folder)
    assert held(found) == [
        ("left", "0042", "2020-03-04"),
        ("right", "P-007", "2021-03-04T05:06:07"),
        (None, None, None),
    ]
    hits = found.search(folder / "d.jpg", k=5, where="eye=left")
    assert [Path(hit.path).name for hit in hits] == ["a.dcm"]


def test_frames_of_a_file_are_pictures_like_others(folder: Path, tmp_path: Path) -> None:
    grey = disc_picture(3)[..., 1]
    (folder / "c.e2e").write_bytes(e2e([(grey, "R"), (grey[::-1].copy(), "L")]))
    found = index(folder, store=tmp_path / "store")
    second = {"path": str(folder / "c.e2e"), "frame": 1}
    for query in (second, {"path": str(folder / "d.jpg")}):
        assert len(found.search(query, k=9)) == 4, "a picture of the index is not in its own answer"
    assert [hit.path for hit in found.search(second, k=1, include_query=True)] == [f"{folder}/c.e2e#frame=1"]
    page = found.save_map(tmp_path / "map.html").read_text()
    assert page.count("data:image/jpeg") == 5
    assert index(folder, store=tmp_path / "store").report.unchanged == 5
    (folder / "c.e2e").write_bytes(e2e([(grey.T.copy(), "R"), (grey, "L")]))  # of the same size
    assert index(folder, store=tmp_path / "store").report.unchanged == 3


def test_a_users_words_go_first_and_what_he_leaves_open_stays(folder: Path) -> None:
    rows = [
        {"path": "a.dcm", "eye": "right", "patient_id": "", "grade": "2"},
        {"path": "d.jpg", "eye": "left", "patient_id": "9", "grade": None},
    ]
    found = index(folder, metadata=rows)
    assert held(found, "eye", "patient_id", "grade") == [
        ("right", "0042", "2"), ("right", "P-007", None), ("left", "9", None),
    ]  # fmt: skip
    again = index(folder, metadata=[{"path": "b.fda", "grade": "4"}])  # nothing is encoded, nothing forgotten
    assert again.report.encoded == 0
    assert held(again, "eye", "patient_id", "grade")[1] == ("right", "P-007", "4")
    (folder / "b.fda").write_bytes(fda(disc_picture(5), eye=1))
    changed = index(folder)
    assert held(changed, "eye", "grade")[-1] == ("left", "4") or ("left", "4") in held(
        changed, "eye", "grade"
    )


def test_numbers_that_a_user_keeps_are_his_alone(folder: Path) -> None:
    found = index(folder, metadata={"path": ["a.dcm", "b.fda", "d.jpg"], "patient_id": [1, 2, 3]})
    assert held(found, "eye", "patient_id") == [("left", 1), ("right", 2), (None, 3)]


def test_photos_that_say_nothing_add_no_columns(folder: Path) -> None:
    assert index([folder / "d.jpg"]).metadata.column_names == []


def test_pseudonyms_stay_pseudonyms(folder: Path, key: Path, tmp_path: Path) -> None:
    hidden = Pseudonyms.read(key)
    rows = [{"path": "d.jpg", "patient_id": "P007", "Patient-ID": 7}]
    found = index(folder, metadata=rows, pseudonymise=key)
    assert [row[1] for row in held(found)] == [hidden.of("42"), hidden.of("P-007"), hidden.of("P-007")]
    assert held(found, "Patient-ID")[-1] == (hidden.of("7"),)
    for file in (folder / ".retina-fm-index").iterdir():
        assert b"0042" not in file.read_bytes() and b"P007" not in file.read_bytes()
    with pytest.raises(ConfigError, match="holds pseudonyms of patients; pass the key file"):
        index(folder)
    (tmp_path / "other").write_bytes(b"o" * 32)
    with pytest.raises(ConfigError, match="pass another key file"):
        found.add(folder, pseudonymise=tmp_path / "other")
    assert index(folder, pseudonymise=key).report.unchanged == 3
    with pytest.raises(ConfigError, match="holds patients' ids as they are"):
        plain = index(folder, store=tmp_path / "plain")
        plain.add(folder, pseudonymise=key)


def test_a_table_of_pseudonyms_is_taken_as_it_is(folder: Path, key: Path, tmp_path: Path) -> None:
    table = tmp_path / "emb.parquet"
    retina_fm.encode_to(folder, table, TINY, dtype="float32", workers=0, pseudonymise=key)
    hidden = Pseudonyms.read(key)
    for settings in ({}, {"pseudonymise": key}):
        found = retina_fm.index(table, store=tmp_path / f"store{len(settings)}", **settings)
        assert [row[1] for row in held(found)] == [hidden.of("0042"), hidden.of("P-007"), None]
        assert found.manifest.pseudonyms == hidden.fingerprint
