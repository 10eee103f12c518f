"""Manifests, tasks, parts and leaks: what is wrong with data is said before anything is judged."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from evaluation.made import picture_set, write_csv
from pictures.drawn import fundus
from PIL import Image, ImageEnhance, ImageOps

from conftest import disc_picture
from retina_fm.errors import LeakError, ManifestError, ManifestWarning
from retina_fm.evaluation.leaks import find_repeats, joined_patients, read_prints, refuse_leaks
from retina_fm.evaluation.manifest import folder_manifest, read_manifest, write_manifest
from retina_fm.evaluation.splits import official_split, patient_folds, patient_split
from retina_fm.evaluation.tasks import classification_task, retrieval_task


def test_a_manifest_is_read_as_written(tmp_path: Path) -> None:
    manifest = read_manifest(picture_set(tmp_path / "set"), images="images")
    assert manifest.name == "set"
    assert len(manifest.rows) == 24
    row = manifest.rows[1]
    assert (row.name, row.patient, row.eye, row.label) == ("00_right.png", "p0", "right", "A")
    assert row.path.is_file()
    assert manifest.has_patients


def test_a_manifest_that_is_written_is_read_again(tmp_path: Path) -> None:
    Image.fromarray(disc_picture()).save(tmp_path / "a.png")
    rows = [{"path": "a.png", "extra, with comma": "1\n2", "label": "ärztlich"}]
    manifest = read_manifest(write_manifest(tmp_path / "m.csv", rows))
    assert manifest.rows[0].label == "ärztlich"
    assert manifest.rows[0].columns["extra, with comma"] == "1\n2"
    assert not manifest.has_patients
    with pytest.raises(ManifestError, match="no pictures"):
        write_manifest(tmp_path / "none.csv", [])


def test_paths_that_do_not_exist_are_counted_and_named(tmp_path: Path) -> None:
    table = picture_set(tmp_path)
    with pytest.raises(ManifestError, match=r"24 files that do not exist: 00_left.png.* and 21 more"):
        read_manifest(table)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([{"file": "a.png"}], "no rows with a column path"),
        ([{"path": "a.png"}, {"path": "a.png"}], "more than once"),
        ([{"path": "a.png", "eye": "OD"}], "eye 'od'; use left, right"),
        ([{"path": "a.png", "split": "dev"}], "split 'dev'"),
        (
            [{"path": "a.png", "patient_id": "1"}, {"path": "b.png", "patient_id": ""}],
            "b.png has none. Give each a patient_id",
        ),
    ],
)
def test_a_manifest_that_makes_no_sense_is_refused(tmp_path: Path, rows: list, message: str) -> None:
    with pytest.raises(ManifestError, match=message):
        read_manifest(write_csv(tmp_path / "m.csv", rows), check_files=False)


def test_no_table_and_no_chosen_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")
    table = picture_set(tmp_path)
    with pytest.raises(ManifestError, match="no column 'use'"):
        read_manifest(table, images="images", keep={"use": "yes"})
    with pytest.raises(ManifestError, match="no row with"):
        read_manifest(table, images="images", keep={"label": "C"})


def test_a_folder_with_masks_is_a_manifest(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        (tmp_path / kind).mkdir()
        Image.fromarray(disc_picture()).save(tmp_path / kind / "1.png")
    manifest = folder_manifest(tmp_path / "images", tmp_path / "masks", fields=tmp_path / "masks")
    assert manifest.rows[0].mask == tmp_path / "masks" / "1.png"
    (tmp_path / "masks" / "1.png").unlink()
    with pytest.raises(ManifestError, match="no mask"):
        folder_manifest(tmp_path / "images", tmp_path / "masks")
    with pytest.raises(ManifestError, match="no picture here"):
        folder_manifest(tmp_path / "masks")


def test_labels_missing_for_some_pictures_stop_or_are_left_out(tmp_path: Path) -> None:
    table = picture_set(tmp_path, grade=lambda number: "" if number == 3 else number % 2)
    manifest = read_manifest(table, images="images")
    with pytest.raises(ManifestError, match=r"2 of 24 pictures have no grade, the first 03_left\.png"):
        classification_task(manifest, label="grade")
    with pytest.warns(ManifestWarning, match="2 pictures without a grade are left out"):
        task = classification_task(manifest, label="grade", unlabelled="skip")
    assert len(task.rows) == 22
    assert task.left_out == {"no label": 2}
    assert task.positions.tolist() == [p for p in range(24) if p not in (6, 7)]
    with pytest.raises(ManifestError, match="no column 'stage'"):
        classification_task(manifest, label="stage")


def test_normal_against_a_disease_leaves_other_labels_out(tmp_path: Path) -> None:
    labels = ["N", "D", "N|D", "O", "G|D", "N"]
    table = picture_set(tmp_path, patients=6, flags=lambda number: labels[number])
    task = classification_task(
        read_manifest(table, images="images"), label="flags", positive=["D"], negative=["N"]
    )
    assert task.truth.tolist() == [0, 0, 1, 1, 1, 1, 1, 1, 0, 0]
    assert task.left_out == {"neither positive nor negative": 2}


def test_numbers_sort_as_numbers_and_one_class_is_refused(tmp_path: Path) -> None:
    table = picture_set(tmp_path, patients=11, grade=lambda number: number, same=lambda _: 1)
    manifest = read_manifest(table, images="images")
    assert classification_task(manifest, label="grade").classes == tuple(str(n) for n in range(11))
    with pytest.raises(ManifestError, match="one class alone"):
        classification_task(manifest, label="same")
    with pytest.raises(ManifestError, match="class positive has no picture"):
        classification_task(manifest, label="grade", positive=["12"], negative=["0"])


def test_official_parts_must_be_there(tmp_path: Path) -> None:
    table = picture_set(tmp_path, split=lambda number: "train" if number else "")
    with pytest.raises(ManifestError, match="no row in part 'test'"):
        classification_task(read_manifest(table, images="images"), official_split=True)


def test_retrieval_needs_a_patient_with_two_pictures(tmp_path: Path) -> None:
    manifest = read_manifest(picture_set(tmp_path), images="images")
    assert len(retrieval_task(manifest).rows) == 24
    for row in manifest.rows:
        object.__setattr__(row, "patient", row.name)
    with pytest.raises(ManifestError, match="no patient has two pictures"):
        retrieval_task(manifest)


def test_splits_keep_patients_together_and_classes_spread() -> None:
    random = np.random.default_rng(0)
    patients = np.repeat([f"p{n}" for n in range(100)], 2)
    truth = np.repeat(random.choice(3, 100, p=[0.7, 0.2, 0.1]), 2)
    for seed in range(5):
        parts = patient_split(truth, patients, seed=seed)
        assert sorted(np.concatenate(parts)) == list(range(200))
        for c in range(3):
            shares = [(truth[p] == c).sum() / (truth == c).sum() for p in parts]
            assert shares == pytest.approx([0.55, 0.15, 0.30], abs=0.11)
        fold = patient_folds(truth, patients, folds=5, seed=seed)
        assert all(len(set(fold[patients == p])) == 1 for p in set(patients))
        assert min(np.bincount(fold)) >= 34
    assert not (patient_folds(truth, patients, folds=5, seed=0) == fold).all()
    parts = official_split(np.array(["train"] * 150 + ["test"] * 50), truth, patients, seed=0)
    assert parts.test.tolist() == list(range(150, 200))
    assert len(parts.val) == pytest.approx(22, abs=4)


def test_too_few_patients_for_parts_or_folds_are_refused() -> None:
    with pytest.raises(ManifestError, match="Fewer than three patients"):
        patient_split(np.array([0, 1, 0]), np.array(["a", "b", "a"]), seed=0)
    with pytest.raises(ManifestError, match="2 patients cannot fill 5 folds"):
        patient_folds(np.array([0, 1]), np.array(["a", "b"]), folds=5, seed=0)


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Eight retinas with structure of their own, then four changed copies of the first."""
    folder = tmp_path_factory.mktemp("photos")
    paths = []

    def save(picture: Image.Image, name: str, **how: int) -> None:
        picture.save(folder / name, **how)
        paths.append(folder / name)

    for number in range(8):
        random = np.random.default_rng(number)
        picture = fundus(240, 240, seed=number).astype(float)
        rough = np.asarray(Image.fromarray(random.integers(0, 255, (40, 40), np.uint8)).resize((240, 240)))
        picture[picture.sum(-1) > 60] *= (0.7 + 0.6 * rough / 255)[picture.sum(-1) > 60][:, None]
        save(Image.fromarray(picture.clip(0, 255).astype(np.uint8)), f"{number}.png")
    first = Image.open(paths[0])
    save(first.resize((180, 180)), "smaller.png")
    save(first, "recompressed.jpg", quality=40)
    save(ImageEnhance.Color(ImageEnhance.Brightness(first).enhance(0.7)).enhance(0.4), "recoloured.png")
    save(first.transpose(Image.Transpose.FLIP_LEFT_RIGHT), "mirrored.png")
    return paths


def test_changed_copies_are_found_and_nothing_else(photos: list[Path], tmp_path: Path) -> None:
    prints = read_prints(photos, tmp_path / "prints.npz")
    repeats = find_repeats(prints)
    assert {(r.first, r.second) for r in repeats if r.first < 8} == {(0, 8), (0, 9), (0, 10), (0, 11)}
    again = read_prints(photos, tmp_path / "prints.npz")
    assert (again.vectors == prints.vectors).all()


def test_a_leaking_split_is_caught(photos: list[Path]) -> None:
    prints = read_prints(photos)
    names, patients = [p.name for p in photos], np.array([p.stem for p in photos])
    parts = np.array(["train"] * 8 + ["test"] * 4)
    with pytest.raises(LeakError, match=r"4 photographs are in two parts: 0.png \(train\) is "):
        refuse_leaks(names, parts, patients, find_repeats(prints))
    patients[[2, 9]] = "same"
    with pytest.raises(LeakError, match=r"1 patients are in more than one part \(same\)"):
        refuse_leaks(names, parts, patients, [])
    refuse_leaks(names, np.array(["train"] * 12), patients, find_repeats(prints))


def test_repeats_make_one_patient_of_two(photos: list[Path]) -> None:
    patients = np.array([p.stem for p in photos])
    joined = joined_patients(patients, find_repeats(read_prints(photos)))
    assert len(set(joined.tolist())) == 8
    assert len(set(joined[[0, 8, 9, 10, 11]].tolist())) == 1


def test_real_repeats_are_found(real_data: Path) -> None:
    table = real_data / "idrid_grading" / "labels.csv"
    with pytest.warns(ManifestWarning, match="use=no"):
        manifest = read_manifest(table, images="images")
    known = [r for r in manifest.rows if "md5" in r.columns["why_not"]][:3]
    rows = known + [r for r in manifest.rows if r.columns["use"] == "yes"][:12]
    rows += [r for r in manifest.rows if r.name in ("test_064.jpg", "train_045.jpg", "train_391.jpg")]
    rows = list({r.name: r for r in rows}.values())
    repeats = find_repeats(read_prints([r.path for r in rows]))
    pairs = {frozenset((rows[r.first].name, rows[r.second].name)) for r in repeats}
    assert frozenset(("train_118.jpg", "test_064.jpg")) in pairs
    assert len(pairs) <= 4


def test_a_damaged_picture_is_named(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.fromarray(disc_picture()).save(buffer, "PNG")
    (tmp_path / "broken.png").write_bytes(buffer.getvalue()[:200])
    from retina_fm.errors import PictureError

    with pytest.raises(PictureError, match=r"broken\.png"):
        read_prints([tmp_path / "broken.png"])


def test_spellings_of_a_patient_across_parts_are_a_leak_and_both_are_named(tmp_path: Path) -> None:
    rows = [("a", "P-007", "train"), ("b", "p7", "test"), ("c", "P8", "test")]
    names, patients, parts = (np.array(column) for column in zip(*rows, strict=True))
    with pytest.raises(LeakError, match=r"1 patients are in more than one part \('P-007' = 'p7'\)"):
        refuse_leaks(names.tolist(), parts, patients, [])
    assert joined_patients(patients, []).tolist() == ["P-007", "P-007", "P8"]
    unnamed = np.array(["eye-01.png", "eye-1.png"])  # no patient is named: each picture is its own
    refuse_leaks(unnamed.tolist(), np.array(["train", "test"]), unnamed, [])
    assert joined_patients(unnamed, [], unnamed.tolist()).tolist() == unnamed.tolist()


def test_a_manifest_says_what_it_took_for_one_class_and_what_it_judges_against_use(tmp_path: Path) -> None:
    labels = ["1 ", "1.0", "0", "NA", "0.0", "1"]
    table = picture_set(tmp_path, patients=6, grade=lambda number: labels[number])
    with pytest.warns(ManifestWarning) as said:
        task = classification_task(read_manifest(table, images="images"), label="grade", unlabelled="skip")
    assert task.classes == ("0", "1") and np.bincount(task.truth).tolist() == [4, 6]
    assert task.left_out == {"no label": 2}
    assert any("'1.0' is '1' (2 rows)" in str(warning.message) for warning in said)
    used = picture_set(tmp_path, use=lambda number: "No" if number == 3 else "Yes")
    with pytest.warns(ManifestWarning, match="2 rows say use=no"):
        read_manifest(used, images="images")
    assert len(read_manifest(used, images="images", keep={"use": "yes"}).rows) == 22
    assert len(read_manifest(used, images="images", keep={"use": True}).rows) == 22


@pytest.mark.parametrize("blank", ["NA", " ", "unknown"])
def test_blank_patients_of_a_manifest_are_nobody(tmp_path: Path, blank: str) -> None:
    rows = [{"path": name, "patient_id": blank} for name in ("a.png", "b.png")]
    manifest = read_manifest(write_csv(tmp_path / "m.csv", rows), check_files=False)
    assert not manifest.has_patients and [row.patient for row in manifest.rows] == ["a.png", "b.png"]


def test_a_manifest_of_semicolons_with_a_short_row_is_read_or_refused(tmp_path: Path) -> None:
    table = tmp_path / "m.csv"
    table.write_text("path;label;split\na.png;1;valid\n")
    assert read_manifest(table, check_files=False).rows[0].split == "val"
    table.write_text("path;label;split\na.png;1\n")
    with pytest.raises(ManifestError, match="line 2 has 2 cells"):
        read_manifest(table, check_files=False)


def _tight(picture: Image.Image, share: float) -> Image.Image:
    """The lit box less a share of each side."""
    left, top, right, bottom = picture.convert("L").point(lambda v: 255 * (v > 20)).getbbox()
    away = int(share * (right - left))
    return picture.crop((left + away, top + away, right - away, bottom - away))


COPIES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "flipped": lambda picture: picture.transpose(Image.Transpose.FLIP_TOP_BOTTOM),
    "mirrored": lambda picture: picture.transpose(Image.Transpose.FLIP_LEFT_RIGHT),
    "turned 90": lambda picture: picture.transpose(Image.Transpose.ROTATE_90),
    "turned 180": lambda picture: picture.transpose(Image.Transpose.ROTATE_180),
    "turned 270": lambda picture: picture.transpose(Image.Transpose.ROTATE_270),
    "transposed": lambda picture: picture.transpose(Image.Transpose.TRANSPOSE),
    "border cut off": lambda picture: _tight(picture, 0.0),
    "border and rim cut off": lambda picture: _tight(picture, 0.04),
    "border added": lambda picture: ImageOps.expand(picture, 40),
}


def test_turns_flips_cut_borders_and_recompression_are_found(photos: list[Path], tmp_path: Path) -> None:
    first = Image.open(photos[0])
    paths = list(photos[:8])
    for name, change in COPIES.items():
        change(first).save(tmp_path / f"{name}.png")
        paths.append(tmp_path / f"{name}.png")
    first.save(tmp_path / "q20.jpg", quality=20)
    repeats = find_repeats(read_prints([*paths, tmp_path / "q20.jpg"]))
    found = {repeat.second for repeat in repeats if repeat.first == 0}
    assert found == set(range(8, 8 + len(COPIES) + 1)), [
        name for number, name in enumerate([*COPIES, "q20"], start=8) if number not in found
    ]
    assert not [repeat for repeat in repeats if 0 < repeat.first < 8]
