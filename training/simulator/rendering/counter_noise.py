"""Noise that depends on nothing but a seed and a pixel's number: the same on every device and in any order.

A generator on an accelerator gives other numbers than one on the CPU, and one on the CPU is too slow to feed
an accelerator. An integer hash of (seed, pixel) costs a few instructions anywhere.
"""

from __future__ import annotations

import torch
from torch import Tensor

_MIX = 0x7FEB352D  # multipliers of lowbias32 (Wellons 2018, "Prospecting for hash functions")
_STIR = -2073254261  # 0x846CA68B as a signed 32-bit number


def hashed(seed: Tensor, height: int, width: int) -> Tensor:
    """Well mixed int32 (B, 1, H, W) from ``seed`` int (B,)."""
    pixel = torch.arange(height * width, dtype=torch.int32, device=seed.device).view(1, 1, height, width)
    # 0x9E3779B9, the golden ratio, as a signed number: neighbouring seeds start far apart.
    value = pixel + seed.to(torch.int32).view(-1, 1, 1, 1) * -1640531527
    value = (value ^ ((value >> 16) & 0xFFFF)) * _MIX
    value = (value ^ ((value >> 15) & 0x1FFFF)) * _STIR
    return value ^ ((value >> 16) & 0xFFFF)


def gaussian_noise(seed: Tensor, height: int, width: int) -> Tensor:
    """Nearly Gaussian noise, zero mean and unit variance, float32 (B, 1, H, W).

    The sum of the hash's four bytes (Irwin-Hall): exact in mean and variance, tails cut at 3.5.

    Args:
        seed: int (B,), one a picture.
        height: of the pictures in pixels.
        width: of the pictures in pixels.
    """
    value = hashed(seed, height, width)
    total = (value & 255) + ((value >> 8) & 255) + ((value >> 16) & 255) + ((value >> 24) & 255)
    return (total.float() - 510.0) * (1.0 / 147.8)
