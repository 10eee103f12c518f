"""Grain of a camera: noise that depends on nothing but a seed and a pixel's number.

It is the same on every device and in any order. A generator of random numbers on an accelerator gives other
numbers than one on the CPU, and one on the CPU is too slow to feed an accelerator; an integer hash of (seed,
pixel) costs a few instructions anywhere.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

_MIX = 0x7FEB352D  # multipliers of lowbias32 (Wellons 2018, "Prospecting for hash functions")
_STIR = -2073254261  # 0x846CA68B as a signed 32-bit number
_NEXT = 7919  # from the seed of one frame to that of the next


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


def mean_of_nine(image: Tensor) -> Tensor:
    """Mean of 3 x 3 pixels, the border repeated; on a CPU four times as fast as pooling."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")
    rows = padded[..., :-2, :] + padded[..., 1:-1, :]
    rows += padded[..., 2:, :]
    total = rows[..., :-2] + rows[..., 1:-1]
    total += rows[..., 2:]
    return total.mul_(1 / 9)


def soften(image: Tensor, amount: Tensor) -> Tensor:
    """Mixes a picture with its 3 x 3 mean; ``amount`` (B,) in [0, 1]."""
    return torch.lerp(image, mean_of_nine(image), amount.view(-1, 1, 1, 1))


def angiograph_noise(grey: Tensor, level: Tensor, seed: Tensor, index: Tensor) -> Tensor:
    """Noise of a frame: photons' grows with the root of the light, and the camera adds its own.

    Args:
        grey: frame (B, 1, H, W) in [0, 1].
        level: how noisy the camera is, (B, 1, 1, 1).
        seed: of the sequence, int (B,).
        index: number of the frame in its sequence, int (B,).

    Returns:
        What is to be added, (B, 1, H, W), coarser than a pixel as in real frames.
    """
    noise = gaussian_noise(seed + _NEXT * (index + 1), grey.shape[-2] + 1, grey.shape[-1] + 1)
    rows = noise[..., :-1, :] + noise[..., 1:, :]
    noise = (rows[..., :-1] + rows[..., 1:]).mul_(0.5)
    return noise.mul_(grey.sqrt().mul_(1.1 * level).add_(0.5 * level))
