"""pairs.csv is written and read alike, checked like a compiler, registered, and sampled in step."""

from __future__ import annotations

import csv
import dataclasses
import json
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage

from retina_fm.errors import ConfigError, MissingDependencyError, NoPicturesError, PictureError
from retina_fm.training import draw_retina
from retina_fm.training.pairs import opening
from retina_fm.training.pairs.opening import load_pair, warp_frame
from retina_fm.training.pairs.registration import register_frame
from retina_fm.training.pairs.table import (
    COLUMNS,
    Frame,
    PairSequence,
    check_pairs,
    choose_frames,
    read_pairs,
    write_pairs,
)
from retina_fm.training.pretraining.data.pair_samples import PairSamples, augment_pairs
from retina_fm.training.pretraining.data.sources import check_data
from retina_fm.training.simulator.simulate import laterality, simulate


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    report = simulate(folder, drawn=2, size=160, seed=3, workers=1, progress=False)
    assert report.failed == []
    assert report.made == 2
    return folder


def edited(archive, tmp_path, change):
    """A copy of the table with paths made absolute and one change."""
    with (archive / "pairs.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        row["photo"], row["frame"] = str(archive / row["photo"]), str(archive / row["frame"])
    rows = change(rows) or rows
    path = tmp_path / "pairs.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*COLUMNS, "transform"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_simulated_pairs_are_sound(archive):
    report = check_pairs(archive)
    assert [str(p) for p in report.problems] == []
    assert len(report.sequences) == 2
    assert report.frames == 24
    for seed, sequence in zip((3, 4), report.sequences, strict=True):
        assert sequence.eye == draw_retina(seed, 160).eye
    data = check_data(archive / "pairs.csv")
    assert (data.kind, data.items, data.ok) == ("pairs", 2, True)


def test_simulating_again_reuses_and_gives_the_same_bytes(archive, tmp_path):
    assert simulate(archive, drawn=2, size=160, seed=3, workers=1, progress=False).reused == 2
    other = simulate(tmp_path, drawn=2, size=160, seed=3, workers=2, progress=False)
    assert other.made == 2
    for path in sorted(archive.rglob("*.png")):
        assert path.read_bytes() == (tmp_path / path.relative_to(archive)).read_bytes()
    assert (archive / "pairs.csv").read_bytes() == (tmp_path / "pairs.csv").read_bytes()


def test_the_side_of_an_eye_is_read_off_disc_and_fovea(prepared_eyes):
    eye = dataclasses.replace(prepared_eyes[0], metadata={})
    row = eye.fovea_centre[0]
    assert laterality(dataclasses.replace(eye, disc_centre=(row, eye.fovea_centre[1] + 60.0))) == "right"
    assert laterality(dataclasses.replace(eye, disc_centre=(row, eye.fovea_centre[1] - 60.0))) == "left"


def test_only_the_frames_that_a_step_needs_are_read_once_a_sequence_was_opened(archive, monkeypatch):
    stream = PairSamples(read_pairs(archive), size=96, crop=64, batch=2, seed=1)
    first = stream.batch_at(0)
    read = []
    original = opening.read_picture
    monkeypatch.setattr(opening, "read_picture", lambda path: read.append(path) or original(path))
    assert torch.equal(stream.batch_at(0).target, first.target)
    assert 2 * 5 <= len(read) <= 2 * 7  # of each sequence the photo and at most six frames of twelve


def test_a_sequence_folder_says_that_it_is_synthetic(archive):
    folder = archive / "drawn-3"
    names = {p.name for p in folder.iterdir()}
    assert {"photo.png", "mask.png", "sheet.png", "angiogram.gif", "sequence.json", "frame11.png"} <= names
    record = json.loads((folder / "sequence.json").read_text())
    assert record["synthetic"] is True
    assert "transit" in record["parameters"]
    assert "Synthetic" in Image.open(folder / "frame00.png").text


def _set(rows, index, **cells):
    rows[index].update(cells)


def _halved(rows):
    for i in range(12):
        _set(rows, i, split="train" if i < 6 else "test")


CASES = [
    ("missing frame", lambda rows: _set(rows, 2, frame="nowhere.png"), 4, "nowhere.png"),
    ("phase misspelt", lambda rows: _set(rows, 5, phase="venus"), 7, "venous"),
    ("one frame", lambda rows: rows[:12] + rows[12:13], 14, "one frame"),
    ("no photo", lambda rows: [_set(rows, i, photo="") for i in range(12)] and None, 2, "no photo"),
    ("no late frame", lambda rows: rows[:8] + rows[12:], 2, "no late frame"),
    ("bad time", lambda rows: _set(rows, 1, time_s="soon"), 3, "not a number"),
    ("time runs back", lambda rows: _set(rows, 4, time_s="0.01"), 6, "earlier"),
    ("bad eye", lambda rows: _set(rows, 1, eye="middle"), 3, "left, right"),
    ("bad split", lambda rows: _set(rows, 1, split="trian"), 3, "train"),
    ("bad transform", lambda rows: _set(rows, 1, transform="1 0 0"), 3, "six numbers"),
    ("flat transform", lambda rows: _set(rows, 1, transform="1 1 0 1 1 0"), 3, "undone"),
    ("frame twice", lambda rows: _set(rows, 1, frame=rows[0]["frame"]), 3, "twice"),
    ("no name", lambda rows: _set(rows, 1, sequence=""), 3, "sequence is empty"),
    ("sequence in two parts", lambda rows: _halved(rows), 8, "'train' before and 'test' here"),
    ("colour frame", lambda rows: _set(rows, 6, frame=rows[6]["photo"]), 8, "colour"),
]


@pytest.mark.parametrize(("change", "row", "hint"), [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_problems_carry_their_row(archive, tmp_path, change, row, hint):
    problems = check_pairs(edited(archive, tmp_path, change)).problems
    assert any(p.row == row and hint in str(p) for p in problems), [str(p) for p in problems]


def test_a_frame_of_another_size_and_an_unreadable_one_are_found(archive, tmp_path):
    Image.linear_gradient("L").resize((80, 60)).save(tmp_path / "small.png")
    (tmp_path / "broken.png").write_bytes(b"\x89PNG nothing")

    def change(rows):
        _set(rows, 3, frame=str(tmp_path / "small.png"))
        _set(rows, 13, frame=str(tmp_path / "broken.png"))

    report = check_pairs(edited(archive, tmp_path, change))
    rows = {p.row: str(p) for p in report.problems}
    assert "80 x 60" in rows[5]
    assert "broken.png" in rows[15]
    assert report.sequences == []


def test_a_person_in_two_parts_is_found(archive, tmp_path):
    def change(rows):
        for i, row in enumerate(rows):
            row.update(patient_id="p1", split="train" if i < 12 else "test")

    assert any("one part" in str(p) for p in check_pairs(edited(archive, tmp_path, change)).problems)


def test_rows_without_a_part_are_of_train(archive, tmp_path):
    def change(rows):
        for i, row in enumerate(rows):
            row.update(patient_id="p1" if same_person else f"p{i // 12}", split="" if i < 12 else "val")

    same_person = True
    (problem,) = check_pairs(edited(archive, tmp_path, change)).problems
    assert "is in train and in val" in str(problem)
    same_person = False
    path = edited(archive, tmp_path, change)
    parts = {part: [s.name for s in read_pairs(path, split=part)] for part in ("train", "val")}
    assert parts == {"train": ["drawn-3"], "val": ["drawn-4"]}


def test_blank_lines_do_not_shift_rows(archive, tmp_path):
    path = edited(archive, tmp_path, lambda rows: _set(rows, 5, phase="venus"))
    header, *lines = path.read_text().splitlines()
    path.write_text("\n".join([header, "", "", *lines]))
    assert [p.row for p in check_pairs(path).problems] == [9]


def test_rows_that_are_refused_are_not_missed_again(archive, tmp_path):
    def change(rows):
        for row in rows[:12]:
            row.update(phase="venus")

    report = check_pairs(edited(archive, tmp_path, change))
    assert len(report.problems) == 12
    assert all("not a phase" in str(p) for p in report.problems)
    assert len(report.sequences) == 1


@pytest.mark.parametrize("copied", [False, True])
@pytest.mark.parametrize("first", ["train", ""])
def test_a_photo_in_two_parts_is_found(copied, first, archive, tmp_path):
    def change(rows):
        photo = rows[0]["photo"]
        if copied:
            photo = str(tmp_path / "copy.png")
            (tmp_path / "copy.png").write_bytes((archive / "drawn-3" / "photo.png").read_bytes())
        for i, row in enumerate(rows):
            row.update(patient_id="", split=first if i < 12 else "test")
            row.update(photo=photo if i >= 12 else row["photo"])

    (problem,) = check_pairs(edited(archive, tmp_path, change)).problems
    assert "one part" in str(problem)
    assert problem.row == 14


def test_copies_of_one_frame_are_found(archive, tmp_path):
    def change(rows):
        for i, row in enumerate(rows[:12]):
            copy = tmp_path / f"{i}.png"
            copy.write_bytes((archive / "drawn-3" / "frame05.png").read_bytes())
            row.update(frame=str(copy))

    report = check_pairs(edited(archive, tmp_path, change))
    assert [p.row for p in report.problems] == list(range(3, 14))
    assert "copy of 0.png" in str(report.problems[0])


def test_tables_without_columns_or_readable_text_are_refused(tmp_path):
    (tmp_path / "pairs.csv").write_text("a,b\n1,2\n")
    with pytest.raises(ConfigError, match="no column sequence"):
        check_pairs(tmp_path / "pairs.csv")
    with pytest.raises(PictureError, match="cannot be read"):
        check_pairs(tmp_path / "nothing.csv")
    (tmp_path / "empty").mkdir()
    with pytest.raises(NoPicturesError, match="retina-fm prepare"):
        check_data(tmp_path / "empty")


def test_reading_refuses_what_the_check_would_find(archive, tmp_path):
    path = edited(archive, tmp_path, lambda rows: _set(rows, 5, phase="venus"))
    with pytest.raises(ConfigError, match="row 7"):
        read_pairs(path)


def test_writing_and_reading_agree(tmp_path):
    frames = tuple(
        Frame(tmp_path / f"{i}.png", p, float(i), (1, 0, 2, 0, 1, 3))
        for i, p in enumerate(("arterial", "venous", "late"))
    )
    before = PairSequence("one", tmp_path / "photo.png", frames, "p", "left", "clinic", "val")
    write_pairs(tmp_path / "pairs.csv", [before])
    (after,) = read_pairs(tmp_path / "pairs.csv")
    assert after.photo == before.photo
    assert [f.transform for f in after.frames] == [f.transform for f in frames]
    assert (after.patient_id, after.eye, after.split) == ("p", "left", "val")
    assert read_pairs(tmp_path / "pairs.csv", split="train") == []


def test_four_frames_of_each_phase_are_chosen_evenly(tmp_path):
    counts = {"arterial": 10, "venous": 4, "late": 2}
    frames = tuple(Frame(tmp_path / f"{p}{i}", p, float(i)) for p, n in counts.items() for i in range(n))
    chosen = [f.path.name for f in choose_frames(PairSequence("s", tmp_path / "p", frames))]
    assert chosen[:4] == ["arterial0", "arterial3", "arterial6", "arterial9"]
    assert chosen[4:8] == ["venous0", "venous1", "venous2", "venous3"]
    assert chosen[8:] == ["late0", "late0", "late1", "late1"]


def test_samples_of_pairs_continue_exactly(archive):
    sequences = read_pairs(archive)
    stream = PairSamples(sequences, size=96, crop=64, batch=2, seed=1)
    next(stream)
    state, expected = stream.state_dict(), next(stream)
    resumed = PairSamples(sequences, size=96, crop=64, batch=2)
    resumed.load_state_dict(state)
    again = next(resumed)
    assert torch.equal(expected.target, again.target)
    assert expected.lesions is None
    assert expected.photo.shape == (2, 3, 64, 64)
    assert expected.mask.max() <= 1


def test_samples_of_pairs_refuse_other_files_and_other_kinds_of_data(tmp_path):
    def stream(name):
        frames = (Frame(tmp_path / f"{name}-0.png", "late"),)
        return PairSamples([PairSequence("s", tmp_path / f"{name}.png", frames)], batch=2)

    state = stream("a").state_dict()
    with pytest.raises(ConfigError, match="--data"):
        stream("b").load_state_dict(state)
    with pytest.raises(ConfigError, match="another mix"):
        stream("a").load_state_dict({"seed": 0, "index": 0, "batch": 2, "eyes": 1})
    del state["data"]  # as earlier releases wrote it
    stream("b").load_state_dict(state)


def test_photo_and_frames_are_augmented_in_step():
    ramp = torch.linspace(0.1, 0.9, 64).expand(2, 1, 64, 64) * torch.linspace(0.5, 1, 64).view(1, 1, 64, 1)
    field = torch.ones(2, 1, 64, 64)
    generator = torch.Generator().manual_seed(3)
    photo, frames, inside = augment_pairs(ramp.repeat(1, 3, 1, 1), ramp.repeat(1, 6, 1, 1), field, generator)
    seen = inside[:, 0] > 0
    for i in range(2):
        pair = torch.stack([photo[i, 1][seen[i]], frames[i, 0][seen[i]]])
        assert torch.corrcoef(pair)[0, 1] > 0.7


def test_unaugmented_pairs_are_as_on_disk(archive):
    photo, frames, field = load_pair(read_pairs(archive)[0], 160)
    assert photo.shape == (160, 160, 3)
    assert frames.shape == (12, 160, 160)
    assert 0.3 < field.mean() < 1
    assert frames[:, ~field].max() == 0


def test_the_common_field_ends_where_a_moved_frame_does(archive):
    sequence = read_pairs(archive)[0]
    *kept, last = sequence.frames
    moved = dataclasses.replace(last, transform=(1.0, 0.0, 40.0, 0.0, 1.0, 0.0))
    _, _, whole = load_pair(sequence, 160)
    _, _, common = load_pair(dataclasses.replace(sequence, frames=(*kept, moved)), 160)
    strip = np.arange(160) < 38
    assert whole[:, strip].any() and not common[:, strip].any()
    np.testing.assert_array_equal(common[:, 44:], whole[:, 44:])


def test_a_transform_puts_a_frame_onto_its_photo():
    frame = np.zeros((50, 60), np.float32)
    frame[20, 30] = 1
    moved = warp_frame(frame, (2.0, 0, 5.0, 0, 2.0, -3.0), (100, 130))
    y, x = np.unravel_index(moved.argmax(), moved.shape)
    assert abs(x + 0.5 - (2 * 30.5 + 5)) <= 1
    assert abs(y + 0.5 - (2 * 20.5 - 3)) <= 1


@pytest.mark.parametrize(
    ("turn", "grow", "shift"),
    [(0.05, 1.03, (5.0, -4.0)), (-0.25, 1.1, (30.0, -20.0))],
    ids=["little", "far"],
)
def test_registration_finds_a_known_turn_scale_and_shift(prepared_eyes, healthy_sequences, turn, grow, shift):
    eye, frame = prepared_eyes[0], healthy_sequences.frames[0, 6].numpy() * 255
    matrix = grow * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    middle = np.array([127.5, 127.5])
    offset = middle - matrix @ middle + np.array(shift)
    moved = ndimage.affine_transform(frame, matrix, offset, order=1)
    found = register_frame(eye.photo, moved.astype(np.uint8))
    assert found.accepted
    points = np.array([[80.0, 80.0], [80.0, 180.0], [180.0, 130.0]])
    true = (points - 0.5) @ matrix.T + offset + 0.5
    a, b, c, d, e, f = found.transform
    estimated = np.stack(
        [d * points[:, 1] + e * points[:, 0] + f, a * points[:, 1] + b * points[:, 0] + c], 1
    )
    assert np.abs(estimated - true).max() < 2.0


def test_a_blank_frame_has_no_quality(prepared_eyes):
    found = register_frame(prepared_eyes[0].photo, np.zeros((256, 256), np.uint8))
    assert (found.quality, found.accepted) == (0.0, False)


def test_registration_without_simpleitk_names_the_extra(prepared_eyes, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    with pytest.raises(MissingDependencyError, match=r"\[train\]"):
        register_frame(prepared_eyes[0].photo, np.zeros((256, 256), np.uint8))


def test_registration_rejects_another_eye(prepared_eyes, healthy_sequences):
    other = (healthy_sequences.frames[1, 6].numpy() * 255).astype(np.uint8)
    found = register_frame(prepared_eyes[0].photo, other)
    assert found.quality < 0.5


def test_a_sequence_without_frames_says_which_phase_it_lacks(archive):
    sequence = read_pairs(archive)[0]
    empty = PairSequence(sequence.name, sequence.photo, ())
    assert empty.missing_phases == ("arterial", "venous", "late")
    with pytest.raises(ConfigError, match="has no arterial frame"):
        choose_frames(empty)
