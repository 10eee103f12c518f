from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture
from retina_fm import adapters
from retina_fm.adapters import prediction_files
from retina_fm.adapters.prediction_files import read_labels, write_table
from retina_fm.cli.main import main
from retina_fm.errors import WeightsNotFoundError

TINY = "fundus2video-tiny"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos with masks and a labels.csv: six patients with two eyes, the even ones tinted."""
    root = tmp_path_factory.mktemp("clinic")
    rows = []
    for number in range(12):
        picture = disc_picture(number, 96)
        if number % 2 == 0:
            picture = (picture * (0.3, 0.5, 1.0)).astype(np.uint8)
        for part in ("images", "masks"):
            (root / part).mkdir(exist_ok=True)
        Image.fromarray(picture).save(root / "images" / f"eye{number}.png")
        mask = np.zeros((96, 96), np.uint8)
        mask[30:60, 30:60] = 255
        Image.fromarray(mask).save(root / "masks" / f"eye{number}.png")
        split = "test" if number > 9 else "train"
        rows.append(
            (f"eye{number}.png", "tint" if number % 2 == 0 else "plain", f"p{number // 2}", number, split)
        )
    with (root / "labels.csv").open("w", newline="") as stream:
        csv.writer(stream).writerows([("path", "label", "patient_id", "age", "split"), *rows])
    return root


def test_segmentation_from_folders_to_masks_and_overlays(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter = tmp_path / "adapter"
    command = ["adapt", "segmentation", "--images", str(folder / "images"), "--masks", str(folder / "masks")]
    command += ["--shots", "1", "--steps", "3", "--model", TINY, "--out", str(adapter), "--json"]
    assert main(command) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["trained on"] == "1 photo"
    assert {path.name for path in adapter.iterdir()} == {"README.md", "adapter.json", "adapter.safetensors"}
    photos = [str(folder / "images" / f"eye{number}.png") for number in (1, 2)]
    assert main(["predict", str(adapter), *photos, "--out", str(tmp_path / "out"), "--probabilities"]) == 0
    for place in (".", "overlays", "probabilities"):
        assert (tmp_path / "out" / place / "eye1.png").is_file()
    mask = np.asarray(Image.open(tmp_path / "out" / "eye1.png"))
    assert mask.shape == (96, 96)
    assert set(np.unique(mask)) <= {0, 255}


def test_classification_from_a_table_to_a_table(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out.csv"
    command = ["adapt", "classification", "--labels", str(folder / "labels.csv"), "--head", "linear"]
    assert main([*command, "--model", TINY, "--out", str(adapter)]) == 0
    assert "trained on: 10 photos" in capsys.readouterr().out
    assert main(["predict", str(adapter), str(folder / "images"), "--out", str(out)]) == 0
    with out.open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 12
    assert set(rows[0]) == {"path", "prediction", "p_plain", "p_tint"}
    assert float(rows[0]["p_plain"]) + float(rows[0]["p_tint"]) == pytest.approx(1, abs=1e-5)
    assert [row["prediction"] for row in rows] == ["tint", "plain"] * 6
    photo = str(folder / "images" / "eye1.png")
    assert main(["predict", str(adapter), photo, "--out", str(out), "--explain", "gradients"]) == 0
    assert "1 heat maps (gradients)" in capsys.readouterr().out
    assert np.load(tmp_path / "out-heat" / "eye1.npy").shape == (96, 96)


def test_photos_that_cannot_be_read_do_not_keep_the_others_from_their_rows(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    adapter, out = tmp_path / "adapter", tmp_path / "out.csv"
    images = shutil.copytree(folder / "images", tmp_path / "images")
    command = ["adapt", "classification", "--labels", str(folder / "labels.csv"), "--head", "linear"]
    assert main([*command, "--model", TINY, "--out", str(adapter)]) == 0
    monkeypatch.setattr(prediction_files, "_AT_ONCE", 5)
    assert main(["predict", str(adapter), str(images), "--out", str(out)]) == 0
    whole = out.read_text().splitlines()
    (images / "eye3.png").write_bytes(b"nonsense")
    capsys.readouterr()
    assert main(["predict", str(adapter), str(images), "--out", str(out)]) == 1
    said = capsys.readouterr()
    assert "11 photos" in said.out and said.err.count("failed:") == 1 and "eye3.png" in said.err
    assert out.read_text().splitlines() == [line for line in whole if "eye3.png" not in line]
    monkeypatch.setattr(prediction_files, "write_table", _interrupted)
    assert main(["predict", str(adapter), str(images), "--out", str(out)]) == 130
    assert capsys.readouterr().err == "retina-fm: interrupted\n"


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_regression_writes_a_value_a_photo(folder: Path, tmp_path: Path) -> None:
    command = ["adapt", "regression", "--labels", str(folder / "labels.csv"), "--column", "age"]
    assert main([*command, "--head", "linear", "--model", TINY, "--out", str(tmp_path / "a")]) == 0
    assert main(["predict", str(tmp_path / "a"), str(folder / "images"), "--out", str(tmp_path / "o")]) == 0
    lines = (tmp_path / "o" / "predictions.csv").read_text().splitlines()
    assert lines[0] == "path,value"
    assert len(lines) == 13


def test_rows_to_validate_on_are_told_and_scored(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = folder / "val.csv"
    table.write_text((folder / "labels.csv").read_text().replace(",test\n", ",val\n"))
    command = ["--labels", str(table), "--images", str(folder / "images"), "--model", TINY, "--json"]
    for task, figure, more in (
        ("classification", "validation AUROC", ["--head", "nearest-mean"]),
        ("regression", "validation error", ["--head", "neighbours", "--column", "age"]),
    ):
        assert main(["adapt", task, *command, *more, "--out", str(tmp_path / task)]) == 0
        report = json.loads(capsys.readouterr().out)
        assert (report["trained on"], report["validated on"]) == ("10 photos", "2 photos")
        (kept,) = adapters.load(tmp_path / task).metrics().values()
        assert report[figure] == round(kept, 3)


def test_a_broken_photo_does_not_keep_the_others_and_a_rerun_goes_on(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    photos = [str(folder / "images" / "eye1.png"), str(tmp_path / "broken.png")]
    command = ["predict", "drusen", "--model", TINY, "--out", str(tmp_path / "out")]
    assert main([*command, *photos]) == 1
    told = capsys.readouterr()
    assert "1 masks" in told.out and "failed: " in told.err and "broken.png" in told.err
    photos[1] = str(folder / "images" / "eye2.png")
    asked = []
    whole = adapters.FundusSegmenter.predict_proba
    monkeypatch.setattr(
        adapters.FundusSegmenter, "predict_proba", lambda self, one: asked.extend(one) or whole(self, one)
    )
    assert main([*command, *photos, "--resume"]) == 0
    assert "1 masks, 1 were there" in capsys.readouterr().out
    assert asked == [photos[1]]


def test_missing_weights_are_not_taken_for_a_full_disk(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise WeightsNotFoundError("no such weights")

    monkeypatch.setattr(adapters.FundusSegmenter, "predict_proba", missing)
    photo = str(folder / "images" / "eye1.png")
    assert main(["predict", "drusen", photo, "--model", TINY, "--out", str(tmp_path)]) == 1
    assert "no such weights" in capsys.readouterr().err


def test_paths_of_a_table_and_labels_that_are_not_there(folder: Path, tmp_path: Path) -> None:
    rows = read_labels(folder / "labels.csv", "label")
    assert rows.paths[0] == str(folder / "images" / "eye0.png")
    table = folder / "others.csv"
    table.write_text("path,label\nimages/eye0.png,a\nimages/eye1.png,nan\nimages/eye2.png,\n")
    assert read_labels(table, "label").paths == [str(folder / "images" / "eye0.png")]
    (tmp_path / "file").write_text("")
    command = ["adapt", "classification", "--labels", str(folder / "labels.csv"), "--model", TINY]
    assert main([*command, "--out", str(tmp_path / "file")]) == 1


def test_lesions_are_read_without_an_adapter(folder: Path, tmp_path: Path) -> None:
    photo = str(folder / "images" / "eye1.png")
    assert main(["predict", "haemorrhage", photo, "--model", TINY, "--out", str(tmp_path)]) == 0
    assert (tmp_path / "overlays" / "eye1.png").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["adapt", "segmentation", "--images", "x"], "needs --images DIR and --masks DIR"),
        (["adapt", "classification"], "needs --labels"),
        (["adapt", "classification", "--labels", "nowhere.csv"], "cannot be read as CSV"),
        (["adapt", "segmentation", "--shots", "0"], "needs no adapter"),
        (["predict", "nowhere", "x.png"], "is no adapter's folder"),
    ],
)
def test_wrong_use_ends_with_one_line(
    arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = ["--model", TINY] if arguments[0] == "adapt" else []
    assert main([*arguments, *model, "--out", str(tmp_path / "out")]) == 1
    assert message in capsys.readouterr().err


def test_a_table_without_the_column_names_those_there(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["adapt", "classification", "--labels", str(folder / "labels.csv"), "--column", "grade"]
    assert main([*command, "--model", TINY, "--out", str(tmp_path)]) == 1
    assert "no column 'grade'; it has path, label" in capsys.readouterr().err


def test_photos_of_one_name_are_refused(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photo = str(folder / "images" / "eye1.png")
    command = ["predict", "drusen", photo, photo, "--model", TINY, "--out", str(tmp_path)]
    assert main(command) == 1
    assert "share a name (eye1)" in capsys.readouterr().err


def test_a_table_of_labels_says_what_it_understood(tmp_path: Path) -> None:
    table = tmp_path / "labels.csv"
    table.write_text(
        "Path;Label;Patient ID;Split;Use\n"
        "a.png;1 ;P1;train;yes\nb.png;1.0;p1;valid;\nc.png;NA;P2;;\nd.png;0;;;No\ne.png;0; ;;Yes\n"
        "f.png;0;unknown;test;\ne.png;0;;;Yes\n"
    )
    found = read_labels(table, "label")
    assert [Path(path).name for path in found.paths] == ["a.png", "b.png", "e.png", "f.png"]
    assert found.labels == ["1", "1", "0", "0"]
    assert found.split == ["train", "val", "train", "test"]
    assert found.patients is not None and len(set(found.patients)) == 4  # P1, p1, and two of nobody
    assert "0 (1), 1 (2)" in found.understood
    assert "left out: 1 without a label, 1 with use=no, 1 of split=test" in found.understood
    assert "1 repeated rows read once" in found.understood and "'1.0' is '1'" in found.understood
    assert "'P1' = 'p1'" in found.understood


class _Answers:
    classes_ = np.array(["=cmd|' /C calc'!A1", "-1"])
    progress = False

    @property
    def head_(self) -> _Answers:
        return self

    def embed(self, photos: list[str]) -> np.ndarray:
        return np.zeros((len(photos), 1))

    def predict(self, embeddings: np.ndarray) -> np.ndarray:
        return self.classes_[[0, 1, 0][: len(embeddings)]]

    def predict_proba(self, embeddings: np.ndarray) -> np.ndarray:
        return np.full((len(embeddings), 2), 0.5)


def test_predictions_are_nothing_that_a_spreadsheet_runs(tmp_path: Path) -> None:
    names = ["=1+1.png", "-eye.png", "@x.png"]
    table = write_table(_Answers(), names, tmp_path / "out.csv").path
    with table.open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert [row["path"] for row in rows] == ["./=1+1.png", "./-eye.png", "./@x.png"]
    assert [row["prediction"] for row in rows] == ["'=cmd|' /C calc'!A1", "-1", "'=cmd|' /C calc'!A1"]
