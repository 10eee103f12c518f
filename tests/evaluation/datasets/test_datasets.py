"""Readers of data sets on made folders of the official layouts."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from openpyxl import Workbook
from PIL import Image

from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, LayoutError, ManifestError
from retina_fm.evaluation.classifying import run_cell, settings_of
from retina_fm.evaluation.datasets import READERS, make_manifest
from retina_fm.evaluation.datasets.uk_biobank import systemic_cohort
from retina_fm.evaluation.manifest import Manifest, read_manifest
from retina_fm.evaluation.suite import read_suite


def pictures(folder: Path, *names: str) -> None:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((8, 8), 200, np.uint8)).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def sheet(path: Path, rows: list[list[object]]) -> None:
    """An Excel file; empty cells are left out."""
    book = Workbook()
    for row in rows:
        book.active.append([None if value == "" else value for value in row])
    path.parent.mkdir(parents=True, exist_ok=True)
    book.save(path)


def read(name: str, folder: Path) -> Manifest:
    return read_manifest(make_manifest(name, folder))


def test_aptos_2019(tmp_path: Path) -> None:
    pictures(tmp_path, "train_images/0a.png", "train_images/1b.png", "test_images/2c.png")
    text(tmp_path / "train.csv", "id_code,diagnosis\n0a,2\n1b,0\n")
    rows = read("aptos-2019", tmp_path).rows
    assert [(r.name, r.label) for r in rows] == [("train_images/0a.png", "2"), ("train_images/1b.png", "0")]
    text(tmp_path / "train.csv", "id_code,diagnosis\nzz,2\n")
    with pytest.raises(LayoutError, match="names zz"):
        make_manifest("aptos-2019", tmp_path)


def test_idrid(tmp_path: Path) -> None:
    top = tmp_path / "B. Disease Grading"
    pictures(top / "1. Original Images" / "a. Training Set", "IDRiD_001.jpg", "IDRiD_002.jpg")
    pictures(top / "1. Original Images" / "b. Testing Set", "IDRiD_001.jpg")
    heads = "Image name,Retinopathy grade,Risk of macular edema ,,,\n"
    labels = top / "2. Groundtruths"
    training = heads + "IDRiD_001,3,2,,,\nIDRiD_002,0,0,,,\n,,,,,\n"
    text(labels / "a. IDRiD_Disease Grading_Training Labels.csv", training)
    text(labels / "b. IDRiD_Disease Grading_Testing Labels.csv", heads + "IDRiD_001,4,1,,,\n")
    rows = read("idrid", tmp_path).rows
    assert [(r.label, r.columns["dme_risk"], r.split) for r in rows] == [
        ("3", "2", "train"),
        ("0", "0", "train"),
        ("4", "1", "test"),
    ]
    assert len({r.name for r in rows}) == 3


def test_messidor_2(tmp_path: Path) -> None:
    pictures(tmp_path / "IMAGES", "20051020_43808_0100_PP.png", "20051020_43808_0101_PP.png", "IM001.JPG")
    text(tmp_path / "messidor-2.csv", "20051020_43808_0100_PP.png;20051020_43808_0101_PP.png\n")
    text(
        tmp_path / "messidor_data.csv",
        "image_id,adjudicated_dr_grade,adjudicated_dme,adjudicated_gradable\n"
        "20051020_43808_0100_PP.png,0.0,0,1\n20051020_43808_0101_PP.png,2.0,1.0,1\nIM001.jpg,,,0\n",
    )
    rows = read("messidor-2", tmp_path).rows
    assert [(r.label, r.patient, r.eye) for r in rows] == [
        ("0", "pair0000", "left"),
        ("2", "pair0000", "right"),
    ]


def test_papila(tmp_path: Path) -> None:
    pictures(tmp_path / "FundusImages", "RET002OD.jpg", "RET002OS.jpg", "RET004OD.jpg")
    for side, diagnoses in (("od", (0, 2)), ("os", (1, 1))):
        rows: list[list[object]] = [["", "Age", "Gender", "Diagnosis"], ["ID", "", "", ""], ["", "", "", ""]]
        rows += [["#002", 47, 0, diagnoses[0]], ["#004", 58, 1, diagnoses[1]]]
        sheet(tmp_path / "ClinicalData" / f"patient_data_{side}.xlsx", rows)
    rows = read("papila", tmp_path).rows
    assert [(r.path.name, r.label, r.patient, r.eye) for r in rows] == [
        ("RET002OD.jpg", "healthy", "p002", "right"),
        ("RET002OS.jpg", "glaucoma", "p002", "left"),
        ("RET004OD.jpg", "suspect", "p004", "right"),
    ]


def test_glaucoma_fundus_with_and_without_parts(tmp_path: Path) -> None:
    pictures(tmp_path / "one", "train/a_normal_control/1.png", "test/c_advanced_glaucoma/1.png")
    rows = read("glaucoma-fundus", tmp_path / "one").rows
    assert {(r.label, r.split) for r in rows} == {("normal", "train"), ("advanced", "test")}
    pictures(tmp_path / "two", "early_glaucoma/1.png")
    assert [(r.label, r.split) for r in read("glaucoma-fundus", tmp_path / "two").rows] == [("early", "")]
    pictures(tmp_path / "three", "other/1.png")
    with pytest.raises(LayoutError, match="no folder of normal, early or advanced"):
        make_manifest("glaucoma-fundus", tmp_path / "three")


def test_jsiec(tmp_path: Path) -> None:
    pictures(tmp_path / "1000images", "0.0.Normal/a.png", "0.1.Tessellated fundus/b.png", "29.1.Blur/c.png")
    assert [r.label for r in read("jsiec", tmp_path).rows] == [
        "0.0.Normal",
        "0.1.Tessellated fundus",
        "29.1.Blur",
    ]


def test_retina(tmp_path: Path) -> None:
    names = (
        "1_normal/NL_001.png",
        "2_cataract/c_001.png",
        "2_glaucoma/G_001.png",
        "3_retina_disease/R_001.png",
    )
    pictures(tmp_path / "dataset", *names)
    assert [r.label for r in read("retina", tmp_path).rows] == ["normal", "cataract", "glaucoma", "retina"]


def test_odir_5k(tmp_path: Path) -> None:
    pictures(tmp_path / "ODIR-5K_Training_Dataset", "0_left.jpg", "0_right.jpg")
    heads = ["ID", "Patient Age", "Patient Sex", "Left-Fundus", "Right-Fundus"]
    heads += ["Left-Diagnostic Keywords", "Right-Diagnostic Keywords", *"NDGCAHMO"]
    row = [0, 69, "Female", "0_left.jpg", "0_right.jpg", "cataract", "normal fundus", 0, 0, 0, 1, 0, 0, 0, 0]
    sheet(tmp_path / "ODIR-5K_Training_Annotations(Updated)_V2.xlsx", [heads, row])
    rows = read("odir-5k", tmp_path).rows
    assert [(r.label, r.patient, r.eye, r.columns["age"]) for r in rows] == [
        ("C", "0", "left", "69"),
        ("N", "0", "right", "69"),
    ]


def test_drive_and_its_withheld_test_labels(tmp_path: Path) -> None:
    pictures(tmp_path / "training", "images/21_training.tif", "1st_manual/21_manual1.gif")
    pictures(tmp_path / "training", "mask/21_training_mask.gif")
    pictures(tmp_path / "test", "images/01_test.tif", "mask/01_test_mask.gif")
    (row,) = read("drive", tmp_path).rows
    assert (row.split, row.mask is not None and row.mask.name) == ("train", "21_manual1.gif")
    assert Path(row.columns["field"]).is_file()


def test_rite(tmp_path: Path) -> None:
    for part, name in (("training", "21_training"), ("test", "01_test")):
        pictures(tmp_path / part, f"images/{name}.tif", f"vessel/{name}.png", f"av/{name}.png")
    rows = read("rite", tmp_path).rows
    assert [(r.split, r.columns["arteries_veins"]) for r in rows] == [
        ("train", "training/av/21_training.png"),
        ("test", "test/av/01_test.png"),
    ]


def test_stare_packed_and_unpacked(tmp_path: Path) -> None:
    pictures(tmp_path, "stare-images/im0001.ppm", "labels-ah/im0001.ah.ppm")
    (row,) = read("stare", tmp_path).rows
    assert row.mask is not None
    assert row.mask.name == "im0001.ah.ppm"
    text(tmp_path / "packed" / "stare-images" / "im0001.ppm.gz", "x")
    pictures(tmp_path / "packed", "labels-ah/im0001.ah.ppm")
    with pytest.raises(LayoutError, match="gunzip"):
        make_manifest("stare", tmp_path / "packed")


def test_chase_db1(tmp_path: Path) -> None:
    pictures(tmp_path, *(f"Image_01{e}{k}" for e in "LR" for k in (".jpg", "_1stHO.png", "_2ndHO.png")))
    rows = read("chase-db1", tmp_path).rows
    assert [(r.patient, r.eye) for r in rows] == [("child01", "left"), ("child01", "right")]


def test_hrf(tmp_path: Path) -> None:
    pictures(tmp_path, "images/01_dr.JPG", "manual1/01_dr.tif", "mask/01_dr_mask.tif")
    (row,) = read("hrf", tmp_path).rows
    assert row.label == "diabetic retinopathy"


def test_les_av(tmp_path: Path) -> None:
    pictures(tmp_path / "LES-AV", "images/1.png", "vessel-segmentations/1.png", "masks/1_mask.gif")
    (row,) = read("les-av", tmp_path).rows
    assert row.columns["field"].endswith("1_mask.gif")


def test_fives(tmp_path: Path) -> None:
    for part in ("train", "test"):
        pictures(tmp_path / part, "Original/1_A.png", "Ground truth/1_A.png")
    assert [(r.label, r.split) for r in read("fives", tmp_path).rows] == [("AMD", "train"), ("AMD", "test")]


def test_angio_report(tmp_path: Path) -> None:
    pictures(tmp_path, "12_R/FFA/1.png", "12_R/ICGA/2.png", "12_L/3.png", "13_L/4.png")
    rows = read("angioreport", tmp_path).rows
    assert [(r.patient, r.eye, r.modality) for r in rows] == [
        ("12", "left", "FFA"),
        ("12", "right", "FFA"),
        ("12", "right", "ICGA"),
        ("13", "left", "FFA"),
    ]


def test_retina_image_bank(tmp_path: Path) -> None:
    pictures(tmp_path, "a.png", "b.png")
    text(
        tmp_path / "metadata.csv",
        "File,Case,Modality,Diagnosis,Eye\na.png,7,FAF,Stargardt,OD\nb.png,7,OCT,,OS\n",
    )
    rows = read("retina-image-bank", tmp_path).rows
    assert [(r.patient, r.eye, r.modality) for r in rows] == [("7", "right", "FAF"), ("7", "left", "OCT")]


def biobank(folder: Path) -> list[dict[str, str]]:
    """Forty people; every fourth has a stroke two years after the visit; some have it before, or are lost."""
    heads = "eid,53-0.0,21003-0.0,42006-0.0,191-0.0"
    lines = [heads]
    for number in range(40):
        stroke = "2012-05-01" if number % 4 == 0 else ""
        lost = "2011-01-01" if number % 10 == 3 else ""
        if number == 8:
            stroke = "2009-01-01"  # before the visit
        if number == 12:
            stroke = "2019-01-01"  # after five years
        if number == 16:
            stroke = "1900-01-01"  # the Biobank's code for an unknown date
        lines.append(f"{1000 + number},2010-05-01,{50 + number % 10},{stroke},{lost}")
        pictures(folder, *(f"{1000 + number}_{field}_0_0.png" for field in (21015, 21016)))
    pictures(folder, "1000_21016_1_0.png", "9999_21016_0_0.png")
    text(folder / "people.csv", "\n".join(lines))
    return READERS["uk-biobank"](folder)


def test_uk_biobank_and_its_cohort(tmp_path: Path) -> None:
    rows = biobank(tmp_path)
    assert len(rows) == 81
    cohort = systemic_cohort(rows, "stroke", end="2020-01-01")
    assert {row["eye"] for row in cohort} == {"right"}
    assert len({row["patient_id"] for row in cohort}) == len(cohort)
    cases = [row for row in cohort if row["label"] == "disease"]
    assert {int(row["patient_id"]) - 1000 for row in cases} == {0, 4, 20, 24, 28, 32, 36}
    for band in (50, 55):
        ages = [r["label"] for r in cohort if band <= int(r["age"]) < band + 5]
        assert ages.count("disease") == ages.count("healthy")
    healthy = [int(row["patient_id"]) - 1000 for row in cohort if row["label"] == "healthy"]
    assert not any(number % 10 == 3 or number % 4 == 0 for number in healthy)
    assert cohort == systemic_cohort(rows, "stroke", end="2020-01-01")
    assert cohort != systemic_cohort(rows, "stroke", end="2020-01-01", seed=1)
    with pytest.raises(ManifestError, match="Unknown outcome"):
        systemic_cohort(rows, "gout", end="2020-01-01")
    with pytest.raises(ManifestError, match="No age band"):
        systemic_cohort(rows, "dementia", end="2020-01-01")


def test_the_systemic_protocol_runs_on_a_cohort(tmp_path: Path) -> None:
    biobank(tmp_path)
    make_manifest("uk-biobank", tmp_path)
    (tmp_path / "suite.toml").write_text(
        '[settings]\nseeds = [0]\nshots = [1]\nhead = "nearest-mean"\nbootstrap = 20\npermutations = 0\n'
        '[sets.stroke]\ntable = "manifest.csv"\ncohort = { outcome = "stroke", end = "2020-01-01" }\n'
        '[tasks.stroke]\nset = "stroke"\nprotocols = ["systemic"]\n'
    )
    suite = read_suite(tmp_path / "suite.toml")
    (asked,) = suite.asked
    assert asked.task.classes == ("disease", "healthy")
    assert len(asked.task.rows) == 2 * int((asked.task.truth == 0).sum())
    rows = asked.task.rows
    features = np.random.default_rng(0).normal(size=(len(rows), 4))
    for setting in settings_of("systemic", suite.settings):
        patients = asked.task.patients
        cell = run_cell("systemic", setting, features, asked.task, patients, suite.settings, None)
        assert cell.figures["auroc"]["mean"] is not None


@pytest.mark.parametrize("name", sorted(READERS))
def test_another_folder_is_refused_with_what_is_missing(name: str, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with pytest.raises(LayoutError):
        make_manifest(name, tmp_path / "other")
    with pytest.raises(LayoutError):
        make_manifest(name, tmp_path / "nowhere")


def test_a_manifest_elsewhere_still_finds_its_pictures(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures(tmp_path / "data", "images/01_h.jpg", "manual1/01_h.tif", "mask/01_h_mask.tif")
    out = tmp_path / "tables" / "hrf.csv"
    assert main(["manifest", "hrf", str(tmp_path / "data"), "--out", str(out)]) == 0
    assert "1 pictures, patients not named" in capsys.readouterr().out
    assert read_manifest(out).rows[0].path.is_file()
    assert main(["manifest", "list"]) == 0
    assert "idrid" in capsys.readouterr().out
    with pytest.raises(ConfigError, match="Did you mean 'idrid'"):
        make_manifest("idrd", tmp_path)
