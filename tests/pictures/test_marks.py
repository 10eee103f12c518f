"""The word SYNTHETIC is whole in pictures of any size, and lies outside a drawn field of view."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFont

from retina_fm.cli.work.demo_photos import draw_photos
from retina_fm.pictures import Transform
from retina_fm.pictures.marks import NOTE, marked, png_notes
from retina_fm.training.simulator.anatomy.drawn import draw_patient


def ink(text: str, side: int) -> int:
    """White pixels of a word that nothing cuts off."""
    picture = Image.new("L", (400, 100))
    ImageDraw.Draw(picture).multiline_text(
        (9, 9), text, 255, ImageFont.load_default(size=max(9, side // 26)), spacing=1
    )
    return int((np.asarray(picture) > 0).sum())


@pytest.mark.parametrize("side", [32, 48, 55, 56, 64, 128, 512])
@pytest.mark.parametrize("colour", [(), (3,)])
def test_the_word_is_whole_in_a_picture_of_any_size(side: int, colour: tuple[int, ...]) -> None:
    picture = np.zeros((side, side, *colour), np.uint8)
    found = marked(picture)
    assert found.shape == picture.shape and found.dtype == np.uint8
    white = int(((found if not colour else found[..., 0]) > 0).sum())
    assert white in (ink("SYNTHETIC", side), ink("SYN\nTHE\nTIC", side))
    assert marked(np.full_like(picture, 255)).min() == 0  # black behind it


def test_a_file_says_that_it_is_synthetic(tmp_path: Path) -> None:
    Image.new("L", (8, 8)).save(tmp_path / "a.png", pnginfo=png_notes())
    with Image.open(tmp_path / "a.png") as image:
        assert image.info == NOTE


@pytest.mark.slow
def test_photographs_of_the_demo_are_marked_and_look_the_same_to_a_model(tmp_path: Path) -> None:
    draw_photos(tmp_path, patients=1, size=512)
    path = tmp_path / "patient01_right_1.png"
    with Image.open(path) as image:
        assert image.info["Synthetic"] == "true"
    bare = next(iter(draw_patient(1, 512, lesions={}))).photo
    assert (np.asarray(Image.open(path)) != bare).any()
    seen, wanted = (Transform(size=256).view(photo)[0] for photo in (path, bare))
    assert np.array_equal(seen, wanted)
