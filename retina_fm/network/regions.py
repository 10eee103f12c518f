"""What a view shows at its landmarks: one more block of the pooled statistics.

Statistics of a whole view do not say where things lie, and a pale cup, blood at the disc or exudates in the
macula mean something else elsewhere. The network's own maps of disc and fovea say where to look. Where it
sees neither, a region says what the whole field of view does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor

_GRID = 128  # side of what is looked at: a disc is about twenty places wide
# Sides of averaging windows, in places of the grid.
_WITHIN, _AROUND, _FOVEA, _MACULA = 9, 31, 9, (33, 17)
_PRIOR = 5.0  # places by whose weight a region leans towards the whole field of view
_REGIONS = 5  # disc, its middle, the ring round it, macula, fovea
_SURE = 1e-4  # probabilities are told apart down to it


def length(lesions: int) -> int:
    """Numbers of a view: mean and deviation of each layer over the field and the regions, and their areas."""
    layers = 3 + lesions + 3
    return 2 * layers * (1 + _REGIONS) + _REGIONS


def regional_statistics(view: Tensor, maps: Mapping[str, Tensor], lesions: Tensor, mask: Tensor) -> Tensor:
    """Colour, lesions and vessels over the field of view, and by how much each region differs from it.

    Args:
        view: ``(N, 3, H, W)`` in [-1, 1].
        maps: probabilities ``(N, 1, h, w)`` by name: vessel, artery, vein, disc, fovea.
        lesions: probabilities ``(N, L, h, w)``.
        mask: field of view, bool ``(N, H, W)``.

    Returns:
        ``(N, length(L))`` float32.
    """
    inside = (_on_grid(mask[:, None].float()) > 0.99).float()
    inside = torch.where(inside.sum((2, 3), keepdim=True) > 0, inside, 1.0)
    seen = _on_grid(lesions.float()).clamp(_SURE, 1 - _SURE).logit()
    vessels = [_on_grid(maps[name].float()) for name in ("vessel", "artery", "vein")]
    layers = torch.cat([_on_grid(F.avg_pool2d(view.float(), 2)), seen, *vessels], 1)
    disc, fovea = (_on_grid(maps[name].float()) * inside for name in ("disc", "fovea"))

    total = inside.sum((2, 3))
    mean = (layers * inside).sum((2, 3)) / total
    variance = ((layers - mean[..., None, None]).square() * inside).sum((2, 3)) / total
    parts = [mean, variance.sqrt()]
    for weight in _regions(disc, fovea, inside):
        area = weight.sum((2, 3))
        here = ((layers * weight).sum((2, 3)) + _PRIOR * mean) / (area + _PRIOR)
        apart = ((layers - here[..., None, None]).square() * weight).sum((2, 3))
        spread = ((apart + _PRIOR * variance) / (area + _PRIOR)).sqrt()
        parts += [here - mean, spread, (area / total + 1e-4).log()]
    return torch.cat(parts, 1)


def _regions(disc: Tensor, fovea: Tensor, inside: Tensor) -> list[Tensor]:
    """Weights ``(N, 1, G, G)``: the disc, its middle, the ring round it, the macula and the fovea."""
    middle = disc * _highest(_averaged(disc, _WITHIN)).pow(6)
    ring = (3 * _averaged(disc, _AROUND)).clamp(0, 1) * (1 - disc) * inside
    wide = fovea
    for side in _MACULA:
        wide = _averaged(wide, side)
    return [disc, middle, ring, _highest(wide) * inside, _highest(_averaged(fovea, _FOVEA)).square() * inside]


def _on_grid(maps: Tensor) -> Tensor:
    if maps.shape[-1] >= 2 * _GRID and maps.shape[-2] >= 2 * _GRID:
        maps = F.avg_pool2d(maps, 2)  # before the resize, which looks at four neighbours alone
    return F.interpolate(maps, (_GRID, _GRID), mode="bilinear", align_corners=False)


def _averaged(maps: Tensor, side: int) -> Tensor:
    """Means over squares, of what lies inside the picture; rows and columns in turn, for speed."""
    rows = F.avg_pool2d(maps, (side, 1), 1, (side // 2, 0), count_include_pad=False)
    return F.avg_pool2d(rows, (1, side), 1, (0, side // 2), count_include_pad=False)


def _highest(maps: Tensor) -> Tensor:
    """Divided by the highest value."""
    return maps / maps.amax((2, 3), keepdim=True).clamp_min(1e-6)
