"""The pages of ``docs/`` and the README: code that runs, commands that parse, links that lead somewhere."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from conftest import disc_picture, saved_generator
from retina_fm.cli.main import COMMANDS, build_parser

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
RUN = [
    *(
        "README.md",
        "docs/index.md",
        "docs/start/folder.md",
        "docs/start/labels.md",
        "docs/start/training-loop.md",
    ),
    *("docs/how-to/table.md", "docs/how-to/fuse.md", "docs/how-to/machines.md", "docs/coming-from.md"),
    *("docs/concepts/embedding.md", "docs/concepts/field-of-view.md", "docs/concepts/intervals.md"),
]
"""Pages that run from top to bottom here; adapters and fine-tuning have tests of their own."""
_FENCE = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")


def blocks(page: Path, *kinds: str) -> list[str]:
    return [code for kind, code in _FENCE.findall(page.read_text(encoding="utf-8")) if kind in kinds]


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Photos, labels and tiny weights under the names that the pages use."""
    root = tmp_path_factory.mktemp("pages")
    (root / "photos").mkdir()
    for number in range(8):
        Image.fromarray(disc_picture(number, 64)).save(root / "photos" / f"eye{number}.png")
    shutil.copy(root / "photos" / "eye0.png", root / "photo.jpg")
    rows = [f"eye{number}.png,{'ab'[number % 2]},p{number // 2}" for number in range(8)]
    (root / "labels.csv").write_text("\n".join(["path,label,patient_id", *rows]))
    for name in ("fundus2video", "fundus2video-half"):
        saved_generator(root / "weights" / name)
    return root


@pytest.mark.parametrize("name", RUN)
@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_page_runs_from_top_to_bottom(
    name: str, toys: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(toys / "photos", tmp_path / "photos")
    shutil.copy(toys / "photo.jpg", tmp_path)
    monkeypatch.setenv("RETINA_FM_WEIGHTS", str(toys / "weights"))
    monkeypatch.chdir(tmp_path)
    code = blocks(ROOT / name, "python")
    assert code
    names: dict[str, Any] = {"__name__": "page"}
    for block in code:
        exec(compile(block, name, "exec"), names)


@pytest.mark.parametrize("name", NAMES)
def test_code_of_a_page_compiles_and_its_commands_are_taken(name: str) -> None:
    for block in blocks(ROOT / name, "python"):
        compile(block, name, "exec")
    for block in blocks(ROOT / name, "sh", "bash", ""):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.strip().startswith("retina-fm "):
                continue
            words = shlex.split(line, comments=True)[1:]
            if any(word in ("...", "|") or word.startswith("[") for word in words):
                continue  # a synopsis
            try:
                build_parser().parse_known_args(words)
            except SystemExit:
                raise AssertionError(f"{name}: {line}") from None


def anchors(page: Path) -> set[str]:
    """Headings as the site and code hosts name them."""
    found = set()
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            plain = unicodedata.normalize("NFKD", line.lstrip("#").strip().lower())
            found.add(re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", plain)).strip("-"))
    return found


@pytest.mark.parametrize("name", NAMES)
def test_links_of_a_page_lead_somewhere(name: str) -> None:
    page = ROOT / name
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for link in _LINK.findall(text):
        if re.match(r"\w+:", link):
            continue
        place, _, anchor = link.partition("#")
        target = (page.parent / place).resolve() if place else page
        assert target.exists(), f"{name}: {link}"
        if anchor:
            assert anchor in anchors(target), f"{name}: {link}"


def test_every_page_is_in_the_sites_contents() -> None:
    contents = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert f": {page.relative_to(ROOT / 'docs').as_posix()}" in contents, page.name


def test_the_command_line_page_shows_every_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(os, "environ", dict(os.environ))
    spec = importlib.util.spec_from_file_location("hooks", ROOT / "docs" / "_hooks.py")
    assert spec is not None and spec.loader is not None
    hooks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    text = hooks.every_help()
    assert text.count("\n## ") + 1 == text.count("examples:") == len(COMMANDS)


@pytest.mark.slow
def test_the_site_builds_without_a_warning_and_without_network(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs")
    pytest.importorskip("mkdocstrings")
    command = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--quiet",
        "--site-dir",
        str(tmp_path / "site"),
    ]
    environment = {**os.environ, "http_proxy": "http://127.0.0.1:9", "https_proxy": "http://127.0.0.1:9"}
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=environment)
    assert ran.returncode == 0, ran.stderr
    front = (tmp_path / "site" / "index.html").read_text(encoding="utf-8")
    assert not re.findall(r'(?:src|rel="stylesheet" href)="(?:https?:)?//', front)
    reference = (tmp_path / "site" / "reference" / "adapters.html").read_text(encoding="utf-8")
    assert "FundusSegmenter" in reference and "mask_threshold" in reference
