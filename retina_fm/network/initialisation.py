"""Random weights that are the same on every machine and with every release of PyTorch."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm.network.encoder import Encoder


@torch.no_grad()
def initialise(encoder: Encoder, seed: int) -> None:
    """Fill an encoder from a seed: Kaiming-uniform convolutions, zero biases, a random projection.

    The stream is the raw output of NumPy's PCG64, which NumPy promises to keep (NEP 19); the streams of
    torch's and NumPy's distributions carry no such promise.
    """
    stream = np.random.PCG64(seed)
    for module in encoder.modules():
        if isinstance(module, nn.Conv2d):
            fan_in = module.weight[0].numel()
            module.weight.copy_(_uniform(stream, module.weight, math.sqrt(6.0 / fan_in)))
            if module.bias is not None:
                module.bias.zero_()
    projection = encoder.pooling.projection
    projection.copy_(_uniform(stream, projection, math.sqrt(3.0 / projection.shape[1])))


def _uniform(stream: np.random.PCG64, like: Tensor, bound: float) -> Tensor:
    count = like.numel()
    raw = stream.random_raw((count + 1) // 2).view(np.uint32)[:count]
    # 24 bits are what a float32 holds exactly
    unit = (raw >> 8).astype(np.float32) / np.float32(2**24)
    return torch.from_numpy((2 * unit - 1) * np.float32(bound)).view(like.shape)
