from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from retina_fm.pictures import find_field_of_view, read_picture
from retina_fm.pictures.field_of_view import lit_field
from tests.pictures.drawn import disc, fundus, overlap

H, W = 480, 640
CENTRE, RADIUS = (240.0, 320.0), 216.0


def agreement(picture, centre=CENTRE, radius=RADIUS):
    found = find_field_of_view(picture)
    assert found is not None
    height, width = picture.shape[:2]
    mine = disc(height, width, (found.centre_y, found.centre_x), found.radius)
    return overlap(mine, disc(height, width, centre, radius))


@pytest.mark.parametrize("seed", range(4))
def test_a_plain_disc_is_found(seed):
    random = np.random.default_rng(seed)
    centre = (float(random.uniform(220, 260)), float(random.uniform(260, 380)))
    radius = float(random.uniform(120, 210))
    assert agreement(fundus(H, W, centre, radius, seed=seed), centre, radius) > 0.98


@pytest.mark.parametrize("radius", [75.0, 90.0, 120.0])
def test_a_small_disc_in_a_wide_surround_is_found(radius):
    assert agreement(fundus(radius=radius), radius=radius) > 0.97


@pytest.mark.parametrize("brightness", [0.15, 0.3, 2.5])
def test_dark_and_overexposed_discs_are_found(brightness):
    assert agreement(fundus(brightness=brightness)) > 0.98


def test_a_disc_of_low_contrast_is_found():
    assert agreement(fundus(brightness=0.35, surround=15)) > 0.98


@pytest.mark.parametrize("radius", [255.0, 300.0])
def test_discs_clipped_above_and_below_are_found(radius):
    assert agreement(fundus(radius=radius), radius=radius) > 0.98


def test_a_disc_clipped_at_the_sides_is_found():
    assert agreement(fundus(640, 480, (320, 240), 280), (320, 240), 280) > 0.98


def test_a_disc_cut_on_one_side_is_found():
    assert agreement(fundus(H, W, (170, 320), 216), (170, 320)) > 0.98


def test_a_notch_does_not_shift_the_circle():
    picture = fundus()
    picture[216:264, 524:556] = 180  # a tab beyond the edge
    assert agreement(picture) > 0.98
    picture = fundus()
    picture[225:255, 500:556] = 2  # a bite into it
    assert agreement(picture) > 0.98


def test_text_in_the_surround_is_not_the_eye():
    image = Image.fromarray(fundus())
    draw = ImageDraw.Draw(image)
    for y in (5, 25, 440):
        draw.text((5, y), "PATIENT 0012 OD 50 deg 2026", fill=(255, 255, 255))
    assert agreement(np.asarray(image)) > 0.98


def test_a_grey_angiogram_is_found():
    grey = fundus()[..., :1].repeat(3, axis=2)
    assert agreement(grey) > 0.98


def test_large_and_small_pictures_give_the_same_circle():
    large = fundus(1920, 2560, (960, 1280), 860)
    assert agreement(large, (960, 1280), 860) > 0.985
    assert agreement(fundus(120, 160, (60, 80), 54), (60, 80), 54) > 0.95


def test_the_same_picture_gives_the_same_circle():
    assert find_field_of_view(fundus(radius=300)) == find_field_of_view(fundus(radius=300))


def _square_of_light():
    picture = np.full((H, W, 3), 3, np.uint8)
    picture[60:420, 100:540] = fundus(radius=900)[60:420, 100:540]
    return picture


def _letterboxed():
    """A frame cropped to the retina between two dark bars."""
    picture = np.full((H, W, 3), 3, np.uint8)
    picture[:, 160:480] = fundus(radius=900)[:, 160:480]
    return picture


def _scan():
    """An OCT scan: bright layers right across."""
    y = np.mgrid[:H, :W][0]
    layers = 20 + 180 * np.exp(-(((y - 250 - 15 * np.sin(np.arange(W) / 90)) / 40) ** 2))
    noise = np.random.default_rng(0).normal(0, 12, layers.shape)
    return np.clip(layers + noise, 0, 255).astype(np.uint8)[..., None].repeat(3, axis=2)


@pytest.mark.parametrize(
    "picture",
    [
        fundus(radius=900),
        _square_of_light(),
        _scan(),
        np.random.default_rng(0).integers(0, 255, (H, W, 3), dtype=np.uint8),
        fundus(32, 32, radius=90),
        _letterboxed(),
        _letterboxed().transpose(1, 0, 2),
    ],
    ids=[
        "cropped to the retina",
        "a lit rectangle",
        "a scan",
        "noise",
        "tiny",
        "dark bars left and right",
        "dark bars above and below",
    ],
)
def test_pictures_without_a_circle_have_none(picture):
    assert find_field_of_view(picture) is None


@pytest.mark.parametrize("shape", [(32, 4000), (4000, 32), (33, 47)])
def test_odd_shapes_do_not_fail(shape):
    picture = np.random.default_rng(0).integers(0, 255, (*shape, 3), dtype=np.uint8)
    find_field_of_view(picture)


def test_it_agrees_with_the_masks_of_real_photographs():
    folder = os.environ.get("RETINA_FM_TEST_DATA")
    if not folder or not Path(folder, "rite_train", "masks").is_dir():
        pytest.skip("RETINA_FM_TEST_DATA names no folder with rite_train")
    masks = sorted(Path(folder, "rite_train", "masks").iterdir())
    assert len(masks) == 20
    worst = {}
    for file in masks:
        photo = next(Path(folder, "rite_train", "images").glob(f"{file.stem}.*"))
        mask = np.asarray(Image.open(file).convert("L")) > 127
        found = find_field_of_view(read_picture(photo))
        assert found is not None, file.stem
        worst[file.stem] = overlap(disc(*mask.shape, (found.centre_y, found.centre_x), found.radius), mask)
    assert min(worst.values()) >= 0.98, worst


def test_what_is_black_from_the_rim_on_is_no_field_where_a_photo_was_squeezed():
    squeezed = np.array(Image.fromarray(fundus(480, 480)).resize((360, 480)))
    ellipse = np.array(Image.fromarray(disc(480, 480, (240.0, 240.0), 216.0)).resize((360, 480)))
    circle = disc(480, 360, (240.0, 180.0), 216.0)
    assert overlap(lit_field(squeezed, circle), ellipse) > 0.98
    assert overlap(circle, ellipse) < 0.85


def test_a_dark_macula_stays_in_the_field_and_a_black_picture_keeps_it():
    picture, inside = fundus(480, 480), disc(480, 480, (240.0, 240.0), 216.0)
    picture[disc(480, 480, (240.0, 240.0), 40.0)] = 0
    assert lit_field(picture, inside)[240, 240]
    assert (lit_field(np.zeros_like(picture), inside) == inside).all()
