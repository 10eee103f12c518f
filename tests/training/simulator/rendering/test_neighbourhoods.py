"""Quick ways to reduce and to enlarge give what torch's own give."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from retina_fm.pictures.grids import enlarged
from retina_fm.training.simulator.rendering.neighbourhoods import highest_around, mean_around


@pytest.mark.parametrize("shape", [(2, 1, 33, 47), (1, 3, 5, 5), (1, 1, 3, 40)])
def test_neighbourhoods_are_those_of_pooling(shape):
    maps = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    assert torch.equal(highest_around(maps), F.max_pool2d(maps, 5, 1, 2))
    expected = F.avg_pool2d(maps, 5, 1, 2, count_include_pad=False)
    torch.testing.assert_close(mean_around(maps), expected, atol=1e-6, rtol=1e-5)


def test_fields_are_enlarged_bicubically():
    field = torch.randn(2, 1, 9, 12, generator=torch.Generator().manual_seed(1))
    expected = F.interpolate(field, (96, 64), mode="bicubic", align_corners=False)
    torch.testing.assert_close(enlarged(field, 96, 64), expected, atol=1e-5, rtol=1e-5)
