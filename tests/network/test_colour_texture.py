from __future__ import annotations

import colorsys

import numpy as np
import torch

from retina_fm.network import Architecture, Encoder
from retina_fm.network.colour_texture import LENGTH, colour_texture, hue_saturation_value, uniform_patterns


def test_colours_are_those_of_the_standard_library() -> None:
    rgb = torch.rand(1, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    rgb[0, :, 0, 0] = 0.5  # grey has no hue
    found = hue_saturation_value(rgb)
    for y in range(4):
        for x in range(5):
            wanted = colorsys.rgb_to_hsv(*rgb[0, :, y, x].tolist())
            assert np.allclose(found[0, :, y, x].numpy(), wanted, atol=1e-6)


def test_patterns_count_neighbours_side_by_side() -> None:
    flat = torch.zeros(1, 7, 7)
    assert uniform_patterns(flat, 1)[0, 3, 3] == 8
    peak = flat.clone()
    peak[0, 3, 3] = 1
    assert uniform_patterns(peak, 1)[0, 3, 3] == 0
    edge = flat.clone()
    edge[0, :, :3] = 1
    edge[0, 3, 3] = 0.5
    assert uniform_patterns(edge, 1)[0, 3, 3] == 3
    cross = flat.clone()
    cross[0, 3, 3] = 0.5
    cross[0, 2, 3] = cross[0, 4, 3] = 1
    assert uniform_patterns(cross, 1)[0, 3, 3] == 9


def test_turned_and_flipped_views_say_the_same_and_what_lies_outside_nothing() -> None:
    view = torch.rand(2, 3, 25, 25, generator=torch.Generator().manual_seed(1)) * 2 - 1
    mask = torch.zeros(2, 25, 25, dtype=torch.bool)
    mask[:, 5:20, 5:20] = True
    found = colour_texture(view, mask)
    assert found.shape == (2, LENGTH) and LENGTH == 92
    assert torch.allclose(found, colour_texture(view.rot90(1, (2, 3)), mask.rot90(1, (1, 2))), atol=1e-6)
    other = view.clone()
    other[:, :, :1] = -1
    assert torch.equal(found, colour_texture(other, mask))
    assert torch.allclose(found.square()[:, :24].sum(1), torch.ones(2), atol=1e-6)


def test_an_empty_field_of_view_gives_zeros() -> None:
    found = colour_texture(torch.zeros(1, 3, 16, 16), torch.zeros(1, 16, 16, dtype=torch.bool))
    assert float(found.abs().max()) == 0


def test_an_encoder_pools_them_as_one_more_block() -> None:
    torch.manual_seed(0)
    plain = Architecture(width=4, encoder_blocks=1, embedding=16)
    encoder = Encoder(plain.model_copy(update={"colour": True})).eval()
    view = torch.rand(1, 3, 48, 48) * 2 - 1
    with torch.inference_mode():
        found = encoder.statistics(view)
    assert list(encoder.pooling.blocks)[-1] == "colour" and encoder.pooling.blocks["colour"] == LENGTH
    mask = torch.ones(1, 48, 48, dtype=torch.bool)
    assert torch.equal(found[:, -LENGTH:], colour_texture(view, mask))
    assert "colour" not in Encoder(plain).pooling.blocks
