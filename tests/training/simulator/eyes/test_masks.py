"""Masks find their own photo, and what they show does not depend on how it is coloured."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.training.simulator.eyes.masks import (
    coverage,
    find_mask,
    ignored_folders,
    lesion_folders,
    listed_masks,
    masks_of,
    read_mask,
)

SQUARE = np.zeros((8, 8), np.uint8)
SQUARE[2:6, 2:6] = 1


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


def test_lesion_folders_go_by_any_case_spaces_and_numbers(tmp_path):
    for name in ("1. Soft Exudates", "2_HAEMORRHAGES", "5. Optic Disc", ".git", "__MACOSX"):
        (tmp_path / name).mkdir()
    assert set(lesion_folders(tmp_path)) == {"haemorrhage", "cotton_wool_spot"}
    assert [path.name for path in ignored_folders(tmp_path)] == ["5. Optic Disc"]
    (tmp_path / "he").mkdir()
    with pytest.raises(ConfigError, match="Merge them"):
        lesion_folders(tmp_path)


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
    assert (read_mask(tmp_path / "mask.png") == SQUARE).all()


def test_what_is_transparent_is_black(tmp_path):
    picture = Image.new("RGBA", (8, 8), (255, 255, 255, 0))
    picture.paste((255, 255, 255, 255), (2, 2, 6, 6))
    picture.save(tmp_path / "mask.png")
    assert (read_mask(tmp_path / "mask.png") == SQUARE).all()


def test_shares_stay_shares_and_labels_are_refused(tmp_path):
    soft = np.array([[0, 128, 255]], np.uint8)
    assert coverage(soft) == pytest.approx(soft / 255.0)
    Image.fromarray(np.array([[0, 1, 2]], np.uint8)).save(tmp_path / "labels.png")
    with pytest.raises(PictureError, match=r"labels\.png.*a mask for each label"):
        read_mask(tmp_path / "labels.png")
