"""Eye, patient and day in tables of embeddings and of measurements."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture, saved_generator
from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm.distributed.encoding import _Plan, _Spread
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.rows import key_of
from retina_fm.encoding.work import decode
from retina_fm.errors import OutputError
from retina_fm.network.architecture import ANATOMY
from tests.pictures.camera_files import e2e, fda
from tests.pictures.drawn import dataset, dicom_bytes

TINY = "fundus2video-tiny"
NAMES = ("path", "eye", "patient_id", "acquired")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A DICOM file, Topcon's and Heidelberg's, and a JPEG."""
    place = tmp_path_factory.mktemp("clinic")
    made = dataset(disc_picture(1), "RGB")
    made.ImageLaterality, made.PatientID, made.StudyDate = "L", "0042", "20200304"
    (place / "a.dcm").write_bytes(dicom_bytes(made))
    (place / "b.fda").write_bytes(fda(disc_picture(2), eye=0))
    grey = disc_picture(3)[..., 1]
    (place / "c.e2e").write_bytes(e2e([(grey, "R"), (grey[::-1].copy(), "L")]))
    Image.fromarray(disc_picture(4)).save(place / "d.jpg")
    return place


WANTED = [
    ("a.dcm", "left", "0042", "2020-03-04"),
    ("b.fda", "right", "P-007", "2021-03-04T05:06:07"),
    ("c.e2e#frame=0", "right", "H123", None),
    ("c.e2e#frame=1", "left", "H123", None),
    ("d.jpg", None, None, None),
]


def rows(table: Path, *names: str) -> list[tuple[Any, ...]]:
    found = pq.read_table(table).select(names or NAMES).to_pylist()
    return [tuple(row.values()) for row in found]


def encode_to(photos: Any, out: Path, **settings: Any) -> Any:
    return retina_fm.encode_to(photos, out, TINY, dtype="float32", workers=0, **settings)


def test_rows_of_a_cluster_say_the_same(tmp_path: Path) -> None:
    here = Embedder(TINY, device="cpu", dtype="float32")
    names = Pseudonyms(b"k" * 32)
    spread = _Spread(None, here, TINY, "float32", _Plan(1, 1, 1, 0.0), signature=False)
    spread.pseudonyms = names
    photo = {"photo": disc_picture(1), "eye": "left", "patient_id": "P1", "acquired": "2020-01-01"}
    item = decode(0, photo, here.encoder.transform)
    spread.vectors[0] = np.zeros(64, np.float32), None
    (row,) = spread.rows([key_of(photo, tmp_path, 0)], [item], [photo])
    assert row.tags == item.tags._replace(patient_id=names.of("P1")) and row.tags.eye == "left"


def inside(folder: Path, found: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    return [(Path(path).name, *rest) for path, *rest in found]


def test_files_tell_and_a_users_row_goes_first(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    encode_to(folder, out)
    assert inside(folder, rows(out)) == WANTED
    photos = [
        {"path": str(folder / "a.dcm"), "eye": "OD"},
        {"path": str(folder / "d.jpg"), "patient_id": "9"},
    ]
    report = encode_to(photos, out)
    assert report.reused == 2, "what is said anew needs no encoding"
    assert inside(folder, rows(out)) == [("a.dcm", "right", "0042", "2020-03-04"), ("d.jpg", None, "9", None)]


def test_a_table_of_an_earlier_release_is_completed(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "emb.parquet"
    encode_to(folder, out)
    old = pq.read_table(out).drop_columns(["eye", "patient_id", "acquired"])
    pq.write_table(old, out)
    assert encode_to(folder, out).reused == 5
    assert inside(folder, rows(out)) == WANTED


@pytest.mark.parametrize("ending", ["csv", "npz"])
def test_columns_of_a_users_table_win_where_they_say_something(
    folder: Path, tmp_path: Path, ending: str
) -> None:
    out = tmp_path / f"emb.{ending}"
    photos = [str(folder / "a.dcm"), str(folder / "d.jpg")]
    encode_to(photos, out, columns={"eye": ["", "OS"], "patient_id": ["x1", ""], "grade": ["2", "3"]})
    if ending == "csv":
        import csv

        with out.open(newline="") as stream:
            found = [(r["eye"], r["patient_id"], r["grade"]) for r in csv.DictReader(stream)]
    else:
        with np.load(out) as arrays:
            found = list(zip(*(arrays[n].tolist() for n in ("eye", "patient_id", "grade")), strict=True))
    assert found == [("left", "x1", "2"), ("left", "", "3")]


def test_pseudonyms_are_kept_apart_from_ids(folder: Path, tmp_path: Path) -> None:
    key, other = tmp_path / "key", tmp_path / "other"
    key.write_bytes(b"k" * 32)
    other.write_bytes(b"o" * 32)
    out = tmp_path / "emb.parquet"
    encode_to(folder / "a.dcm", out, pseudonymise=key)
    hidden = Pseudonyms.read(key)
    assert rows(out, "patient_id") == [(hidden.of("0042"),)] and b"0042" not in out.read_bytes()
    assert encode_to({"path": str(folder / "a.dcm"), "patient_id": "42"}, out, pseudonymise=key).reused == 1
    assert rows(out, "patient_id") == [(hidden.of("0042"),)]
    with pytest.raises(OutputError, match="holds pseudonyms, which were not asked for"):
        encode_to(folder / "a.dcm", out)
    with pytest.raises(OutputError, match="holds pseudonyms by another key"):
        encode_to(folder / "a.dcm", out, pseudonymise=other)
    plain = tmp_path / "plain.parquet"
    encode_to(folder / "a.dcm", plain)
    with pytest.raises(OutputError, match="holds patients' ids as they are"):
        encode_to(folder / "a.dcm", plain, pseudonymise=key)


def test_measurements_carry_them_too(folder: Path, tmp_path: Path) -> None:
    model = str(saved_generator(tmp_path / "tiny-anatomy", vessels=True, anatomy=ANATOMY))
    key = tmp_path / "key"
    key.write_bytes(b"k" * 32)
    photos = [folder / "a.dcm", {"path": str(folder / "b.fda"), "eye": "OS", "spacing_um": 9}]
    table = retina_fm.measure(photos, model, workers=0, pseudonymise=key).select(
        ["eye", "eye_source", "patient_id", "acquired", "spacing_um"]
    )
    hidden = Pseudonyms.read(key)
    assert [tuple(row.values()) for row in table.to_pylist()] == [
        ("left", "dicom", hidden.of("0042"), "2020-03-04", None),
        ("left", "column", hidden.of("P-007"), "2021-03-04T05:06:07", 9.0),
    ]
    out = tmp_path / "numbers.parquet"
    retina_fm.measure_to(photos[0], out, model, workers=0)
    retina_fm.measure_to({"path": str(folder / "a.dcm"), "eye": "right"}, out, model, workers=0)
    assert rows(out, "eye", "eye_source", "patient_id") == [("right", "column", "0042")]


def test_a_damaged_file_leaves_the_others(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "photos")
    (tmp_path / "photos" / "a.dcm").write_bytes(b"\0" * 128 + b"DICM damaged")
    with pytest.warns(retina_fm.errors.SkippedPictures):
        report = encode_to(tmp_path / "photos", tmp_path / "emb.parquet", on_error="skip")
    assert report.rows == 4
