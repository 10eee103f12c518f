"""Camera files, tables by id, crop bounds and pseudonyms on the command line."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture, saved_generator
from retina_fm.cli.main import main
from retina_fm.indexes import ImageIndex
from retina_fm.network.architecture import ANATOMY
from retina_fm.pictures import Pseudonyms
from tests.pictures.camera_files import fda
from tests.pictures.drawn import dataset, dicom_bytes

TINY = ["--model", "fundus2video-tiny", "--dtype", "float32", "--workers", "0"]


@pytest.fixture
def clinic(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    made = dataset(disc_picture(1), "RGB")
    made.ImageLaterality, made.PatientID, made.PixelSpacing = "L", "0042", [0.008, 0.008]
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.dcm").write_bytes(dicom_bytes(made))
    (tmp_path / "photos" / "b.fda").write_bytes(fda(disc_picture(2), eye=0))
    Image.fromarray(disc_picture(4)).save(tmp_path / "photos" / "d.jpg")
    (tmp_path / "key").write_bytes(b"k" * 32)
    (tmp_path / "list.csv").write_text("id,path,eye\np1,photos/d.jpg,OS\np2,photos/b.fda,\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def cells(path: str, *names: str) -> list[tuple[Any, ...]]:
    with Path(path).open(newline="") as stream:
        return [tuple(row[name] for name in names) for row in csv.DictReader(stream)]


def test_tables_hold_what_files_and_rows_say(clinic: Path) -> None:
    assert main(["encode", "photos", "--out", "emb.csv", "--pseudonymise", "key", *TINY]) == 0
    hidden = Pseudonyms.read("key")
    assert cells("emb.csv", "name", "eye", "patient_id") == [
        ("a.dcm", "left", hidden.of("42")), ("b.fda", "right", hidden.of("P-007")), ("d.jpg", "", ""),
    ]  # fmt: skip
    assert main(["encode", "--labels", "list.csv", "--out", "emb2.csv", *TINY]) == 0
    assert cells("emb2.csv", "id", "eye", "patient_id") == [("p1", "left", ""), ("p2", "right", "P-007")]
    assert main(["encode", "list.csv", "--out", "emb.npz", *TINY]) == 0
    with np.load("emb.npz") as arrays:
        assert arrays["eye"].tolist() == ["left", "right"]


def test_measure_takes_tables_and_index_keeps_their_words(clinic: Path) -> None:
    model = str(saved_generator(clinic / "tiny-anatomy", vessels=True, anatomy=ANATOMY))
    assert main(["measure", "list.csv", "--out", "n.csv", "--model", model, "--workers", "0"]) == 0
    assert cells("n.csv", "eye", "eye_source", "patient_id") == [
        ("left", "column", ""), ("right", "camera file", "P-007"),
    ]  # fmt: skip
    again = ["measure", "--labels", "list.csv", "--out", "n2.csv", "--model", model, "--workers", "0"]
    with pytest.raises(SystemExit):  # it would have nothing to do but to drop what belongs to each photo
        main([*again, "--column", "id"])
    assert main(again) == 0 and Path("n2.csv").read_text() == Path("n.csv").read_text()
    assert main(["index", "--labels", "list.csv", "--store", "store", "--no-signature", *TINY]) == 0
    found = ImageIndex.open("store").metadata.select(["id", "eye", "patient_id"]).to_pylist()
    assert [tuple(row.values()) for row in found] == [("p1", "OS", None), ("p2", "right", "P-007")]
    assert main(["index", "list.csv", *TINY]) == 1


def test_bounds_go_out_and_come_in(clinic: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bounds", "photos", "--out", "bounds.csv"]) == 0
    assert "3 photos, 0 without a circle" in capsys.readouterr().out
    Path("bounds.csv").write_text(
        "id,success,bounds\nd,True,\"{'hw': (128, 128), 'center': (60.0, 50.0), 'radius': 40.0}\"\n"
    )
    arguments = ["encode", "photos/d.jpg", "--out", "emb.parquet", *TINY]
    assert main([*arguments, "--bounds", "bounds.csv"]) == 0
    import pyarrow.parquet as pq

    row = pq.read_table("emb.parquet").to_pylist()[0]
    assert (row["fov_y"], row["fov_x"], row["fov_radius"]) == (50.5, 60.5, 40.0)
    assert main(arguments) == 1
    assert "holds rows by other crop bounds" in capsys.readouterr().err


def test_masks_are_in_the_photos_own_pixels_and_called_by_id(clinic: Path) -> None:
    model = str(saved_generator(clinic / "tiny-anatomy", vessels=True, anatomy=ANATOMY))
    Image.fromarray(disc_picture(5)[20:, :100]).save("photos/d.jpg", exif=_turned())
    assert main(["predict", "vessels", "list.csv", "--out", "masks", "--model", model]) == 0
    for name, size in (("p1", (108, 100)), ("p2", (128, 128))):
        with Image.open(f"masks/{name}.png") as mask:
            assert mask.size == size and mask.mode == "L", "upright, as the photo is seen"
            assert set(np.unique(np.asarray(mask))) <= {0, 255}


def _turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by a quarter
    return exif
