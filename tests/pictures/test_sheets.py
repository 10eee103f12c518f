"""Sheets hold every picture in its place."""

from __future__ import annotations

import numpy as np

from retina_fm.pictures.sheets import grid


def test_pictures_lie_row_by_row_and_the_rest_is_black() -> None:
    pictures = [np.full((2, 3, 3), number, np.uint8) for number in (1, 2, 3)]
    sheet = grid(pictures, 2)
    assert sheet.shape == (4, 6, 3)
    assert sheet[::2, ::3, 0].tolist() == [[1, 2], [3, 0]]
    np.testing.assert_array_equal(grid(pictures, 3), np.concatenate(pictures, 1))
