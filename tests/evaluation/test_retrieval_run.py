"""Retrieval by a model, from a suite to its report: every setting, a union of sets, overlays of frames."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from drawn_eyes import angiogram, eye
from evaluation.made import write_csv

from conftest import saved_generator
from retina_fm.errors import ConfigError
from retina_fm.evaluation.contenders import make_contender
from retina_fm.evaluation.protocols.frame_overlays import frame_overlays
from retina_fm.evaluation.running import evaluate
from retina_fm.evaluation.suite import read_suite

SUITE = """
[settings]
bootstrap = 20
permutations = 20
[sets.visits]
table = "visits/labels.csv"
[sets.dye]
table = "dye/labels.csv"
[sets.all]
union = ["visits", "dye"]
[tasks.eyes]
set = "all"
protocols = ["retrieval"]
"""


@pytest.fixture(scope="module")
def suite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two persons with two visits of the left eye, and one with a photograph and its angiogram."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "visits").mkdir()
    (folder / "dye").mkdir()
    rows = []
    for person in (0, 1):
        first = eye(person, 192)
        for visit, picture in ((1, first), (2, first.rotate(6))):
            picture.save(folder / "visits" / f"{person}_{visit}.png")
            rows.append(
                {"path": f"{person}_{visit}.png", "patient_id": person, "eye": "left", "visit": visit}
            )
    write_csv(folder / "visits" / "labels.csv", rows)
    photo = eye(7, 192)
    photo.save(folder / "dye" / "photo.png")
    angiogram(photo).rotate(4).save(folder / "dye" / "frame.png")
    rows = [
        {"path": f"{n}.png", "patient_id": "z", "modality": m} for n, m in (("photo", "CF"), ("frame", "FFA"))
    ]
    write_csv(folder / "dye" / "labels.csv", rows)
    (folder / "suite.toml").write_text(SUITE)
    return folder / "suite.toml"


@pytest.mark.slow
def test_a_model_is_asked_every_question_in_every_setting(suite: Path, tmp_path: Path) -> None:
    model = saved_generator(tmp_path / "tiny")
    results = evaluate(
        read_suite(suite), [make_contender(f"tiny={model}"), make_contender("thumbnail")], tmp_path / "out",
        say=lambda _: None,
    )  # fmt: skip
    found = {(e["model"], e["setting"]): e["questions"] for e in results["results"]}
    assert list(found) == [("tiny", "cosine"), ("tiny", "signature"), ("tiny", "signature, turned"),
                           ("tiny", "joined"), ("thumbnail", "cosine")]  # fmt: skip
    asked = {"visits: same eye, another visit", "dye: photo to frame", "dye: frame to photo"}
    assert all(set(said) == asked for said in found.values())
    said = found["tiny", "signature, turned"]["visits: same eye, another visit"]
    assert said["recall@1"]["mean"] == 1 and said["recall@1"]["chance"] == pytest.approx(1 / 4)
    assert (said["queries"], said["patients"], said["gallery"]) == (4, 2, 4)
    assert said["ranks"] == {f"visits/{p}_{v}.png": 1 for p in (0, 1) for v in (1, 2)}
    report = (tmp_path / "out" / "report.md").read_text()
    assert "**eyes: Recall@1 of each question**" in report and "ranks 1, 1, 1, 1" in report
    shown = json.loads((tmp_path / "out" / "assets.json").read_text())["overlays"]
    assert len(shown) == 1 and "photo.png with dye/frame.png" in shown[0]["picture"]
    assert (tmp_path / "out" / shown[0]["file"]).stat().st_size > 1000
    # each set was encoded once, and none as a union
    tables = {path.name for path in (tmp_path / "out" / "cache").glob("tiny-*/*.parquet")}
    assert tables == {"visits.parquet", "dye.parquet"}


def test_an_overlay_needs_a_photo_with_a_frame(suite: Path, tmp_path: Path) -> None:
    manifest = read_suite(suite).manifest("visits")
    assert frame_overlays(manifest.rows, tmp_path, "eyes") == [] and not list(tmp_path.iterdir())
    with pytest.raises(ConfigError, match="itself"):
        (tmp_path / "s.toml").write_text('[sets.a]\nunion = ["a"]\n')
        read_suite(tmp_path / "s.toml").manifest("a")
    assert np.array([row.columns["set"] for row in read_suite(suite).manifest("all").rows]).tolist() == [
        *["visits"] * 4, *["dye"] * 2
    ]  # fmt: skip
