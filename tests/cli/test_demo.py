"""The demo: one page that needs nothing from elsewhere, and code under its panels that is true."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import retina_fm
from retina_fm._io.folders import MARKER
from retina_fm.cli.main import main
from retina_fm.cli.work import demo
from retina_fm.cli.work.demo import DemoReport, run_demo
from retina_fm.cli.work.demo_panels import FewShots, chance, learn_from_few, make_index
from retina_fm.cli.work.demo_photos import draw_photos
from retina_fm.indexes import ImageIndex

CODE = re.compile(r"<pre>(.*?)</pre>", re.DOTALL)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("drawn") / "photos"
    draw_photos(folder, patients=6, size=64, workers=0)
    return folder


@pytest.fixture(scope="module")
def shown(
    drawn: Path, generator_folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[DemoReport, list[str]]:
    out = tmp_path_factory.mktemp("demo") / "out"
    out.mkdir()
    shutil.copytree(drawn, out / "photos")
    (out / MARKER).write_text("")
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(out.parent)  # the folder lies below, and is named from the root
        patch.setattr(demo, "draw_photos", lambda folder: draw_photos(folder, 6, 64, 0))
        report = run_demo(None, out, model=str(generator_folder), progress=False, say=said.append)
    return report, said


def test_every_eye_is_drawn_and_one_of_each_patient_twice(drawn: Path) -> None:
    with (drawn / "labels.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["path"] for row in rows) == sorted(path.name for path in drawn.glob("*.png"))
    assert len(rows) == 18
    assert {row["label"] for row in rows} == {"healthy", "diseased"}
    eyes = [row["eye_id"] for row in rows]
    assert sorted(eyes.count(eye) for eye in set(eyes)) == [1] * 6 + [2] * 6
    twice = [row["path"] for row in rows if row["visit"] == "2"]
    one, other = (np.asarray(Image.open(drawn / name.replace("_2", way))) for name, way in
                  ((twice[0], "_1"), (twice[0], "_2")))  # fmt: skip
    assert np.abs(one.astype(int) - other).mean() > 2


def test_photos_that_are_there_are_not_drawn_again(drawn: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in drawn.glob("*.png")}
    draw_photos(drawn, patients=6, size=64, workers=0)
    assert {path: path.stat().st_mtime_ns for path in drawn.glob("*.png")} == before


@pytest.mark.slow
def test_the_page_is_self_contained_and_has_every_panel(shown: tuple[DemoReport, list[str]]) -> None:
    report, said = shown
    page = report.page.read_text()
    assert not re.findall(r'(?:href|src)="(?!data:)', page)
    assert "http" not in page and "url(" not in page and "<link" not in page
    assert page.count('<figure class="layers">') == 2
    assert page.count("<animate ") == 2, "each eye has its loop of frames"
    assert "are being generated" not in page
    assert page.count("<polyline") == 20, "a line a draw"
    assert 'id="limits"' in page and "other eye" in page and "chance" in page
    assert [line.split(maxsplit=2)[2].split()[0] for line in said[:2]] == ["drawing", "encoding"]
    assert 0 < report.first_page <= report.seconds


@pytest.mark.slow
def test_the_code_under_each_panel_gives_what_the_panel_shows(
    shown: tuple[DemoReport, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    report, _ = shown
    blocks = [html.unescape(block) for block in CODE.findall(report.page.read_text())]
    assert len(blocks) == 3
    monkeypatch.chdir(report.page.parent)
    names: dict[str, Any] = {}
    for block in blocks:
        exec(block, names)
    assert names["angiogram"].frames.shape == (12, 64, 64)
    assert names["vessels"].shape == (64, 64)
    assert names["recall"] == pytest.approx(report.same_eye)
    assert f"{names['hits'][0].score:.2f}" in report.page.read_text()
    from retina_fm.metrics.scores import auroc

    truth = names["labels"][names["draw"].rest] == "diseased"
    index = make_index(draw_photos(Path("photos"), 6, 64, 0), names["model"], progress=False)
    few = learn_from_few(index, "label")
    assert not isinstance(few, str)
    assert float(auroc(truth, names["scores"])) == pytest.approx(few.aurocs[0])
    assert report.auroc == pytest.approx(np.mean(few.aurocs))


def test_the_page_before_the_angiograms_says_that_they_come(
    drawn: Path, generator_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    def look(eye: Any, *_: Any) -> Any:
        seen.append((tmp_path / "out" / "index.html").read_text())
        return eye

    monkeypatch.setattr(demo, "with_angiogram", look)
    photos = sorted(map(str, drawn.glob("patient01*.png")))
    run_demo(photos, tmp_path / "out", model=str(generator_folder), progress=False)
    assert "are being generated now" in seen[0]
    assert seen[0].rstrip().endswith("</html>") and 'id="limits"' in seen[0]


@pytest.mark.slow
def test_the_users_photos_and_labels_named_from_the_root_and_lying_below(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(drawn.parent)
    words = ["demo", str(drawn), "--labels", str(drawn / "labels.csv"), "--out", str(tmp_path / "d")]
    assert main([*words, "--model", "fundus2video-tiny", "--json"]) == 0
    captured = capsys.readouterr()
    report = json.loads(captured.out)
    assert report["photos"] == 18 and report["same_eye"] is not None and report["auroc"] is not None
    assert "encoding 18 photos" in captured.err
    page = (tmp_path / "d" / "index.html").read_text()
    assert "18 photos of 6 patients" in page and "drawn photos" not in page
    assert "generates no angiogram" in page
    assert not (drawn / ".retina-fm-index").exists(), "nothing is written into the user's folder"


def test_a_column_that_is_not_there_is_told_before_the_model_is_loaded(
    drawn: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["demo", str(drawn), "--labels", str(drawn / "labels.csv"), "--out", str(tmp_path / "d")]
    assert main([*words, "--column", "grade"]) == 1
    assert "no column 'grade'; it has patient_id, eye, visit, label" in capsys.readouterr().err
    assert not (tmp_path / "d").exists()
    assert main(["demo", "--column", "grade"]) == 1
    assert "--labels" in capsys.readouterr().err


def test_chance_is_that_of_a_random_order() -> None:
    groups = np.array(["a", "a", "b", "b", "c", ""], object)
    assert chance(groups, 1) == pytest.approx(1 / 5)
    assert chance(groups, 5) == 1
    right = np.array([True, False, True, False, False, False])
    assert chance(groups, 1, right, ~right) == pytest.approx(1 / 4)
    rng = np.random.default_rng(0)
    hits = [groups[rng.permutation(np.delete(np.arange(6), 0))[:2]] for _ in range(4000)]
    assert chance(groups, 2, np.arange(6) == 0) == pytest.approx(
        np.mean(["a" in hit for hit in hits]), abs=0.03
    )


def labelled(labels: list[str], patients: list[str]) -> ImageIndex:
    """Embeddings that tell class b from the others."""
    rng = np.random.Generator(np.random.PCG64(0))
    embeddings = rng.normal(size=(len(labels), 4)).astype(np.float32)
    embeddings[:, 0] += [8.0 * (label == "b") for label in labels]
    rows = [{"label": a, "patient_id": b} for a, b in zip(labels, patients, strict=True)]
    return retina_fm.index(embeddings, None, metadata=rows)


def test_few_labels_of_known_patients_are_learnt_from() -> None:
    labels = ["a"] * 8 + ["b"] * 6 + ["a|b", "c"]
    found = learn_from_few(labelled(labels, [f"p{n}" for n in range(16)]), "label", draws=5)
    assert isinstance(found, FewShots)
    assert found.classes == ("a", "b") and found.others == 2 and found.shots == 3
    assert found.patients and found.tested == 8 and min(found.aurocs) == 1


def test_without_enough_labels_it_says_why() -> None:
    found = learn_from_few(labelled(["a"] * 4 + ["b"] * 4, ["p"] * 8), "label")
    assert isinstance(found, str) and "fewer than two of them have 3 patients" in found
    found = learn_from_few(labelled(["a"] * 4, ["p"] * 4), "grade")
    assert isinstance(found, str) and "add --labels FILE with a column 'grade'" in found
