"""``prepare`` and ``simulate`` say what went wrong, and never take their own output for photos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from conftest import disc_picture
from retina_fm.cli.main import main

SMALL = ["--size", "96", "--workers", "1"]


@pytest.fixture
def photos(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.fromarray(disc_picture(0, 96)).save(tmp_path / "photos" / "a.png")
    return tmp_path / "photos"


def test_output_below_the_photos_is_not_taken_for_photos(photos, capsys):
    out = photos / "out"
    for source in (photos, f"{photos}/**/*.png"):
        assert main(["simulate", str(source), "--out", str(out), "--json", *SMALL]) == 0
        report = json.loads(capsys.readouterr().out)
    assert (report["made"], report["reused"]) == (0, 1)
    assert main(["simulate", str(photos), "--out", str(photos), *SMALL]) != 0
    assert "folder of the photos" in capsys.readouterr().err


def test_the_cause_is_named_when_every_photo_fails(photos, tmp_path, capsys):
    (tmp_path / "masks").mkdir()
    command = ["simulate", str(photos), "--out", str(tmp_path / "out"), "--vessels", str(tmp_path / "masks")]
    assert main([*command, *SMALL]) != 0
    error = capsys.readouterr().err
    assert f"failed  {photos / 'a.png'}: no vessels mask" in error
    assert "None of 1 photos could be prepared" in error


@pytest.mark.parametrize("command", ["prepare", "simulate"])
@pytest.mark.parametrize("wrong", [["--drawn", "-1"], ["--workers", "-1"]], ids=" ".join)
def test_numbers_out_of_range_are_refused_before_anything_is_prepared(command, wrong, photos, tmp_path):
    assert main([command, str(photos), "--out", str(tmp_path / "out"), *wrong]) != 0
    assert not list(tmp_path.rglob("*.safetensors"))


@pytest.mark.parametrize("command", ["prepare", "simulate"])
def test_an_output_that_is_a_file_is_refused(command, photos, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main([command, str(photos), "--out", str(tmp_path / "file"), *SMALL]) != 0
    assert "cannot be the output folder" in capsys.readouterr().err


def test_folders_that_are_no_lesion_are_named(photos, tmp_path, capsys):
    for name in ("1. Haemorrhages", "2. Exsudates"):
        (tmp_path / "lesions" / name).mkdir(parents=True)
        Image.fromarray(np.zeros((96, 96), np.uint8)).save(tmp_path / "lesions" / name / "a.png")
    command = [
        "prepare",
        str(photos),
        "--out",
        str(tmp_path / "eyes"),
        "--lesions",
        str(tmp_path / "lesions"),
    ]
    assert main([*command, *SMALL]) == 0
    assert "ignored" in (said := capsys.readouterr().out)
    assert "2. Exsudates" in said
    assert "Haemorrhages" not in said
