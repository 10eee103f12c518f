"""The generator's decoder as part of an encoder: lesion and vessel maps at strides 1 and 2 of the view."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

from retina_fm.network.architecture import DOWNSAMPLINGS, Architecture
from retina_fm.network.layers import ResizeConv2d, decoder_layers
from retina_fm.vocabulary import FRAMES_A_PASS

COARSE_STRIDE = 2


class LesionDecoder(nn.Module):
    """Attention, upsamplings and skips of the generator; of its outputs, all but the frames.

    Small lesions are lost on the way to strides 4 and 8, where the encoder's own heads read: on seven
    photographs of IDRiD the first released weights found haemorrhages with an AUROC of 0.82 here and 0.63
    there.
    """

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.layers = nn.Sequential(*decoder_layers(architecture, architecture.outputs - FRAMES_A_PASS))
        self.attention = attention_layer(architecture)
        self.skips = skip_layers(architecture)
        self.coarse = coarse_layer(architecture)

    def forward(self, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``(N, L, H, W)`` from the encoder's five maps: lesions, then vessels, then anatomy."""
        return decode(self.layers, self.skips, attend(self.attention, maps[-1])[0], maps)[0]

    def at_stride_2(self, maps: Sequence[Tensor]) -> Tensor:
        """The same maps at stride 2, ``(N, L, H / 2, W / 2)``, at a fraction of the cost.

        Only decoders of an architecture with ``coarse_maps`` have them.
        """
        assert self.coarse is not None
        levels = decoded_levels(self.layers, self.skips, attend(self.attention, maps[-1])[0], maps)
        logits: Tensor = self.coarse(next(islice(levels, DOWNSAMPLINGS - 2, None)))
        return logits

    def at_both(self, maps: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Logits at stride 1 and at stride 2 from one pass; needs ``coarse_maps``, too."""
        assert self.coarse is not None
        fine, before = decode(self.layers, self.skips, attend(self.attention, maps[-1])[0], maps)
        return fine, self.coarse(before)


def attention_layer(architecture: Architecture) -> nn.Conv2d | None:
    """Where to look: one channel from the last map, or None."""
    return nn.Conv2d(architecture.channels[-1], 1, 1) if architecture.attention else None


def skip_layers(architecture: Architecture) -> nn.ModuleList | None:
    """What the encoder's maps at strides 1 to 8 add to the decoder's, or None."""
    if not architecture.skips:
        return None
    pairs = zip(architecture.channels, architecture.decoder_channels, strict=False)
    return nn.ModuleList(nn.Conv2d(wide, narrow, 1, bias=False) for wide, narrow in pairs)


def coarse_layer(architecture: Architecture) -> nn.Conv2d | None:
    """Lesion and vessel maps off the decoder's map at stride 2, or None."""
    if not architecture.coarse_maps:
        return None
    return nn.Conv2d(architecture.decoder_channels[1], architecture.dense_maps, 3, padding=1)


def attend(attention: nn.Module | None, coarse: Tensor) -> tuple[Tensor, Tensor | None]:
    """The last map weighed by attention, and the attention in (0, 1)."""
    if attention is None:
        return coarse, None
    where: Tensor = torch.sigmoid(attention(coarse))
    return coarse * (1 + where), where


def decoded_levels(
    layers: Iterable[nn.Module], skips: nn.ModuleList | None, coarse: Tensor, maps: Sequence[Tensor]
) -> Iterator[Tensor]:
    """The decoder's maps at strides 8, 4, 2 and 1, each after its ReLU, then its output before any tanh.

    Nothing beyond the map that is asked for is computed.
    """
    decoded = coarse
    level = DOWNSAMPLINGS
    for layer in layers:
        decoded = layer(decoded)
        if isinstance(layer, ResizeConv2d | nn.ConvTranspose2d):
            level -= 1
            if skips is not None:  # before the normalisation: one convolution over both
                decoded = decoded + skips[level](maps[level])
        elif isinstance(layer, nn.ReLU):
            yield decoded
    yield decoded


def decode(
    layers: Iterable[nn.Module], skips: nn.ModuleList | None, coarse: Tensor, maps: Sequence[Tensor]
) -> tuple[Tensor, Tensor]:
    """From the last map up to stride 1, before any tanh; and the decoder's map at stride 2."""
    levels = list(decoded_levels(layers, skips, coarse, maps))
    return levels[-1], levels[-3]
