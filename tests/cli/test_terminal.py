"""What a terminal is told: nothing that it obeys, nothing that its encoding lacks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import disc_picture
from tests.pictures.drawn import encoded

ROOT = Path(__file__).resolve().parents[2]
TINY = "fundus2video-tiny"
RUN = "import sys; from retina_fm.cli.main import main; sys.exit(main())"
NAMES = ["a\x1b]0;title\x07b\x1b[2J.png", "\u202egnp.exe.png", "Müller \u00e9 \u65e5.png", "\x9b31m\x7f.png"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in NAMES:
        (photos / name).write_bytes(b"no picture")
    if sys.platform == "linux":
        (photos / os.fsdecode(b"\xe9t\xe9.png")).write_bytes(b"no picture")
    (photos / "good.png").write_bytes(encoded(disc_picture(0), "PNG"))
    (photos / "notes.\x1b[2J").touch()
    return photos


def run(*arguments: str, encoding: str) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", RUN, *arguments],
        cwd=ROOT, capture_output=True, timeout=300, env={**os.environ, "PYTHONIOENCODING": encoding},
    )  # fmt: skip


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow), "utf-8"])
def test_names_with_escapes_are_shown_and_not_obeyed(folder: Path, tmp_path: Path, encoding: str) -> None:
    command = [
        "encode",
        str(folder),
        "--out",
        str(tmp_path / "e.parquet"),
        "--model",
        TINY,
        "--on-error",
        "skip",
    ]
    done = run(*command, encoding=encoding)
    assert done.returncode == 0, done.stderr.decode(errors="replace")
    for shown in (done.stdout.decode(encoding), done.stderr.decode("utf-8", "replace")):
        obeyed = [
            c for c in shown if (ord(c) < 32 and c not in "\n\r\t") or 127 <= ord(c) < 160 or c == "\u202e"
        ]
        assert not obeyed and "Traceback" not in shown
    assert b"skipped" in done.stdout and b"\\x1b]0;title\\x07b" in done.stdout
    assert b"1 file passed over: 1 .\\x1b[2j" in done.stderr
    report = json.loads(run(*command, "--json", encoding=encoding).stdout.decode(encoding))
    assert {Path(name).name for name, _ in report["skipped"]} >= set(NAMES)


@pytest.mark.parametrize("encoding", ["ascii", pytest.param("utf-8", marks=pytest.mark.slow)])
def test_errors_are_escaped_too(tmp_path: Path, encoding: str) -> None:
    done = run(
        "encode",
        "gone\x1b[2J\u00e9.png",
        "--out",
        str(tmp_path / "e.parquet"),
        "--model",
        TINY,
        encoding=encoding,
    )
    assert done.returncode == 1 and b"\x1b" not in done.stderr and b"\\x1b[2J" in done.stderr
