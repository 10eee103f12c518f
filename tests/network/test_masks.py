from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage

from retina_fm.network.masks import without_rim


def test_a_rim_is_taken_off_the_mask_and_off_the_pictures_edge() -> None:
    random = np.random.Generator(np.random.PCG64(0))
    masks = ndimage.gaussian_filter(random.random((3, 40, 33)), (0, 5, 5)) > 0.5
    assert 0.2 < masks.mean() < 0.8
    for width in (1, 4):
        wanted = ndimage.binary_erosion(masks, np.ones((1, 2 * width + 1, 2 * width + 1)), border_value=0)
        np.testing.assert_array_equal(without_rim(torch.from_numpy(masks), width).numpy(), wanted)
