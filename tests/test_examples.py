"""The scripts of ``examples/``, run as they are, and their types as a user's type checker sees them."""

from __future__ import annotations

import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm import adapters

ROOT = Path(__file__).resolve().parent.parent
EXAMPLES = ROOT / "examples"
TINY = "fundus2video-tiny"


def run(name: str, *arguments: object) -> None:
    main: Any = runpy.run_path(str(EXAMPLES / f"{name}.py"))["main"]
    main(*map(str, arguments))


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(4):
        Image.fromarray(disc_picture(number, 96)).save(folder / f"eye{number}.png")
    return folder


def test_each_example_is_short_and_says_how_it_is_called() -> None:
    scripts = sorted(EXAMPLES.glob("*.py"))
    assert len(scripts) == 6
    for script in scripts:
        lines = script.read_text().splitlines()
        assert len(lines) < 60, script.name
        assert any(line.startswith(f"python examples/{script.name} ") for line in lines[:4]), script.name


def test_a_folder_is_embedded(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("embed_a_folder", photos, tmp_path / "e.csv", TINY)
    assert len((tmp_path / "e.csv").read_text().splitlines()) == 5
    told = capsys.readouterr().out
    assert "rows=4" in told and "photo 3: nearest is" in told


def test_labels_make_a_classifier(photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [f"eye{number % 4}.png,{'ab'[number % 2]},p{number}" for number in range(4)]
    (photos / "labels.csv").write_text("\n".join(["path,label,patient_id", *rows]))
    run("classify_with_labels", photos / "labels.csv", tmp_path / "adapter", TINY)
    assert "FundusClassifier(model='fundus2video-tiny', dtype=" in capsys.readouterr().out
    assert adapters.load(tmp_path / "adapter", task="classification").classes_.tolist() == ["a", "b"]


@pytest.mark.slow
def test_one_mask_is_enough(photos: Path, tmp_path: Path) -> None:
    mask = np.zeros((96, 96), np.uint8)
    mask[30:60, 30:60] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    arguments = photos / "eye0.png", tmp_path / "mask.png", photos, tmp_path / "out", TINY, 2
    run("vessels_from_one_example", *arguments)
    assert len(list((tmp_path / "out").iterdir())) == 8
    assert np.asarray(Image.open(tmp_path / "out" / "eye2.png")).shape == (96, 96)


def test_the_same_patient_is_looked_for(
    photos: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(photos / "eye1.png", photos / "again.png")
    run("find_the_same_patient", photos, photos / "eye1.png", tmp_path / "hits.html", TINY)
    told = capsys.readouterr().out
    assert "UpdateReport(total=5, unchanged=0, encoded=" in told and "again.png" in told
    assert (tmp_path / "hits.html").stat().st_size > 1000


def test_the_encoder_is_fine_tuned(photos: Path, tmp_path: Path) -> None:
    for name, number in (("a", 0), ("a", 1), ("b", 2), ("b", 3)):
        (photos / name).mkdir(exist_ok=True)
        (photos / f"eye{number}.png").rename(photos / name / f"eye{number}.png")
    run("fine_tune_in_torch", photos, tmp_path / "mine", TINY, 1)
    assert retina_fm.load(str(tmp_path / "mine")).num_classes == 2


def test_an_angiogram_and_lesions_are_drawn(photos: Path, tmp_path: Path, generator_folder: Path) -> None:
    run("angiogram_and_lesions", photos / "eye0.png", tmp_path / "out", generator_folder)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"angiogram.gif", "haemorrhage.png"} <= names


REVEALED = {
    "retina_fm.adapt('segmentation')": "FundusSegmenter",
    "retina_fm.adapt('classification', head='linear')": "FundusClassifier",
    "retina_fm.adapters.load('a', task='regression')": "FundusRegressor",
    "retina_fm.index('a').search('q.png')": "Hits",
    "retina_fm.index('a').search('q.png')[0].path": 'str"',
    "retina_fm.index('a').search(['q.png'])[0][0].score": 'float"',
    "retina_fm.load('fundus2video')": "Fundus2VideoEncoder",
    "retina_fm.encode('a')": "ndarray",
    "retina_fm.generate('a').frames": "unsignedinteger",
}


@pytest.mark.slow
def test_a_type_checker_sees_real_types(tmp_path: Path) -> None:
    pytest.importorskip("mypy")
    target = tmp_path / "seen" / "retina_fm"
    shutil.copytree(ROOT / "retina_fm", target, ignore=shutil.ignore_patterns("__pycache__"))
    for part in ("adapters", "indexes", "training", "weights"):
        ignored = shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(ROOT / part, target / part, ignore=ignored)
    for script in EXAMPLES.glob("*.py"):
        shutil.copy(script, tmp_path)
    asked = [f"reveal_type({expression})" for expression in REVEALED]
    wrong = "retina_fm.adapt('classification', steps=5)"
    lines = ["import retina_fm", "import retina_fm.adapters", *asked, wrong]
    (tmp_path / "asked.py").write_text("\n".join(lines))
    scripts = sorted(path.name for path in tmp_path.glob("*.py"))
    # the cache of ./check, where there is one: the libraries below are large
    command = [
        sys.executable,
        "-m",
        "mypy",
        "--strict",
        "--allow-untyped-calls",
        "--follow-imports=silent",
        "--no-error-summary",
    ]
    command += ["--config-file", str(ROOT / "pyproject.toml"), "--cache-dir", str(ROOT / ".mypy_cache")]
    ran = subprocess.run(
        [*command, *scripts], cwd=tmp_path, capture_output=True, text=True, check=False,
        env={"PATH": "/usr/bin:/bin", "MYPYPATH": str(tmp_path / "seen")},
    )  # fmt: skip
    told = ran.stdout.splitlines()
    revealed = [line for line in told if "Revealed type" in line]
    for line, (expression, kind) in zip(revealed, REVEALED.items(), strict=True):
        assert kind in line, (expression, line)
    errors = [line for line in told if ": error:" in line]
    assert len(errors) == 1 and errors[0].startswith(f"asked.py:{len(lines)}:"), told
