"""Layers of the pix2pixHD global generator, indexed so that keys follow its public layout.

Source: Wang et al., "High-Resolution Image Synthesis and Semantic Manipulation with Conditional GANs"
(CVPR 2018), the global generator; the block layout is restated here from the paper and the key names.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network.architecture import DOWNSAMPLINGS, Architecture


def exporting() -> bool:
    """True inside ``torch.export`` (and so inside ONNX export), False in eager and compiled runs."""
    asked = getattr(torch.compiler, "is_exporting", None)  # from torch 2.7
    return bool(asked()) if asked is not None else False


NORM_EPS = 1e-5
TRUNK_LAYERS = 1 + 3 * (DOWNSAMPLINGS + 1)
"""Layers before the first residual block: padding, then convolution, normalisation and ReLU five times."""


class InstanceNorm(nn.Module):
    """Instance normalisation without parameters: each channel of each picture to mean 0, variance 1."""

    def forward(self, maps: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to maps of the same shape."""
        if exporting():  # a graph asks for neither device nor memory layout
            return F.instance_norm(maps, eps=NORM_EPS)
        # One group a channel is the same formula; PyTorch's kernel for it is several times as fast on a CPU.
        # Its channels-last variant sums squares before it subtracts, which costs float32 three digits.
        if maps.device.type == "cpu" and (maps.dtype != torch.float32 or maps.is_contiguous()):
            return F.group_norm(maps, maps.shape[1], eps=NORM_EPS)
        return F.instance_norm(maps, eps=NORM_EPS)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with reflection padding and instance normalisation, added to the input."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(),
            nn.ReLU(inplace=True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            InstanceNorm(),
        )

    def forward(self, maps: Tensor) -> Tensor:
        """Maps ``(N, C, H, W)`` to maps of the same shape."""
        changed: Tensor = self.conv_block(maps)
        return maps + changed


class ResizeConv2d(nn.Conv2d):
    """Doubles height and width by nearest resize, then convolves: no checkerboard."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002  the name that nn.Conv2d gives it
        """Maps ``(N, C, H, W)`` to ``(N, C', 2H, 2W)``."""
        # by size, not by factor: where sizes are symbols, a product of fractions is no size
        size = (2 * input.shape[2], 2 * input.shape[3])
        return super().forward(F.interpolate(input, size=size, mode="nearest"))


def trunk_layers(architecture: Architecture, in_channels: int) -> list[nn.Module]:
    """Stem, four downsamplings and the encoder's residual blocks, in the order of the public layout."""
    width = architecture.width
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(in_channels, width, 7), *_norm_relu()]
    for _ in range(DOWNSAMPLINGS):
        layers += [nn.Conv2d(width, 2 * width, 3, stride=2, padding=1), *_norm_relu()]
        width *= 2
    return layers + [ResidualBlock(width) for _ in range(architecture.encoder_blocks)]


def decoder_layers(architecture: Architecture, out_channels: int) -> list[nn.Module]:
    """The decoder's residual blocks, four upsamplings and the 7x7 output convolution (no tanh)."""
    width = architecture.channels[-1]
    layers: list[nn.Module] = [ResidualBlock(width) for _ in range(architecture.decoder_blocks)]
    for narrower in reversed(architecture.decoder_channels):
        up: nn.Module
        if architecture.upsample == "resize":
            up = ResizeConv2d(width, narrower, 3, padding=1)
        else:
            up = nn.ConvTranspose2d(width, narrower, 3, stride=2, padding=1, output_padding=1)
        layers += [up, *_norm_relu()]
        width = narrower
    return [*layers, nn.ReflectionPad2d(3), nn.Conv2d(width, out_channels, 7)]


def _norm_relu() -> list[nn.Module]:
    return [InstanceNorm(), nn.ReLU(inplace=True)]
