from __future__ import annotations

import errno
import json
import subprocess
import sys
import warnings
from pathlib import Path

import pyarrow.parquet as pq
import pytest

import retina_fm
from retina_fm.cli.main import main

ROOT = Path(retina_fm.__file__).parent.parent


def run(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = main(list(arguments))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_encode_writes_a_table_and_reports(
    capsys: pytest.CaptureFixture[str], photo_folder: Path, tmp_path: Path
) -> None:
    out = str(tmp_path / "emb.parquet")
    code, text, _ = run(capsys, "encode", str(photo_folder), "--out", out, "--model", "fundus2video-tiny")
    assert code == 0 and "11 rows" in text and "a second" in text
    code, text, _ = run(
        capsys, "encode", str(photo_folder), "--out", out, "--model", "fundus2video-tiny", "--json"
    )
    assert code == 0 and json.loads(text)["reused"] == 11
    assert pq.read_table(out).num_rows == 11


def test_several_folders_and_files_are_joined(
    capsys: pytest.CaptureFixture[str], photo_folder: Path, tmp_path: Path
) -> None:
    named = [str(photo_folder / "deep"), str(photo_folder / "eye[12].png"), str(photo_folder / "eye3.png")]
    out = str(tmp_path / "emb.parquet")
    code, _, _ = run(capsys, "encode", *named, "--out", out, "--model", "fundus2video-tiny")
    names = [Path(path).stem for path in pq.read_table(out).column("path").to_pylist()]
    assert code == 0 and names == ["eye10", "eye11", "eye1", "eye2", "eye3"]


def test_errors_are_one_line_and_code_1(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = (
        "encode",
        str(tmp_path),
        "--out",
        str(tmp_path / "e.parquet"),
        "--model",
        "fundus2video-tiny",
    )
    code, out, err = run(capsys, *arguments)
    assert code == 1 and out == "" and len(err.strip().splitlines()) == 1 and "no picture" in err
    code, out, err = run(capsys, *arguments, "--json")
    assert code == 1 and json.loads(out)["error"] == "NoPicturesError"


def test_missing_weights_name_the_way_on(capsys: pytest.CaptureFixture[str], photo_folder: Path) -> None:
    code, _, err = run(capsys, "encode", str(photo_folder), "--out", "x.parquet", "--model", "retfound")
    assert code == 1 and "retina-fm convert" in err


def test_wrong_usage_is_code_2() -> None:
    with pytest.raises(SystemExit) as caught:
        main(["encode"])
    assert caught.value.code == 2


def test_models_lists_names_licences_and_state(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "models", "--json")
    models = {model["name"]: model for model in json.loads(text)}
    assert code == 0 and models["fundus2video-tiny"]["folder"] and models["retfound"]["restricted"]
    assert "CC-BY-NC-4.0 (restricted)" in run(capsys, "models")[1]


def test_doctor_passes_here_and_gives_a_remedy_for_each_warning(capsys: pytest.CaptureFixture[str]) -> None:
    code, text, _ = run(capsys, "doctor", "--json")
    checks = json.loads(text)
    assert code == 0 and {check["outcome"] for check in checks} <= {"PASS", "WARN"}
    assert all(check["remedy"] for check in checks if check["outcome"] != "PASS")
    assert {"torch", "torchvision", "processor", "weights", "network"} <= {check["name"] for check in checks}


def test_doctor_fails_on_damaged_weights(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "fundus2video-tiny"
    folder.mkdir()
    for file in (ROOT / "weights" / "fundus2video-tiny").iterdir():
        data = file.read_bytes()
        (folder / file.name).write_bytes(data if file.suffix == ".json" else data[:-1] + b"?")
    monkeypatch.setenv("RETINA_FM_WEIGHTS", str(tmp_path))
    code, text, _ = run(capsys, "doctor")
    assert code == 1 and "FAIL" in text and "SHA-256" in text


def test_convert_reports_faults(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, _, err = run(
        capsys, "convert", str(tmp_path / "no.pth"), "--layout", "flair", "--out", str(tmp_path)
    )
    assert code == 1 and "no checkpoint" in err


def test_the_demo_takes_the_users_photos_and_skips_bad_ones(
    capsys: pytest.CaptureFixture[str], photo_folder: Path, tmp_path: Path
) -> None:
    (photo_folder / "eye1.png").write_bytes(b"no picture")
    arguments = (
        "demo",
        str(photo_folder),
        "--out",
        str(tmp_path / "d"),
        "--model",
        "fundus2video-tiny",
        "--json",
    )
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, text, err = run(capsys, *arguments)
    report = json.loads(text)
    assert sum("eye1" in line for line in err.splitlines()) == 1, err
    assert code == 0 and report["photos"] == 10 and report["fellow_eyes"] is None
    assert "1 photos could not be read" in (tmp_path / "d" / "index.html").read_text()


def test_help_of_every_command_says_what_it_does() -> None:
    command = [sys.executable, "-c", "from retina_fm.cli.main import main; main()", "--help"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT).stdout
    for name in ("encode", "demo", "models", "convert", "doctor"):
        assert name in text


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "retina_fm", "--version"]
    found = subprocess.run(command, capture_output=True, text=True, cwd=ROOT)
    assert found.returncode == 0 and found.stdout.startswith("retina-fm ")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is always full")
def test_a_full_disk_behind_standard_output_ends_with_one_line() -> None:
    run = "import sys; from retina_fm.cli.main import main; sys.exit(main(['models']))"
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-c", run], stdout=full, stderr=subprocess.PIPE, text=True, check=False
        )
    assert done.returncode == 1
    assert (
        "No space left" in done.stderr and "Traceback" not in done.stderr and "Exception" not in done.stderr
    )


def test_an_error_of_the_system_ends_with_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device", "/mnt/x")

    monkeypatch.setattr("retina_fm.cli.models.run", full)
    assert main(["models"]) == 1
    assert "/mnt/x cannot be read or written (No space left on device)" in capsys.readouterr().err
