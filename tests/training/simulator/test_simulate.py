"""Sequences on disk: resumed only where nothing changed, listed whole, marked as synthetic."""

from __future__ import annotations

import dataclasses
import json

import pytest
import torch
from PIL import Image

from retina_fm.errors import ConfigError, OutputError
from retina_fm.training import draw_retina, prepare_drawn
from retina_fm.training.pairs.table import read_pairs
from retina_fm.training.simulator.simulate import simulate


@pytest.fixture(scope="module")
def eyes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("eyes")
    paths = []
    for number in range(2):
        eye = prepare_drawn(draw_retina(number, 96, lesions={}))
        eye = dataclasses.replace(eye, metadata={"photo_sha256": f"photo {number}"})
        paths.append(folder / f"eye{number}.eye.safetensors")
        eye.save(paths[-1])
    return paths


def rendered(out, eyes, **settings):
    chosen = {"painting": 0.0, "animate": False, "workers": 1, "progress": False, **settings}
    return simulate(out, eyes=eyes, **chosen)


def test_a_photo_has_the_same_bytes_whatever_lies_beside_it(eyes, tmp_path):
    rendered(tmp_path / "both", eyes, seed=5)
    rendered(tmp_path / "alone", eyes[1:], seed=5)
    for path in (tmp_path / "alone" / "eye1-0").iterdir():
        assert path.read_bytes() == (tmp_path / "both" / "eye1-0" / path.name).read_bytes()


def test_only_what_nothing_changed_about_is_kept(eyes, tmp_path):
    out, one = tmp_path / "out", [tmp_path / "one.eye.safetensors"]
    one[0].write_bytes(eyes[0].read_bytes())
    assert rendered(out, one).made == 1
    assert rendered(out, one).reused == 1
    before = (out / "one-0" / "frame05.png").read_bytes()
    assert rendered(out, one, seed=1).made == 1
    assert (out / "one-0" / "frame05.png").read_bytes() != before
    assert rendered(out, one, seed=1, painting=1.0).made == 1
    assert list((out / "one-0").glob("lesion_*"))
    assert rendered(out, one, seed=1).made == 1
    assert not list((out / "one-0").glob("lesion_*"))
    assert rendered(out, one, seed=1, animate=True).made == 1
    one[0].write_bytes(eyes[1].read_bytes())
    assert rendered(out, one, seed=1).made == 1


def test_missing_pictures_and_damaged_records_are_made_again(eyes, tmp_path):
    rendered(tmp_path, eyes[:1])
    (tmp_path / "eye0-0" / "frame03.png").unlink()
    assert rendered(tmp_path, eyes[:1]).made == 1
    (tmp_path / "eye0-0" / "sequence.json").write_text('{"times": [')
    assert rendered(tmp_path, eyes[:1]).made == 1
    assert rendered(tmp_path, eyes[:1]).reused == 1


def test_drawn_retinas_of_another_size_are_rendered_again(tmp_path):
    for size in (64, 96):
        assert simulate(tmp_path, drawn=1, size=size, animate=False, workers=1, progress=False).made == 1
    with Image.open(tmp_path / "drawn-0" / "photo.png") as photo:
        assert photo.size == (96, 96)


def test_the_table_lists_what_earlier_calls_wrote(eyes, tmp_path):
    rendered(tmp_path, eyes[:1])
    rendered(tmp_path, eyes[1:])
    assert [s.name for s in read_pairs(tmp_path)] == ["eye0-0", "eye1-0"]
    (tmp_path / "eye0-0" / "frame00.png").unlink()
    report = rendered(tmp_path, eyes[1:])
    assert [s.name for s in read_pairs(tmp_path)] == ["eye1-0"]
    assert report.failed[0][0].endswith("eye0-0")


def test_eyes_given_twice_are_rendered_once_and_two_of_one_name_are_refused(eyes, tmp_path):
    assert rendered(tmp_path / "out", [eyes[0], eyes[0]]).made == 1
    (tmp_path / eyes[0].name).write_bytes(eyes[1].read_bytes())
    with pytest.raises(ConfigError, match="two eyes of one name"):
        rendered(tmp_path / "out", [eyes[0], tmp_path / eyes[0].name])


@pytest.mark.parametrize(
    ("settings", "hint"),
    [
        ({"workers": -1}, "workers"),
        ({"painting": 3.0}, "0 to 1"),
        ({"drawn": -1}, "drawn"),
        ({"sequences": 0}, "1 or more"),
    ],
)
def test_numbers_out_of_range_are_refused(settings, hint, eyes, tmp_path):
    with pytest.raises(ConfigError, match=hint):
        rendered(tmp_path, eyes, **settings)


def test_an_output_that_is_a_file_is_refused(eyes, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file"):
        rendered(tmp_path / "file", eyes)


def test_the_caller_keeps_its_threads(eyes, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        rendered(tmp_path, eyes[:1])
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_sheet_and_animation_say_that_they_are_synthetic(eyes, tmp_path):
    rendered(tmp_path, eyes[:1], animate=True)
    with Image.open(tmp_path / "eye0-0" / "sheet.png") as sheet:
        assert "simulated" in sheet.text["Synthetic"]
    with Image.open(tmp_path / "eye0-0" / "angiogram.gif") as moving:
        assert "simulated" in json.loads(moving.info["comment"])["Synthetic"]
