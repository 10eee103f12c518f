"""The last stage at half its stride, with the same weights: holes in the filters instead of a step."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network.layers import TRUNK_LAYERS, ResidualBlock


def dilated_last_stage(layers: nn.Sequential, maps: Tensor) -> Tensor:
    """The map of the last stage at stride 8 instead of 16.

    Every second place of the result has seen the same pixels through the same weights as the usual map; what
    differs are the statistics of the normalisation and the rim.

    Args:
        layers: of the trunk; they are read, not changed, so that other users of the encoder see nothing.
        maps: the trunk's map at stride 8, ``(N, C, H / 8, W / 8)``.

    Returns:
        ``(N, 2 C, H / 8, W / 8)``.
    """
    down: Any = layers[TRUNK_LAYERS - 3]
    maps = F.conv2d(maps, down.weight, down.bias, padding=1)
    maps = layers[TRUNK_LAYERS - 1](layers[TRUNK_LAYERS - 2](maps))
    for block in list(layers)[TRUNK_LAYERS:]:
        maps = maps + _through(block, maps)
    return maps


def _through(block: nn.Module, maps: Tensor) -> Tensor:
    assert isinstance(block, ResidualBlock)
    for layer in block.conv_block:
        if isinstance(layer, nn.ReflectionPad2d):
            maps = F.pad(maps, (2, 2, 2, 2), mode="reflect")
        elif isinstance(layer, nn.Conv2d):
            maps = F.conv2d(maps, layer.weight, layer.bias, dilation=2)
        else:
            maps = layer(maps)
    return maps
