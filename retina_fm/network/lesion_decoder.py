"""The generator's decoder as part of an encoder: lesion and vessel maps at the view's own resolution."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from retina_fm.network.architecture import DOWNSAMPLINGS, FRAMES, Architecture
from retina_fm.network.layers import ResizeConv2d, decoder_layers


class LesionDecoder(nn.Module):
    """Attention, upsamplings and skips of the generator; of its outputs, all but the frames.

    Small lesions are lost on the way to strides 4 and 8, where the encoder's own heads read: on seven
    photographs of IDRiD the first released weights found haemorrhages with an AUROC of 0.82 here and 0.63
    there.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layers = nn.Sequential(*decoder_layers(architecture, architecture.outputs - FRAMES))
        self.attention = attention_layer(architecture)
        self.skips = skip_layers(architecture)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``(N, L, H, W)`` from the encoder's five maps; a vessel map comes last, if any."""
        return decode(self.layers, self.skips, attend(self.attention, maps[-1])[0], maps)


def attention_layer(architecture: Architecture) -> nn.Conv2d | None:
    """Where to look: one channel from the last map, or None."""
    return nn.Conv2d(architecture.channels[-1], 1, 1) if architecture.attention else None


def skip_layers(architecture: Architecture) -> nn.ModuleList | None:
    """What the encoder's maps at strides 1 to 8 add to the decoder's, or None."""
    if not architecture.skips:
        return None
    return nn.ModuleList(nn.Conv2d(c, c, 1, bias=False) for c in architecture.channels[:DOWNSAMPLINGS])


def attend(attention: nn.Module | None, coarse: Tensor) -> tuple[Tensor, Tensor | None]:
    """The last map weighed by attention, and the attention in (0, 1)."""
    if attention is None:
        return coarse, None
    where: Tensor = torch.sigmoid(attention(coarse))
    return coarse * (1 + where), where


def decode(
    layers: Iterable[nn.Module], skips: nn.ModuleList | None, coarse: Tensor, maps: Sequence[Tensor]
) -> Tensor:
    """From the last map up to stride 1, before any tanh."""
    decoded = coarse
    level = DOWNSAMPLINGS
    for layer in layers:
        decoded = layer(decoded)
        if isinstance(layer, ResizeConv2d | nn.ConvTranspose2d):
            level -= 1
            if skips is not None:  # before the normalisation: one convolution over both
                decoded = decoded + skips[level](maps[level])
    return decoded
