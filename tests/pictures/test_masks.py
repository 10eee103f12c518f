"""Masks find the photo that they are named after, and what they show does not depend on their colour."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures.masks import (
    coverage,
    find_mask,
    listed_masks,
    masks_by_photo,
    masks_of,
    owner,
    read_coverage,
    read_mask,
)

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:6, 2:6] = 1
PHOTOS = {"p1", "p1_2", "p10", "left", "img.v2"}


@pytest.mark.parametrize(
    ("mask", "photo"),
    [
        ("p1", "p1"),
        ("p1_2", "p1_2"),  # not a second mask of p1
        ("p1_manual", "p1"),
        ("p1_2_manual", "p1_2"),
        ("p1-vessels", "p1"),
        ("p1.jpg", "p1"),
        ("p10_manual", "p10"),
        ("p100", None),
        ("mask_p1", "p1"),
        ("mask_p1_2", "p1_2"),
        ("p1_left", "p1"),  # what a name begins with comes first
        ("img.v2_vessels", "img.v2"),
        ("_", None),
        ("other", None),
    ],
)
def test_a_mask_belongs_to_one_photo(mask, photo):
    assert owner(mask, PHOTOS) == photo


def test_the_photos_own_name_comes_before_all_others():
    found = masks_by_photo(PHOTOS, ["p1_manual", "p1", "p10_b", "p10_a", "p7"])
    assert found == {"p1": ["p1"], "p10": ["p10_a", "p10_b"]}


def files(folder: Path, *names: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name in names:
        (folder / name).touch()
    return folder


def test_a_mask_that_another_photo_is_named_after_is_not_taken(tmp_path):
    photos = files(tmp_path / "photos", "p1.png", "p1_2.png")
    masks = files(tmp_path / "masks", "p1_2.png")
    assert find_mask(masks, photos / "p1.png") is None
    assert find_mask(masks, photos / "p1_2.png") == masks / "p1_2.png"
    files(masks, "p1_2_manual.png", "p1_manual.png")
    found = masks_of([photos / "p1.png", photos / "p1_2.png"], listed_masks(masks))
    assert found == {"p1": masks / "p1_manual.png", "p1_2": masks / "p1_2.png"}


def test_names_are_not_patterns_and_texts_are_not_masks(tmp_path):
    masks = files(tmp_path / "masks", "eye[1].png", "eye1.png", "note.txt", ".eye2.png")
    assert find_mask(masks, Path("eye[1].jpg")) == masks / "eye[1].png"
    assert find_mask(masks, Path("note.jpg")) is None
    assert set(listed_masks(masks)) == {"eye[1]", "eye1"}


def test_a_photo_is_not_its_own_mask(tmp_path):
    files(tmp_path, "im1.jpg", "im1_1stHO.png")
    assert find_mask(tmp_path, tmp_path / "im1.jpg") == tmp_path / "im1_1stHO.png"


def painted(mode: str, *colour: int) -> Image.Image:
    picture = Image.new(mode, (8, 8))
    picture.paste(colour if len(colour) > 1 else colour[0], (2, 2, 6, 6))
    return picture


def palette() -> Image.Image:
    picture = painted("P", 1)
    picture.putpalette([0, 0, 0, 128, 0, 0])
    return picture


@pytest.mark.parametrize(
    "picture",
    [
        painted("RGB", 255, 0, 0),
        painted("RGB", 0, 0, 90),
        painted("RGBA", 0, 255, 0, 255),
        painted("LA", 255, 255),
        painted("L", 1),
        painted("L", 2),
        painted("1", 1),
        painted("I;16", 65535),
        palette(),
    ],
    ids=[
        "red",
        "dark blue",
        "green with alpha",
        "grey with alpha",
        "one",
        "two",
        "bits",
        "16 bits",
        "palette",
    ],
)
def test_a_mask_of_any_colour_is_the_same_mask(picture, tmp_path):
    picture.save(tmp_path / "mask.png")
    assert (read_coverage(tmp_path / "mask.png") == SQUARE).all()


def test_what_is_transparent_is_black(tmp_path):
    picture = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    picture.paste((255, 255, 255, 255), (2, 2, 6, 6))
    picture.save(tmp_path / "mask.png")
    assert (read_coverage(tmp_path / "mask.png") == SQUARE).all()


def test_shares_stay_shares_and_labels_are_refused(tmp_path):
    soft = np.array([[0, 128, 255]], np.uint8)
    assert coverage(soft) == pytest.approx(soft / 255.0)
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "labels.png")
    with pytest.raises(PictureError, match=r"labels\.png.*a mask for each label"):
        read_coverage(tmp_path / "labels.png")


def test_where_values_are_classes_a_coloured_mask_is_refused(tmp_path):
    painted("RGB", 255, 0, 0).save(tmp_path / "mask.png")
    with pytest.raises(ConfigError, match="is coloured"):
        read_mask(tmp_path / "mask.png", (8, 8), "photo")
    painted("RGB", 7, 7, 7).save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png", (8, 8), "photo") == 7 * SQUARE).all()


@pytest.mark.parametrize("read", [read_coverage, lambda path: read_mask(path, (8, 8), "photo")])
def test_masks_that_are_none_say_so(read, tmp_path):
    with pytest.raises(PictureError, match=r"none\.png.*no such file"):
        read(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no picture")
    with pytest.raises(PictureError, match=r"text\.png.*no picture in a format"):
        read(tmp_path / "text.png")
