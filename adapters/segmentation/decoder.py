"""A U-Net decoder over an encoder's maps, the full-resolution map given back to it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.adapters.zero_shot import VESSEL_SCALES
from retina_fm.errors import ConfigError, nearest
from retina_fm.network import Encoder
from retina_fm.vessels.line_maps import line_maps

LEVELS = (1, 2, 4, 8, 16)
"""Strides that the decoder works at."""
SIZES: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {
    "light": ((16, 24, 32, 48, 64), (64, 48, 32, 24)),
    "full": ((64, 128, 256, 512, 1024), (256, 128, 64, 32)),
}
"""Channels that the maps are squeezed to, and channels of the decoder's blocks from coarse to fine."""


_VIEW = 3
"""Channels of the view, which lies beside the finest map."""


class MapSource:
    """Which of an encoder's maps serve the decoder's five levels, and how they are computed.

    Attributes:
        encoder: the model.
        channels: of the map taken for each level.
        picked: position of that map among the encoder's.
        guides: how many maps of where vessels may lie there are besides.
    """

    def __init__(self, encoder: Any) -> None:
        self.encoder = encoder
        channels, strides = list(encoder.feature_info.channels()), list(encoder.feature_info.reduction())
        # where no map has a level's stride, the finest of the coarser ones (or the last) is scaled to it
        self.picked = [_pick(strides, level) for level in LEVELS]
        self.channels = [channels[index] for index in self.picked]
        self.guides = 1 + len(VESSEL_SCALES) * int(isinstance(encoder, Encoder) and encoder.sees_vessels)

    def maps(self, views: Tensor, lines: Tensor | None = None) -> tuple[Tensor, ...]:
        """Distinct maps of views ``float32 (N, 3, S, S)``, normalised as the encoder's transform says.

        The last one ``(N, G, S, S)`` holds the guides: the view's dark lines (``lines``
        ``(N, 1, S, S)``, found here unless given) and, where the encoder predicts vessels, what it sees at
        each scale.
        """
        given = views.to(self.encoder.dtype)
        found = (
            self.encoder.maps(given)
            if isinstance(self.encoder, Encoder)
            else self.encoder.features(given).maps
        )
        transform = self.encoder.transform
        mean, std = (views.new_tensor(v).view(1, 3, 1, 1) for v in (transform.mean, transform.std))
        guides = [line_maps(views * std + mean) if lines is None else lines]
        if self.guides > 1:
            guides += [self._vessels(given, found, scale) for scale in VESSEL_SCALES]
        beside = torch.cat(guides, 1).to(found[0].dtype)
        return (*(found[index] for index in sorted(set(self.picked))), beside)

    @torch.no_grad()
    def _vessels(self, views: Tensor, maps: Sequence[Tensor], scale: float) -> Tensor:
        """The encoder's vessel map ``(N, 1, S, S)`` of views seen at another scale."""
        if scale == 1:
            found: Tensor = self.encoder.vessels(maps)
            return found
        side = max(1, round(views.shape[-1] * scale / LEVELS[-1])) * LEVELS[-1]
        small = F.interpolate(
            views.float(), (side, side), mode="bilinear", antialias=True, align_corners=False
        )
        found = self.encoder.vessels(self.encoder.maps(small.to(views.dtype)))
        return F.interpolate(found, views.shape[-2:], mode="bilinear", align_corners=False)

    def levels(self, maps: Sequence[Tensor]) -> list[Tensor]:
        """Distinct maps back to one a level."""
        order = sorted(set(self.picked))
        return [maps[order.index(index)] for index in self.picked]


class MapDecoder(nn.Module):
    """segmentation_models_pytorch's U-Net decoder with a skip at full resolution.

    The maps are squeezed by 1x1 convolutions first; the library's own U-Net drops the map at full resolution,
    where thin vessels live, and here it is given back, the view and its guides beside it.
    """

    def __init__(self, source: MapSource, classes: int, size: str = "light") -> None:
        super().__init__()
        if size not in SIZES:
            raise ConfigError(f"Unknown decoder {size!r}. {nearest(size, SIZES)}")
        import_vision("segmentation_models_pytorch")
        from segmentation_models_pytorch.decoders.unet.decoder import UnetDecoder

        self.picked, self.order = source.picked, sorted(set(source.picked))
        squeezed, blocks = SIZES[size]
        self.squeeze = nn.ModuleList(
            nn.Conv2d(channels, width, 1) for channels, width in zip(source.channels, squeezed, strict=True)
        )
        self.decoder = UnetDecoder(
            encoder_channels=(3, squeezed[0] + _VIEW + source.guides, *squeezed[1:]),
            decoder_channels=blocks,
            n_blocks=len(blocks),
        )
        self.output = nn.Conv2d(blocks[-1], classes, 1)

    def forward(self, view: Tensor, maps: Sequence[Tensor]) -> Tensor:
        """Logits ``(N, classes, S, S)`` of a view ``(N, 3, S, S)`` and its distinct maps."""
        levels = []
        for index, layer, stride in zip(self.picked, self.squeeze, LEVELS, strict=True):
            level = layer(maps[self.order.index(index)])
            wanted = (view.shape[2] // stride, view.shape[3] // stride)
            if level.shape[2:] != wanted:
                level = F.interpolate(level, size=wanted, mode="bilinear", align_corners=False)
            levels.append(level)
        levels[0] = torch.cat([levels[0], view.to(levels[0].dtype), maps[-1].to(levels[0].dtype)], dim=1)
        logits: Tensor = self.output(self.decoder([view, *levels]))
        return logits


def _pick(strides: list[int], level: int) -> int:
    same = [index for index, stride in enumerate(strides) if stride == level]
    coarser = [index for index, stride in enumerate(strides) if stride > level]
    return (
        same[-1]
        if same
        else coarser[0]
        if coarser and strides[coarser[0]] != strides[-1]
        else len(strides) - 1
    )
