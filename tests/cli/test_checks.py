from __future__ import annotations

import argparse
import csv
import importlib
import json
import os
import pickle
import shlex
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

import retina_fm
from conftest import disc_picture
from retina_fm._io.progress import lines_where_nobody_watches, progress_bar
from retina_fm._io.seals import read_npz
from retina_fm.cli import evaluate as evaluate_command
from retina_fm.cli.main import COMMANDS, build_parser, main
from retina_fm.cli.predict import _READINGS
from retina_fm.errors import ConfigError, NoPicturesError, WeightsError, WeightsNotFoundError
from retina_fm.models import backbones, places
from retina_fm.models.convert import read_checkpoint

ROOT = Path(__file__).resolve().parent.parent.parent
TINY = ["--model", "fundus2video-tiny", "--dtype", "float32", "--workers", "0"]


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """Three photos in a folder, and a table beside it that names two of them."""
    (tmp_path / "eyes").mkdir()
    for number in range(3):
        Image.fromarray(disc_picture(number, 64)).save(tmp_path / "eyes" / f"eye{number}.png")
    (tmp_path / "labels.csv").write_text(
        "path,label,patient_id,eye\neye2.png,drusen,p1,left\neye0.png,healthy,p2,right\n"
    )
    return tmp_path


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_shows_two_examples_that_it_takes(name: str) -> None:
    examples = importlib.import_module(f"retina_fm.cli.{name}").EXAMPLES
    assert len(examples) == 2
    for example in examples:
        program, command, *arguments = shlex.split(example)
        assert (program, command) == ("retina-fm", name.replace("_", "-"))
        assert callable(build_parser().parse_args([command, *arguments]).handler)


def test_help_ends_with_the_examples_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["encode", "--help"])
    assert capsys.readouterr().out.rstrip().splitlines()[-2:] == [
        "  retina-fm encode photos/ --out emb.parquet",
        "  retina-fm encode --labels labels.csv --images photos/ --column label --out emb.csv",
    ]


WRONG = [
    (["encode", "photso", "--out", "x.parquet"], "Did you mean photos?"),
    (["encode", "photos", "--out", "x.xlsx"], "written as .parquet, .csv or .npz"),
    (["encode", "photos", "--model", "./mine", "--out", "x.csv"], "no such folder of weights"),
    (["encode", "photos", "--column", "label", "--out", "x.csv"], "add --labels FILE"),
    (["generate", "nowhere.jpg", "--out", "x.gif"], "no such file or folder"),
    (["generate", "photos", "--out", "x.gif"], "generate takes one photo at a time"),
    (["predict", "vesels", "photos", "--out", "o"], "Did you mean 'vessels'?"),
    (["search", "photos", "photos/a.jpg"], "'retina-fm index photos' makes one"),
    (["search", "nowhere", "photos/a.jpg"], "'retina-fm index PHOTOS --store nowhere' makes one"),
    (["index", "photos", "--labels", "nowhere.csv"], "no such file"),
    (["adapt", "classification", "--labels", "labels.csv", "--column", "grade", "--out", "o"],
     "no column 'grade'"),
    (["adapt", "classification", "--labels", "labels.csv", "--images", "x", "--out", "o"],
     "--images x: there is no"),
    (["evaluate", "probe", "--labels", "nowhere.csv", "--out", "o"], "no such file"),
    (["pretrain", "--data", "photos", "--out", "run"],
     "retina-fm prepare photos --out EYES, then --data EYES"),
    (["prepare", "nowhere", "--out", "o"], "no such file or folder"),
    (["demo", "nowhere"], "no such file or folder"),
]  # fmt: skip


def test_what_is_wrong_is_said_before_torch_is_loaded_and_nothing_is_made(tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "a.jpg").write_bytes(b"no picture, but a file")
    (tmp_path / "labels.csv").write_text("path,label\na.jpg,1\n")
    code = (
        "import contextlib, io, json, sys\n"
        "from retina_fm.cli.main import main\n"
        "told = []\n"
        "for arguments in json.loads(sys.argv[1]):\n"
        "    with contextlib.redirect_stderr(io.StringIO()) as said:\n"
        "        code = main(arguments)\n"
        "    told.append([code, said.getvalue(), 'torch' in sys.modules])\n"
        "print(json.dumps(told))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, json.dumps([arguments for arguments, _ in WRONG])],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    for (arguments, message), (status, said, heavy) in zip(WRONG, json.loads(ran.stdout), strict=True):
        assert message in said, (arguments, said)
        assert (status, heavy) == (1, False), arguments
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "labels.csv"}


def test_what_is_read_without_an_adapter_is_known_without_torch() -> None:
    from retina_fm.adapters.zero_shot import TARGETS

    assert _READINGS == TARGETS


def test_encode_writes_what_the_ending_says_and_carries_columns(clinic: Path) -> None:
    table = ["--labels", str(clinic / "labels.csv"), "--images", str(clinic / "eyes")]
    assert main(["encode", *table, *TINY, "--out", str(clinic / "a.csv")]) == 0
    with (clinic / "a.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [row["name"] for row in rows] == ["eye2.png", "eye0.png"]
    assert [row["label"] for row in rows] == ["drusen", "healthy"]
    vectors = np.array([[float(row[f"embedding_{d}"]) for d in range(64)] for row in rows], np.float32)
    whole = retina_fm.encode(clinic / "eyes", "fundus2video-tiny", dtype="float32", workers=0)
    assert np.array_equal(vectors, whole[[2, 0]])
    assert main(["encode", *table, "--column", "eye", *TINY, "--out", str(clinic / "a.npz")]) == 0
    arrays = read_npz(clinic / "a.npz")
    assert np.array_equal(arrays["embedding"], whole[[2, 0]])
    assert arrays["eye"].tolist() == ["left", "right"] and "label" not in arrays
    assert str(arrays["model"]) == "fundus2video-tiny"
    assert main(["encode", *table, *TINY, "--out", str(clinic / "a.parquet")]) == 0
    found = pq.read_table(clinic / "a.parquet")
    assert found.column("patient_id").to_pylist() == ["p1", "p2"]
    assert found.schema.metadata[b"model"] == b"fundus2video-tiny"
    assert not [path for path in clinic.iterdir() if path.name.endswith("parquet") and path.name[0] == "."]
    store = str(clinic / "store")
    assert main(["index", str(clinic / "a.parquet"), "--store", store]) == 0  # as embeddings with metadata
    assert retina_fm.indexes.ImageIndex.open(store).search(whole[2], 1)[0].metadata["label"] == "drusen"


@pytest.mark.filterwarnings("ignore::retina_fm.errors.SkippedPictures")
def test_what_cannot_be_read_takes_no_other_photos_columns(clinic: Path) -> None:
    (clinic / "eyes" / "eye2.png").write_bytes(b"no picture")
    table = ["--labels", str(clinic / "labels.csv"), "--images", str(clinic / "eyes"), "--on-error", "skip"]
    out = str(clinic / "a.csv")
    assert main(["encode", *table, *TINY, "--out", out]) == 0
    with (clinic / "a.csv").open() as stream:
        assert [(row["name"], row["label"]) for row in csv.DictReader(stream)] == [("eye0.png", "healthy")]
    assert main(["encode", *table, *TINY, "--out", out]) == 1  # it is not replaced unasked


def test_a_table_names_photos_and_metadata_of_an_index(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    named = ["--labels", str(clinic / "labels.csv"), "--images", str(clinic / "eyes"), "--column", "eye"]
    assert main(["index", *named, *TINY, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["encoded"] == 2
    query = str(clinic / "eyes" / "eye2.png")
    assert main(["search", str(clinic / "eyes"), query, "--include-query", "--json"]) == 0
    hits = json.loads(capsys.readouterr().out)[0]["hits"]
    assert (Path(hits[0]["path"]).name, hits[0]["metadata"]) == ("eye2.png", {"eye": "left"})


def test_a_table_names_the_photos_to_predict(clinic: Path) -> None:
    photos = [str(clinic / "eyes" / f"eye{number}.png") for number in range(3)]
    fitted = retina_fm.adapt(
        "classification", model="fundus2video-tiny", head="nearest-mean", dtype="float32"
    )
    fitted.fit(photos, ["a", "b", "a"]).save(clinic / "adapter")
    named = ["--labels", str(clinic / "labels.csv"), "--images", str(clinic / "eyes"), "--column", "label"]
    assert main(["predict", str(clinic / "adapter"), *named, "--out", str(clinic / "out.csv")]) == 0
    with (clinic / "out.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert [(row["name"], row["label"]) for row in rows] == [("eye2.png", "drusen"), ("eye0.png", "healthy")]


def test_evaluate_finds_the_folder_of_photos_from_the_table_and_from_here(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def images(*arguments: str) -> str:
        parsed = build_parser().parse_args(["evaluate", "probe", "--out", "o", *arguments])
        return evaluate_command._images(parsed)

    (clinic / "tables").mkdir()
    (clinic / "labels.csv").rename(clinic / "tables" / "labels.csv")
    monkeypatch.chdir(clinic)
    assert images("--labels", "tables/labels.csv", "--images", "eyes") == str(clinic / "eyes")
    assert images("--data", "tables/labels.csv", "--images", "../eyes") == "../eyes"
    (clinic / "eyes").rename(clinic / "tables" / "images")
    assert images("--data", "tables/labels.csv") == "images"
    with pytest.raises(ConfigError, match="--images nowhere"):
        images("--data", "tables/labels.csv", "--images", "nowhere")


def test_the_old_spellings_of_evaluate_mean_the_same() -> None:
    old = build_parser().parse_args(["evaluate", "probe", "--data", "a.csv", "--label", "g", "--out", "o"])
    new = build_parser().parse_args(["evaluate", "probe", "--labels", "a.csv", "--column", "g", "--out", "o"])
    assert vars(old) == vars(new)


def test_a_photo_that_a_table_names_and_nobody_has_is_told_with_its_line(
    clinic: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (clinic / "eyes" / "eye0.png").unlink()
    table = ["--labels", str(clinic / "labels.csv"), "--images", str(clinic / "eyes")]
    assert main(["encode", *table, "--out", str(clinic / "a.csv")]) == 1
    told = capsys.readouterr().err
    assert "labels.csv, line 3" in told and "--images DIR names another folder" in told


def test_settings_of_another_task_say_whose_they_are() -> None:
    with pytest.raises(ConfigError, match=r"'steps' is a setting of segmentation.*head_settings"):
        retina_fm.adapt("classification", steps=5)


def test_photographs_are_never_to_be_prepared_into_their_own_folder(clinic: Path) -> None:
    from retina_fm.training.pretraining.data.sources import check_data

    with pytest.raises(NoPicturesError) as told:
        check_data(clinic / "eyes")
    assert f"--out {clinic / 'eyes'}" not in str(told.value)


class _Calls:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("true",)


def test_a_pickle_that_runs_code_is_refused_without_advice_on_how_to_run_it(tmp_path: Path) -> None:
    torch.save({"a": _Calls()}, tmp_path / "bad.pth")
    (tmp_path / "worse.pth").write_bytes(pickle.dumps(_Calls(), 2))
    for name in ("bad.pth", "worse.pth"):
        with pytest.raises(WeightsError, match="which is refused") as told:
            read_checkpoint(tmp_path / name)
        assert "weights_only" not in str(told.value)


def test_timm_models_that_are_not_here_are_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(backbones, "hub_answers", lambda: False)
    monkeypatch.setattr(backbones, "_cached", lambda *_: None)
    with pytest.raises(WeightsNotFoundError, match="the hub does not answer from here"):
        retina_fm.load("timm/resnet18")


def test_a_hub_whose_port_is_closed_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr("urllib.request.getproxies", dict)
    assert not places.hub_answers(2.0)


def test_long_work_says_a_line_where_a_log_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retina_fm._io.progress._SECONDS_WITHOUT", 0.0)
    with lines_where_nobody_watches(), progress_bar(None, 20, "fit, decoder", unit="step") as bar:
        bar.update(5)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and lines[0].startswith("fit, decoder: 5 of 20 steps, about ")
    assert lines[1] == "fit, decoder: 5 steps in 0 s"
    with progress_bar(None, 20, "fit, decoder"):
        pass
    assert capsys.readouterr().err == ""


def test_the_shell_completes_commands_and_options(tmp_path: Path) -> None:
    pytest.importorskip("argcomplete")
    assert isinstance(build_parser(), argparse.ArgumentParser)
    out = tmp_path / "found"
    line = "retina-fm enc"
    environment = {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(out),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
        "PYTHONPATH": str(ROOT),
    }
    command = [sys.executable, "-c", "from retina_fm.cli.main import main; main()"]
    subprocess.run(command, env={**os.environ, **environment}, check=True)
    assert out.read_text().strip() == "encode"
