"""Which pictures of data sets show one eye: across parts and sets, where no patient is named."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from drawn_eyes import eye
from evaluation.made import write_csv
from PIL import Image

from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, ManifestWarning
from retina_fm.evaluation import same_eyes
from retina_fm.evaluation.audit import audit, in_words, pair_rows, save_audit_gallery, write_pairs
from retina_fm.evaluation.leaks import read_prints
from retina_fm.evaluation.manifest import read_manifest
from retina_fm.evaluation.run_state import Run
from retina_fm.evaluation.suite import manifest_suite


@pytest.fixture(scope="module")
def sets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets: a turned eye in two parts of one, a resized copy and a picture of no vessel in the other."""
    folder = tmp_path_factory.mktemp("sets")
    (folder / "one").mkdir()
    (folder / "two").mkdir()
    first, second = eye(0, 256), eye(1, 256)
    first.save(folder / "one" / "a.png")
    first.rotate(9).save(folder / "one" / "b.png")
    second.save(folder / "one" / "c.png")
    second.resize((200, 200)).save(folder / "two" / "copy.png")
    y, x = np.mgrid[:256, :256] - 127.5
    noise = np.array([150, 100, 60]) + np.random.default_rng(0).normal(0, 8, (256, 256, 1))
    haze = np.where(np.hypot(y, x)[..., None] < 115, np.clip(noise, 1, 255), 0)
    Image.fromarray(haze.astype(np.uint8)).save(folder / "two" / "haze.png")
    parts = ("train", "test", "train")
    rows = [{"path": f"{n}.png", "split": p, "label": n} for n, p in zip("abc", parts, strict=True)]
    write_csv(folder / "one" / "labels.csv", rows)
    write_csv(folder / "two" / "labels.csv", [{"path": "copy.png"}, {"path": "haze.png"}])
    return folder


def test_pairs_across_parts_and_sets_are_found_and_told(sets: Path, tmp_path: Path) -> None:
    manifests = [read_manifest(sets / name / "labels.csv") for name in ("one", "two")]
    found = audit(manifests, 1e-4, workers=1, cache=tmp_path / "cache")
    told = {(p.first.name, p.second.name): p for p in found.pairs}
    assert set(told) == {("a.png", "b.png"), ("c.png", "copy.png")}
    turned, copy = told["a.png", "b.png"], told["c.png", "copy.png"]
    assert turned.kind == "same eye" and turned.crosses == ("split", "label") and not turned.known
    assert turned.false_accept is not None and turned.false_accept <= 1e-4 and "1 in" in turned.why
    assert copy.kind == "same photograph" and copy.crosses == ("set",)
    assert found.pairs[0] is copy and found.without_signature == {"one": [], "two": ["haze.png"]}
    assert found.comparisons == 6 and found.pictures == {"one": 3, "two": 2}
    said = "\n".join(in_words(found))
    assert "1 pairs: same eye (1 across splits, 1 of another label)" in said and "1 of two" in said
    again = audit(manifests, 1e-4, workers=1, cache=tmp_path / "cache")
    assert pair_rows(again) == pair_rows(found)
    rows = list(csv.DictReader(write_pairs(found, tmp_path / "pairs.csv").read_text().splitlines()))
    assert [row["crosses"] for row in rows] == ["set", "split|label"]
    page = save_audit_gallery(found, tmp_path / "pairs.html").read_text()
    assert page.count("data:image/jpeg") == 4 and "same eye (false accepts" in page
    with pytest.raises(ConfigError, match="a name each"):
        audit([manifests[0], manifests[0]])


def test_pairs_of_one_patient_are_known_and_of_two_are_told(sets: Path, tmp_path: Path) -> None:
    rows = [
        {"path": str(sets / "one" / f"{n}.png"), "patient_id": p} for n, p in zip("abc", "112", strict=True)
    ]
    table = write_csv(tmp_path / "labels.csv", rows)
    found = audit([read_manifest(table)], 1e-4, workers=1)
    assert [p.known for p in found.pairs] == [True] and not found.pairs[0].crosses
    assert "1 pairs more are of a patient" in "\n".join(in_words(found))
    rows[1]["patient_id"] = "3"
    write_csv(table, rows)
    found = audit([read_manifest(table)], 1e-4, workers=1)
    assert found.pairs[0].crosses == ("patient_id",) and not found.pairs[0].known


def test_the_command_audits_tables_and_folders(
    sets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["manifest", "--audit", str(sets / "one" / "labels.csv"), f"others={sets / 'two'}"]
    asked += ["--false-accepts", "1e-4", "--workers", "1", "--cache", str(tmp_path / "cache")]
    assert main([*asked, "--out", str(tmp_path / "p.csv"), "--gallery", str(tmp_path / "p.html")]) == 0
    said = capsys.readouterr().out
    assert "same photograph  one/c.png  others/copy.png  (another set)" in said
    assert (tmp_path / "p.csv").is_file() and (tmp_path / "p.html").stat().st_size > 9000
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["pictures"] == {"one": 3, "others": 2}
    assert main(["manifest"]) == 1 and "--audit" in capsys.readouterr().err


def test_an_evaluation_tells_eyes_in_two_parts_and_joins_them_in_drawn_ones(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retina_fm.evaluation.run_state.LEAKING", 1e-4)
    table, label = sets / "one" / "labels.csv", {"positive": ["b"], "negative": ["a", "c"]}
    suite = manifest_suite(table, ("probe",), split="official", **label)
    run = Run(suite, [], tmp_path / "out", tmp_path / "cache")
    with pytest.warns(ManifestWarning, match=r"1 pairs of pictures in two parts look like one eye"):
        patients = run.patients_of(suite.asked[0].task)
    assert patients.tolist() == ["a.png", "b.png", "c.png"]
    assert run.tasks["one"]["same_eyes"]["across_parts"] == [["a.png", "b.png"]]
    drawn = manifest_suite(table, ("probe",), **label)
    run = Run(drawn, [], tmp_path / "out", tmp_path / "cache")
    assert run.patients_of(drawn.asked[0].task).tolist() == ["a.png", "a.png", "c.png"]
    off = manifest_suite(table, ("probe",), same_eyes=False, **label)
    run = Run(off, [], tmp_path / "out", tmp_path / "cache")
    assert run.patients_of(off.asked[0].task).tolist() == ["a.png", "b.png", "c.png"]
    assert "same_eyes" not in run.tasks["one"]


def test_signatures_are_read_once_where_a_cache_is_named(
    sets: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = [sets / "one" / "a.png", sets / "two" / "haze.png"]
    hashes = read_prints(paths).hashes
    rows = same_eyes.read_signatures(paths, hashes, tmp_path / "kept.npz")
    assert rows.shape == (2, 256) and rows[0].any() and not rows[1].any()

    def unwanted(path: Path) -> np.ndarray:
        raise AssertionError(path)

    monkeypatch.setattr(same_eyes, "signature_of", unwanted)
    assert np.array_equal(same_eyes.read_signatures(paths, hashes, tmp_path / "kept.npz"), rows)
    monkeypatch.setattr(same_eyes, "signatures_id", lambda: "another basis")
    with pytest.raises(AssertionError):
        same_eyes.read_signatures(paths, hashes, tmp_path / "kept.npz")
