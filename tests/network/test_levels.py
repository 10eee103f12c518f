"""Levels and values go into each other without loss."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from retina_fm.network.levels import from_levels, to_levels, to_uint8

LEVELS = np.arange(256, dtype=np.uint8).reshape(16, 16)


@pytest.mark.parametrize("levels", [LEVELS, torch.from_numpy(LEVELS), LEVELS.astype(np.float64)])
def test_every_level_comes_back(levels: np.ndarray | torch.Tensor) -> None:
    values = from_levels(levels)
    assert (values.dtype, float(values.min()), float(values.max())) == (torch.float32, -1.0, 1.0)
    assert to_uint8(values).dtype == np.uint8
    np.testing.assert_array_equal(to_uint8(values), LEVELS)


def test_values_between_levels_are_rounded_and_values_outside_clipped() -> None:
    values = torch.tensor([-1.2, -0.999, 0.0, 1.2], dtype=torch.bfloat16).requires_grad_()
    np.testing.assert_array_equal(to_uint8(values), [0, 0, 128, 255])
    assert to_levels(torch.zeros(1))[0] == 127.5
