"""Knowledge-aware multi-scale PatchGAN discriminators.

Source: pix2pixHD (Wang et al., CVPR 2018) for the multi-scale 70 x 70 PatchGAN; the paper for judging each
pair a second time where the knowledge mask points.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network.layers import InstanceNorm

_LAYERS = 3  # strided convolutions: a receptive field of 70 x 70 pixels


class Judged(NamedTuple):
    """Verdicts on a batch.

    Attributes:
        scores: a map of scores a discriminator (two scales, and again on the masked pair).
        maps: the inner maps of each, for feature matching.
    """

    scores: list[Tensor]
    maps: list[list[Tensor]]


def patch_layers(in_channels: int, width: int) -> nn.ModuleList:
    """Stages of a 70 x 70 PatchGAN: each ends in its activation, the last in the scores."""
    stages = [nn.Sequential(nn.Conv2d(in_channels, width, 4, stride=2, padding=2), nn.LeakyReLU(0.2))]
    channels = width
    for number in range(1, _LAYERS + 1):
        wider = min(channels * 2, 8 * width)
        stages.append(
            nn.Sequential(
                nn.Conv2d(channels, wider, 4, stride=2 if number < _LAYERS else 1, padding=2),
                InstanceNorm(),
                nn.LeakyReLU(0.2),
            )
        )
        channels = wider
    stages.append(nn.Sequential(nn.Conv2d(channels, 1, 4, padding=2)))
    return nn.ModuleList(stages)


class Discriminators(nn.Module):
    """PatchGANs on photo and triple at full and half resolution, each also on the masked pair.

    Attributes:
        scales: one list of stages a resolution, fine to coarse.
        knowledge: whether the masked pair is judged too (by the same weights).
    """

    def __init__(self, *, width: int = 64, scales: int = 2, knowledge: bool = True) -> None:
        super().__init__()
        self.scales = nn.ModuleList([patch_layers(6, width) for _ in range(scales)])
        self.knowledge = knowledge

    def forward(self, photo: Tensor, frames: Tensor, mask: Tensor) -> Judged:
        """Judge pairs of photo ``(B, 3, H, W)`` and frames ``(B, 3, H, W)``; mask ``(B, 1, H, W)``.

        The mask multiplies the pair, as in the public code: what it hides becomes mid-grey.
        """
        pair = torch.cat([photo, frames], 1)
        judged = self._judge(pair)
        if self.knowledge:
            masked = self._judge(pair * mask)
            judged = Judged(judged.scores + masked.scores, judged.maps + masked.maps)
        return judged

    def _judge(self, pair: Tensor) -> Judged:
        scores, maps = [], []
        for number, stages in enumerate(self.scales):
            assert isinstance(stages, nn.ModuleList)
            if number:
                pair = F.avg_pool2d(pair, 3, stride=2, padding=1, count_include_pad=False)
            inner: list[Tensor] = []
            current = pair
            for stage in stages:
                current = stage(current)
                inner.append(current)
            scores.append(inner.pop())
            maps.append(inner)
        return Judged(scores, maps)
