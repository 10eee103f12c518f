"""A whole archive is registered once, whatever interrupts it, and says which frames do not fit."""

from __future__ import annotations

import csv
import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, OutputError
from retina_fm.training.pairs.opening import open_pair
from retina_fm.training.pairs.register_archive import register_archive
from retina_fm.training.pairs.registration import Registration
from retina_fm.training.pairs.table import check_pairs, choose_frames, read_pairs, write_pairs
from retina_fm.training.simulator.simulate import simulate

registering = importlib.import_module(register_archive.__module__)
SHIFT = (9, -6)  # of every frame, in pixels (x, y)


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two drawn eyes with an early, two venous and a late frame; frames were moved, one shows another eye."""
    folder = tmp_path_factory.mktemp("clinic")
    assert simulate(folder, drawn=2, size=224, seed=7, painting=0, workers=1, animate=False).failed == []
    sequences = []
    for sequence in read_pairs(folder):
        chosen = tuple(sequence.frames[k] for k in (2, 6, 7, 9))
        for frame in chosen:
            with Image.open(frame.path) as picture:
                moved = np.roll(np.asarray(picture), SHIFT, (1, 0))
            Image.fromarray(moved).save(frame.path)
        sequences.append(replace(sequence, frames=chosen))
    first, second = sequences
    with Image.open(first.frames[2].path) as picture:
        Image.fromarray(np.asarray(picture).T).save(second.frames[2].path)
    write_pairs(folder / "pairs.csv", sequences)
    return folder


@pytest.fixture(scope="module")
def result(archive, tmp_path_factory):
    out = tmp_path_factory.mktemp("registered")
    return register_archive(archive, out, workers=1, progress=False)


def test_frames_find_their_photo_and_strangers_are_named(archive, result):
    assert result.failed == [] and result.dropped == []
    assert result.sequences == 2
    stranger = read_pairs(archive)[1].frames[2].path
    assert [frame for frame, _ in result.rejected] == [str(stranger)]
    assert result.frames == 7
    for sequence in read_pairs(result.pairs):
        for frame in sequence.frames:
            a, b, c, d, e, f = frame.transform
            centre = np.array([a * 112 + b * 112 + c, d * 112 + e * 112 + f])
            np.testing.assert_allclose(centre, 112 - np.array(SHIFT), atol=1.5)
        assert len(choose_frames(sequence)) == 12


def test_every_frame_has_its_quality_and_every_sequence_a_picture(result):
    folder = result.pairs.parent
    with (folder / "registration.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8
    assert sum(int(row["accepted"]) for row in rows) == 7
    refused = [float(row["quality"]) for row in rows if row["accepted"] == "0"]
    assert max(refused) < 0.3 < min(float(row["quality"]) for row in rows if row["accepted"] == "1")
    boards = sorted((folder / "overlays").iterdir())
    assert len(boards) == 2
    with Image.open(boards[0]) as board:
        assert board.size == (512, 512)


def test_a_killed_call_registers_only_what_is_missing(archive, result, tmp_path, monkeypatch):
    journal = (result.pairs.parent / registering._JOURNAL).read_text().splitlines()
    # the kill cut the second sequence's line short
    (tmp_path / registering._JOURNAL).write_text("\n".join([journal[1], journal[2][:40]]))
    seen = []

    def watched(sequence, **_):
        seen.append(sequence.name)
        return [Registration((1, 0, 0, 0, 1, 0), 0.5, accepted=True) for _ in sequence.frames]

    monkeypatch.setattr(registering, "register_frames", watched)
    again = register_archive(archive, tmp_path, workers=1, progress=False)
    assert seen == [read_pairs(archive)[1].name]
    assert again.frames == 8
    assert (
        len(list((tmp_path / "overlays").iterdir())) == 2
    )  # the known sequence's is drawn from its transforms
    seen.clear()
    register_archive(archive, tmp_path, workers=1, progress=False)
    assert seen == []


def test_another_bar_registers_nothing_again_and_drops_what_loses_a_phase(archive, result, monkeypatch):
    monkeypatch.setattr(registering, "register_frames", None)
    strict = register_archive(archive, result.pairs.parent, accept=1.0, workers=1, progress=False)
    assert strict.sequences == strict.frames == 0
    assert len(strict.dropped) == 2
    assert "no arterial and no venous and no late frame is left" in strict.dropped[0][1]
    assert not strict.pairs.exists()
    back = register_archive(archive, result.pairs.parent, workers=1, progress=False)
    assert back.sequences == 2


def test_transforms_that_are_given_stay(result, tmp_path):
    again = register_archive(result.pairs, tmp_path, workers=1, progress=False)
    assert again.rejected == []
    for before, after in zip(read_pairs(result.pairs), read_pairs(again.pairs), strict=True):
        assert [f.transform for f in before.frames] == [f.transform for f in after.frames]


def test_an_archive_is_never_replaced(archive, tmp_path):
    before = (archive / "pairs.csv").read_bytes()
    write_pairs(archive / "part.csv", read_pairs(archive)[:1])
    for source in ("pairs.csv", "part.csv"):
        with pytest.raises(ConfigError, match="would be replaced"):
            register_archive(archive / source, archive, accept=1.0, workers=1)
    other = tmp_path / "other"
    other.mkdir()
    (other / "pairs.csv").write_bytes(before)
    with pytest.raises(ConfigError, match="would be replaced"):
        register_archive(archive, other, workers=1)
    with pytest.raises(ConfigError, match="correlation"):
        register_archive(archive, tmp_path / "out", accept=2.0)
    assert not (tmp_path / "out").exists()
    assert (archive / "pairs.csv").read_bytes() == before


def test_blank_and_dim_frames_of_other_sizes_are_taken_as_they_are(archive, result, tmp_path):
    """Through a link, by two processes: an early blank frame, 12 bits in 16, and frames of two sizes."""
    first = read_pairs(archive)[0]
    early, venous, second, late = first.frames
    frames = []
    for name, frame, change in (
        ("blank", early, lambda grey: np.zeros_like(grey)),
        ("dim", second, lambda grey: grey // 16),
        ("large", venous, lambda grey: np.kron(grey, np.ones((2, 2), np.uint8))),
    ):
        with Image.open(frame.path) as picture:
            Image.fromarray(change(np.asarray(picture))).save(tmp_path / f"{name}.png")
        frames.append(replace(frame, path=tmp_path / f"{name}.png"))
    blank, dim, large = frames
    write_pairs(tmp_path / "pairs.csv", [replace(first, frames=(blank, early, dim, large, late))])
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "out").symlink_to(tmp_path / "far" / "away")
    report = register_archive(tmp_path, tmp_path / "out", workers=2, progress=False)
    assert {frame.rsplit("/", 1)[1] for frame, _ in report.rejected} == {"blank.png", "dim.png"}
    assert "12 bits" in dict(report.rejected)[str(tmp_path / "dim.png")]
    with (tmp_path / "out" / "registration.csv").open() as file:
        reasons = {Path(row["frame"]).name: row["reason"] for row in csv.DictReader(file)}
    assert "12 bits" in reasons["dim.png"] and reasons["large.png"] == ""
    assert (report.sequences, report.frames) == (1, 3)
    checked = check_pairs(tmp_path / "out")
    assert [str(problem) for problem in checked.problems] == []
    field = open_pair(checked.sequences[0], 64).field
    assert field.mean() > 0.5


def test_a_photo_that_cannot_be_read_fails_its_sequence_alone(archive, result, tmp_path, capsys):
    sequences = read_pairs(archive)
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    first = replace(sequences[0], photo=broken)
    write_pairs(tmp_path / "pairs.csv", [first, sequences[1]])
    (tmp_path / "out").mkdir()
    shutil.copy(result.pairs.parent / registering._JOURNAL, tmp_path / "out")
    command = ["register", str(tmp_path / "pairs.csv"), "--out", str(tmp_path / "out"), "--workers", "1"]
    assert main([*command, "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [one["sequence"] for one in report["failed"]] == [sequences[0].name]
    assert "broken.png" in report["failed"][0]["reason"]
    assert report["sequences"] == 1
    assert main(command) == 1
    text = capsys.readouterr().out
    assert "failed    " in text and "rejected  " in text
    assert "1 sequences, 3 frames registered, 1 rejected, 0 sequences dropped, 1 failed" in text
    assert check_pairs(tmp_path / "out").ok


def test_a_users_overlays_stay_and_a_folder_of_a_user_is_refused(archive, result, tmp_path):
    theirs = tmp_path / "theirs"
    (theirs / "overlays").mkdir(parents=True)
    (theirs / "overlays" / "holiday.jpg").write_text("mine")
    with pytest.raises(OutputError, match="not empty"):
        register_archive(archive, theirs, workers=1, progress=False)
    assert (theirs / "overlays" / "holiday.jpg").read_text() == "mine"
    out = tmp_path / "registered"
    shutil.copytree(result.pairs.parent, out)
    boards = sorted(path.name for path in (out / "overlays").iterdir())
    (out / "overlays" / "holiday.jpg").write_text("mine")
    (out / "overlays" / "holiday-0123456789ab.jpg").write_text("mine")
    key = boards[0].removesuffix(".jpg")[-12:]
    (out / "overlays" / f"left-{key}.jpg").write_text("of a sequence that left the table")
    register_archive(archive, out, workers=1, progress=False)
    left = sorted(path.name for path in (out / "overlays").iterdir())
    assert left == sorted([*boards, "holiday.jpg", "holiday-0123456789ab.jpg"])
