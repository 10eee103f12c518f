"""Means and growth against scipy's."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from retina_fm.vessels.line_filter import blurred, blurred_all
from retina_fm.vessels.smoothing import grown, smoothed


@pytest.mark.parametrize("shape", [(64, 64), (37, 90), (70, 5)])
@pytest.mark.parametrize("sigma", [0.3, 1.0, 7.5, 40.0])
def test_a_gaussian_mean_is_scipys(shape: tuple[int, int], sigma: float) -> None:
    image = np.random.default_rng(0).random(shape, dtype=np.float32)
    assert np.abs(smoothed(image, sigma) - ndimage.gaussian_filter(image, sigma)).max() < 1e-6


@pytest.mark.parametrize("corners", [False, True])
@pytest.mark.parametrize("reach", [1, 2, 6])
def test_growth_is_scipys(reach: int, corners: bool) -> None:
    mask = np.random.default_rng(0).random((50, 41)) > 0.97
    step = np.ones((3, 3)) if corners else None
    wanted = ndimage.binary_dilation(mask, step, iterations=reach)
    assert np.array_equal(grown(mask, reach, corners=corners), wanted)


@pytest.mark.parametrize("sigma", [3.0, 9.0])
def test_the_mean_inside_a_field_knows_nothing_of_what_is_outside(sigma: float) -> None:
    random = np.random.default_rng(0)
    y, x = np.mgrid[:90, :70]
    inside = (np.hypot(y - 45, x - 35) < 30).astype(np.float32)
    image = random.random((90, 70), dtype=np.float32)
    found = blurred(image, inside, sigma)[inside > 0]
    assert np.array_equal(found, blurred(image + 9 * (1 - inside), inside, sigma)[inside > 0])
    assert np.abs(blurred(inside, inside, sigma)[inside > 0] - 1).max() < 1e-5
    top, bottom = (ndimage.gaussian_filter(part, sigma)[inside > 0] for part in (image * inside, inside))
    assert np.abs(found - top / bottom).max() < (1e-5 if sigma < 8 else 0.02)
    assert np.array_equal(blurred_all([inside, image], inside, sigma)[1][inside > 0], found)
