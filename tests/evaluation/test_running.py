"""Whole evaluations on made data: tables of embeddings, interruption, repeats to the bit, leaks."""

from __future__ import annotations

import errno
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from evaluation.made import picture_set
from PIL import Image

from conftest import disc_picture
from retina_fm.cli.main import main
from retina_fm.encoding.precision import choose_device, fastest_precision
from retina_fm.errors import ConfigError, LeakError, OutputError
from retina_fm.evaluation import jobs
from retina_fm.evaluation.contenders import Table, make_contender
from retina_fm.evaluation.running import evaluate
from retina_fm.evaluation.suite import manifest_suite, read_suite

SUITE = """
name = "made"
[settings]
seeds = [0, 1]
shots = [1]
head = "nearest-mean"
bootstrap = 50
permutations = 20
[sets.eyes]
table = "labels.csv"
images = "images"
[tasks.kinds]
set = "eyes"
protocols = ["probe", "few-shot", "supervised", "zero-shot"]
[tasks.fellows]
set = "eyes"
protocols = ["retrieval"]
"""


@pytest.fixture
def suite_file(tmp_path: Path) -> Path:
    picture_set(tmp_path, patients=12)
    (tmp_path / "suite.toml").write_text(SUITE)
    return tmp_path / "suite.toml"


def table_of(folder: Path, path: Path, signal: float = 3.0) -> Path:
    """A table of embeddings of all pictures, in another order, with one row too many."""
    names = sorted((folder / "images").iterdir(), reverse=True)
    random = np.random.default_rng(0)
    vectors = random.normal(size=(len(names), 8)).astype(np.float32)
    vectors[:, 0] += [signal * (int(name.name[:2]) % 2) for name in names]
    paths = [f"../images/{name.name}" for name in names]
    path.parent.mkdir(exist_ok=True)
    rows = {"path": [*paths, "../images/other.png"], "embedding": [*vectors.tolist(), [0.0] * 8]}
    pq.write_table(pa.table(rows), path)
    return path


def test_a_table_of_embeddings_is_judged_by_one_command(
    suite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(tmp_path, tmp_path / "emb" / "all.parquet")
    arguments = ["evaluate", "probe,retrieval", "--data", str(suite_file), "--models", "mine,thumbnail"]
    arguments += ["--embeddings", f"mine={table}", "--out", str(tmp_path / "out")]
    assert main(arguments) == 0
    assert "probe, AUROC" in capsys.readouterr().out
    results = json.loads((tmp_path / "out" / "results.json").read_text())
    found = {(e["protocol"], e["model"]): e["figures"] for e in results["results"]}
    assert found["probe", "mine"]["auroc"]["mean"] > 0.9
    assert set(found["retrieval", "mine"]) >= {"recall@1", "recall@5", "recall@10", "recall_mean"}
    assert results["models"]["mine"]["kind"] == "table"
    assert {c["protocol"] for c in results["comparisons"]} == {"probe", "retrieval"}


def test_a_table_that_no_model_asks_for_is_not_left_out_in_silence(
    suite_file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", "probe", "--data", str(suite_file), "--models", "thumbnail"]
    arguments += ["--out", str(tmp_path / "out"), "--embeddings"]
    assert main([*arguments, "mine=all.parquet"]) == 1
    assert "--models thumbnail,mine" in capsys.readouterr().err
    assert main([*arguments, "all.parquet"]) == 1
    assert "is not NAME=TABLE" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_pictures_that_a_table_lacks_are_named(suite_file: Path, tmp_path: Path) -> None:
    table = table_of(tmp_path, tmp_path / "emb" / "all.parquet")
    pq.write_table(pq.read_table(table).slice(3), table)
    with pytest.raises(ConfigError, match="3 of 24 pictures of eyes are in none of its tables"):
        evaluate(read_suite(suite_file), [Table("mine", [table])], tmp_path / "out")
    (tmp_path / "no.parquet").write_bytes(b"no")
    with pytest.raises(ConfigError, match="no table of embeddings"):
        Table("mine", [tmp_path / "no.parquet"]).identity()


def test_repeats_are_equal_to_the_byte_and_a_killed_run_continues(
    suite_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(tmp_path, tmp_path / "emb" / "all.parquet")
    contenders = [Table("mine", [table]), make_contender("thumbnail")]
    evaluate(read_suite(suite_file), contenders, tmp_path / "whole")
    done = 0
    run_cell = jobs.run_cell

    def dying(*arguments: Any) -> Any:
        nonlocal done
        done += 1
        if done == 4:
            raise KeyboardInterrupt
        return run_cell(*arguments)

    monkeypatch.setattr(jobs, "run_cell", dying)
    with pytest.raises(KeyboardInterrupt):
        evaluate(read_suite(suite_file), contenders, tmp_path / "killed")
    assert not (tmp_path / "killed" / "results.json").exists()
    assert len(list((tmp_path / "killed" / "cells").glob("*.json"))) == 3
    cut = next((tmp_path / "killed" / "cells").glob("*.json"))
    cut.write_text(cut.read_text()[:20])  # a damaged cell is done again
    done = 100
    evaluate(read_suite(suite_file), contenders, tmp_path / "killed")
    assert done == 100 + 14 - 2
    whole, killed = ((tmp_path / name / "results.json").read_bytes() for name in ("whole", "killed"))
    assert whole == killed


def test_replaced_photos_under_the_same_table_are_judged_anew(suite_file: Path, tmp_path: Path) -> None:
    def run() -> Any:
        suite, contenders = read_suite(suite_file), [make_contender("thumbnail")]
        return evaluate(suite, contenders, tmp_path / "out", protocols=["retrieval", "zero-shot"])

    def done() -> int:
        return len(list((tmp_path / "out" / "cells").glob("*.json")))

    first, count = run(), done()
    assert run() == first and done() == count
    for number in range(12):  # the classes were told apart by their colour
        for name in (f"{number:02d}_left.png", f"{number:02d}_right.png"):
            Image.fromarray(disc_picture(100 + number, 64)).save(tmp_path / "images" / name)
    assert run()["results"] != first["results"] and done() == 2 * count


def test_encoders_run_in_the_number_type_that_encode_picks() -> None:
    contender = make_contender("fundus2video-tiny")
    wanted = fastest_precision(choose_device(None)).dtype
    assert contender.encoder.dtype == wanted
    assert contender.identity()["precision"] == str(wanted).removeprefix("torch.")


def test_every_drawn_id_and_hash_is_in_the_results(suite_file: Path, tmp_path: Path) -> None:
    results = evaluate(read_suite(suite_file), [make_contender("fundus2video-tiny")], tmp_path / "out")
    assert len(results["models"]["fundus2video-tiny"]["weights_sha256"]) == 64
    draws = results["draws"]["few-shot/kinds/1 shots"]
    assert set(draws) == {"0", "1"}
    assert len(draws["0"]["train"]) == 2
    assert len(draws["0"]["train"] + draws["0"]["test"]) == 24 - 2  # fellow eyes of the drawn are in neither
    assert results["tasks"]["kinds"]["classes"] == {"A": 12, "B": 12}
    assert {"numpy", "torch", "scikit-learn", "retina_fm"} <= set(results["versions"])
    assert repr(results).startswith("Results(suite=") and "models=fundus2video-tiny, tasks=kinds" in repr(
        results
    )
    assert len(repr(results)) < 200
    assert "few-shot, kinds, 1 shots, fundus2video-tiny: auroc" in results._repr_html_()


def test_repeats_across_official_parts_stop_the_run(tmp_path: Path) -> None:
    table = picture_set(tmp_path, split=lambda number: "test" if number > 8 else "train")
    Image.fromarray(disc_picture(0, 64)).save(tmp_path / "images" / "11_left.png")
    Image.fromarray(disc_picture(0, 64)).save(tmp_path / "images" / "00_left.png")
    contenders = [make_contender("thumbnail")]
    with pytest.raises(LeakError, match=r"1 photographs are in two parts: 00_left\.png \(train\) is 11_left"):
        suite = manifest_suite(table, ("probe",), images="images", split="official")
        evaluate(suite, contenders, tmp_path / "out")
    suite = manifest_suite(table, ("probe",), images="images", split="official", leaks="allow")
    results = evaluate(suite, contenders, tmp_path / "out")
    (task,) = results["tasks"].values()
    assert task["repeats"] == [["00_left.png", "11_left.png", 1.0]]
    assert results["leaks"]["across official parts"] == "allow"


def test_wrong_suites_and_models_are_refused(suite_file: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file)
    with pytest.raises(ConfigError, match="asks nothing by"):
        evaluate(suite, [make_contender("thumbnail")], tmp_path / "out", protocols=["video"])
    with pytest.raises(ConfigError, match="need a name each"):
        evaluate(suite, [make_contender("thumbnail")] * 2, tmp_path / "out")
    with pytest.raises(ConfigError, match="give no features to fuse"):
        make_contender("thumbnail+frangi")
    for change, message in (
        (("bootstrap = 50", "bootstraps = 50"), "settings has unknown fields .*Did you mean 'bootstrap'"),
        (("[tasks.fellows]", "[task.fellows]"), r"unknown fields \['task'\]"),
        (("[sets.eyes]", "[sets.eye]"), "no set 'eyes'"),
        (('"retrieval"', '"retrieve"'), "Did you mean 'retrieval'"),
        (("name =", "name"), "cannot be read as a suite"),
        (
            ('table = "labels.csv"', 'tables = "labels.csv"'),
            r"sets\.eyes has .*'tables'.*Did you mean 'table'",
        ),
        (("bootstrap = 50", 'bootstrap = "50"'), r"settings\.bootstrap is '50'; it must be a whole number"),
        (('protocols = ["retrieval"]', 'cohort = "x"'), r"tasks\.fellows has unknown fields \['cohort'\]"),
    ):
        suite_file.write_text(SUITE.replace(*change))
        with pytest.raises(ConfigError, match=message):
            _ = read_suite(suite_file).asked


def test_fused_features_stand_side_by_side(suite_file: Path, tmp_path: Path) -> None:
    suite = read_suite(suite_file)
    fused = make_contender("thumbnail+colour-texture")
    features = fused.features(suite.manifest("eyes"), tmp_path)
    assert features.shape == (24, sum(fused.widths or ()))
    assert fused.widths == (3072, 536)


def test_a_full_disk_is_an_error_of_ours(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "cells"))

    monkeypatch.setattr("retina_fm.evaluation.running._evaluate", full)
    with pytest.raises(OutputError, match=r"cells cannot be .* \(No space left.*run the same again"):
        evaluate(None, [], tmp_path)  # type: ignore[arg-type]
