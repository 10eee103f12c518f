"""Masks find the photo that they are named after, and no other."""

from __future__ import annotations

import pytest

from retina_fm.pictures.mask_names import masks_by_photo, owner

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
