"""The pooled embedding: statistics inside the field of view, then one fitted linear map.

Instance normalisation sets every spatial mean to zero, so that averages of normalised maps say nothing
about colour or contrast, and averages after a residual block equal those before it. Therefore the maps are
pooled *before* their normalisation, by quantiles whose tails see small bright and dark things, and the last
map by its spread, which does depend on the residual blocks.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network import colour_texture
from retina_fm.network.architecture import STRIDES, Architecture
from retina_fm.network.masks import mask_at_stride
from retina_fm.network.quantiles import masked_quantiles, masked_std

QUANTILES = (0.02, 0.1, 0.5, 0.9, 0.98)
LESION_QUANTILES = (0.1, 0.5, 0.9, 0.98, 0.995, 0.999)
LESION_AREAS = (0.3, 0.6, 0.9)
LESION_STATISTICS = len(LESION_QUANTILES) + 1 + len(LESION_AREAS)
LESION_STRIDES = (4, 8)
DECODED = "decoded"
"""Name of the block of the decoder's lesion statistics."""
SHARES = {DECODED: 7, "colour": 3, "anatomy": 3}
"""Variance of blocks that say more than others, as multiples of the others'."""
RAW_LEVELS = 4
"""Levels pooled before their normalisation: stem to third downsampling."""


def block_sizes(architecture: Architecture) -> dict[str, int]:
    """Length of each block of the pooled statistics, by name, in order."""
    channels = architecture.channels
    sizes = {f"level{i}": channels[i] * len(QUANTILES) for i in range(RAW_LEVELS)}
    sizes["last"] = channels[-1]
    if architecture.lesions:
        sizes["lesions"] = len(LESION_STRIDES) * len(architecture.lesions) * LESION_STATISTICS
    if architecture.lesion_decoder:
        sizes[DECODED] = len(architecture.lesions) * LESION_STATISTICS
    if architecture.colour:
        sizes["colour"] = colour_texture.LENGTH
    if architecture.lesion_decoder and architecture.pools_anatomy:
        sizes["anatomy"] = (architecture.dense_maps - len(architecture.lesions)) * LESION_STATISTICS
    return sizes


def raw_statistics(raw: Tensor, mask: Tensor, stride: int, spacing: int) -> Tensor:
    """Tail quantiles of a map before its normalisation, sampled on a lattice.

    Args:
        raw: ``(N, C, H / stride, W / stride)``.
        mask: field of view, bool ``(N, H, W)``.
        stride: of the map.
        spacing: of the lattice, in view pixels.

    Returns:
        ``(N, 5 C)`` float32, the quantiles of a channel side by side.
    """
    # neighbours at stride 8 see almost the same; taking each would double the cost of pooling
    step = max(2, spacing // stride)
    places = slice(step // 2, None, step)
    sampled = raw[:, :, places, places].float().flatten(2)
    inside = mask_at_stride(mask, stride)[:, places, places]
    inside = inside.flatten(1)
    inside = inside | ~inside.any(-1, keepdim=True)
    return masked_quantiles(sampled, inside, QUANTILES).flatten(1)


def spread(maps: Tensor, mask: Tensor) -> Tensor:
    """Standard deviation of each channel of the last map: ``(N, C, H / 16, W / 16)`` to ``(N, C)``."""
    inside = mask_at_stride(mask, STRIDES[-1])
    return masked_std(maps.float().flatten(2), inside.flatten(1))


def lesion_statistics(logits: Tensor, mask: Tensor, stride: int) -> Tensor:
    """What a predicted map of lesions, or of vessels or anatomy, says about the whole eye.

    Quantiles of the logits up to 99.9 %, the log of the mean probability, and the areas above 0.3, 0.6, 0.9.

    Args:
        logits: ``(N, L, H / stride, W / stride)``.
        mask: field of view, bool ``(N, H, W)``.
        stride: of the map.

    Returns:
        ``(N, 10 L)`` float32.
    """
    inside = mask_at_stride(mask, stride).flatten(1)
    values = logits.float().flatten(2)
    weight = inside[:, None, :].to(values.dtype)
    total = weight.sum(-1)
    probability = values.sigmoid() * weight
    mean = (probability.sum(-1) / total).clamp_min(1e-6).log()
    areas = [((probability > level).to(values.dtype)).sum(-1) / total for level in LESION_AREAS]
    quantiles = masked_quantiles(values, inside, LESION_QUANTILES)
    return torch.cat([quantiles, torch.stack([mean, *areas], dim=-1)], dim=-1).flatten(1)


def decoded_statistics(logits: Tensor, mask: Tensor, stride: int) -> Tensor:
    """The same of the decoder's maps; at stride 1 the surest of each 2 x 2 pixels counts."""
    if stride > 1:
        return lesion_statistics(logits, mask, stride)
    # four times fewer numbers to sort, and a lesion of one pixel stays
    return lesion_statistics(F.max_pool2d(logits, 2), mask, 2)


class Pooling(nn.Module):
    """Statistics ``(N, F)`` to embeddings ``(N, D)``: centred, scaled, then mapped linearly.

    Fitted, not trained: everything is a buffer, kept in float32 whatever type the network is cast to.

    Attributes:
        offset: ``(F,)`` subtracted from the statistics.
        scale: ``(F,)`` that they are divided by; it also gives every block the same weight.
        projection: ``(D, F)``.
        limit: ``(F,)``, how far a scaled statistic may lie from 0; there with ``Architecture.clip`` alone.
    """

    offset: Tensor
    scale: Tensor
    projection: Tensor
    limit: Tensor

    def __init__(self, architecture: Architecture) -> None:
        super().__init__()
        self.blocks = block_sizes(architecture)
        length = sum(self.blocks.values())
        self.register_buffer("offset", torch.zeros(length))
        self.register_buffer("scale", torch.ones(length))
        self.register_buffer("projection", torch.zeros(architecture.embedding, length))
        self.clip = architecture.clip
        if self.clip:
            self.register_buffer("limit", torch.full((length,), math.inf))

    def forward(self, statistics: Tensor) -> Tensor:
        """``(N, F)`` to ``(N, D)``, float32."""
        return nn.functional.linear(self.standard(statistics), self.projection)

    def standard(self, statistics: Tensor) -> Tensor:
        """``(N, F)`` centred and scaled, float32; what lies beyond the limit is drawn in to it.

        A channel that all photographs of the fit leave quiet can answer another one with a hundred times its
        spread, and would then be all that an embedding says.
        """
        standard = (statistics.float() - self.offset) / self.scale
        return torch.clamp(standard, -self.limit, self.limit) if self.clip else standard

    @torch.no_grad()
    def fit_scale(self, statistics: Tensor) -> None:
        """Set offset and scale from the statistics ``(M, F)`` of M >= 2 pictures.

        Each statistic gets mean 0 and variance 1, and each block the same total variance but for those of
        ``SHARES``. A statistic that hardly varies within its block is not blown up beyond ten times the
        block's typical scale.
        """
        statistics = statistics.to(self.offset)
        self.offset.copy_(statistics.mean(0))
        deviations = torch.split(statistics.std(0), list(self.blocks.values()))
        scales, spreads = [], []
        for name, deviation in zip(self.blocks, deviations, strict=True):
            typical = deviation.median().clamp_min(1e-6)
            spreads.append(deviation.clamp_min(0.1 * typical))
            scales.append(spreads[-1] * math.sqrt(len(deviation) / SHARES.get(name, 1)))
        self.scale.copy_(torch.cat(scales) / math.sqrt(statistics.shape[1] / len(self.blocks)))
        if self.clip:
            self.limit.copy_(self.clip * torch.cat(spreads) / self.scale)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Pooling:  # noqa: ARG002
        # Only the device follows .to() and .bfloat16(): offsets are larger than what they tell apart.
        probe = fn(torch.empty(0, device=self.offset.device))
        for name, buffer in self.named_buffers():
            setattr(self, name, buffer.to(probe.device))
        return self
