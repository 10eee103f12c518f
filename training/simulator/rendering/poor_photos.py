"""What clinics' poor photographs look like: dark, hazy, blurred, cast, packed, with reflexes, fields cut.

A labelled or drawn eye that is degraded so keeps its exact targets: it teaches to see what a poor photo still
shows. Everything is drawn apart from the usual faults of a camera, so those stay as they were.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.pictures.grain import mean_of_nine
from retina_fm.pictures.grids import enlarged, grid_of
from retina_fm.training.simulator.rendering.eye_batch import Window
from retina_fm.training.simulator.rendering.parameters import Parameters

_ONE = (-1, 1, 1, 1)
_BLOCK = 8
# Tables of JPEG at quality 50 (ITU-T T.81, annex K); that of chrominance is 99 beyond its first corner.
_LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
_CHROMINANCE_CORNER = ((17, 18, 24, 47), (18, 21, 26, 66), (24, 26, 56, 99), (47, 66, 99, 99))
_TO_YCC = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def draw_poor(generator: torch.Generator, batch: int, poor: float) -> dict[str, Tensor]:
    """Faults of poor photographs; a share ``poor`` of the batch has some.

    Returns:
        Tensors on the CPU, each of ``batch`` rows: ``poor_gain``, ``poor_haze`` (share),
        ``poor_haze_colour``, ``poor_blur`` (0 none to 2), ``poor_cast`` (factors a channel),
        ``poor_packing`` (factor on JPEG's table, 0 none), ``poor_sheen`` (height) with
        ``poor_sheen_field``, and ``poor_cut`` (angle, distance in radii).
    """

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand((batch, *shape), generator=generator)

    def normal(*shape: int) -> Tensor:
        return torch.randn((batch, *shape), generator=generator)

    chosen = uniform(0, 1) < poor

    def sometimes(share: float, value: Tensor, otherwise: float) -> Tensor:
        happens = chosen & (uniform(0, 1) < share)
        return torch.where(happens.view(-1, *[1] * (value.ndim - 1)), value, otherwise)

    return {
        "poor_gain": sometimes(0.4, torch.exp(uniform(math.log(0.25), math.log(0.8))), 1.0),
        "poor_haze": sometimes(0.5, uniform(0.15, 0.75), 0.0),
        "poor_haze_colour": torch.tensor([0.62, 0.5, 0.4])
        * uniform(0.5, 1.25, 1)
        * torch.exp(0.18 * normal(3)),
        "poor_blur": sometimes(0.5, uniform(0.3, 2.0), 0.0),
        "poor_cast": sometimes(0.4, torch.exp(0.22 * normal(3)), 1.0),
        "poor_packing": sometimes(0.5, torch.exp(uniform(math.log(0.4), math.log(4.0))), 0.0),
        "poor_sheen": sometimes(0.35, uniform(0.05, 0.3), 0.0),
        "poor_sheen_field": normal(1, 14, 14),
        "poor_cut": torch.stack([uniform(0, 2 * math.pi), sometimes(0.35, uniform(0.35, 0.9), 9.0)], 1),
    }


def cut_field(window: Window, parameters: Parameters) -> Tensor:
    """The field of view without what lies beyond a straight edge, (B, 1, H, W): lids, or a cropped sensor."""
    field = window.maps["field_of_view"]
    height, width = field.shape[-2:]
    y, x = grid_of(field)
    centre = window.to_window[:, :, 2].view(-1, 2, 1, 1)
    angle, far = parameters["poor_cut"][:, 0].view(_ONE), parameters["poor_cut"][:, 1].view(_ONE)
    along = (
        (x - centre[:, :1]) * torch.cos(angle) * width + (y - centre[:, 1:]) * torch.sin(angle) * height
    ) / 2
    return field * (along < far * window.radius.view(_ONE))


def degrade_poor(photo: Tensor, parameters: Parameters) -> Tensor:
    """A photo (B, 3, H, W) in [0, 1] as a poor one; outside the field of view anything."""
    height, width = photo.shape[-2:]
    blur = parameters["poor_blur"]
    if bool((blur > 0).any()):
        once = mean_of_nine(mean_of_nine(photo))
        twice = mean_of_nine(mean_of_nine(mean_of_nine(mean_of_nine(once))))
        some = torch.lerp(photo, once, blur.clamp(max=1).view(_ONE))
        photo = torch.lerp(some, twice, (blur - 1).clamp(min=0).view(_ONE))
    sheen = parameters["poor_sheen"].view(_ONE)
    if bool((sheen > 0).any()):
        bright = (enlarged(parameters["poor_sheen_field"], height, width) - 0.9).clamp(0, 1.5)
        photo = photo + sheen * bright * photo.new_tensor([0.8, 1.0, 0.7]).view(1, 3, 1, 1)
    haze = parameters["poor_haze"].view(_ONE)
    photo = photo * (1 - haze) + haze * parameters["poor_haze_colour"].view(-1, 3, 1, 1)
    photo = photo * parameters["poor_gain"].view(_ONE) * parameters["poor_cast"].view(-1, 3, 1, 1)
    return packed(photo.clamp(0, 1), parameters["poor_packing"])


def packed(photo: Tensor, strength: Tensor) -> Tensor:
    """What JPEG leaves of a photo (B, 3, H, W) in [0, 1]; ``strength`` (B,) multiplies its table, 0 for none.

    Colours are not halved in size: blocks and rings are what disturbs, and they come from the table.
    """
    chosen = (strength > 0).nonzero()[:, 0]
    if not len(chosen):
        return photo
    part = photo[chosen]
    height, width = part.shape[-2:]
    padded = F.pad(part, (0, -width % _BLOCK, 0, -height % _BLOCK), mode="replicate")
    rows, columns = padded.shape[-2] // _BLOCK, padded.shape[-1] // _BLOCK
    mixing = padded.new_tensor(_TO_YCC)
    levels = torch.einsum("cd,bdhw->bchw", mixing, padded * 255 - 128)
    blocks = levels.view(len(part), 3, rows, _BLOCK, columns, _BLOCK).transpose(3, 4)
    cosines = _cosines(padded.device)
    chrominance = padded.new_full((_BLOCK, _BLOCK), 99.0)
    chrominance[:4, :4] = padded.new_tensor(_CHROMINANCE_CORNER)
    tables = torch.stack([padded.new_tensor(_LUMINANCE), chrominance, chrominance])
    tables = tables.view(1, 3, 1, 1, _BLOCK, _BLOCK)
    step = (tables * strength[chosen].view(-1, 1, 1, 1, 1, 1)).clamp(min=1)
    kept = (cosines @ blocks @ cosines.T / step).round() * step
    found = (cosines.T @ kept @ cosines).transpose(3, 4).reshape(padded.shape)
    back = torch.einsum("cd,bdhw->bchw", torch.linalg.inv(mixing), found)
    whole = photo.clone()
    whole[chosen] = ((back + 128) / 255).clamp(0, 1)[..., :height, :width]
    return whole


@lru_cache(maxsize=8)
def _cosines(device: torch.device) -> Tensor:
    """Orthonormal basis of the discrete cosine transform over eight pixels, (8, 8)."""
    place = torch.arange(_BLOCK, dtype=torch.float64)
    basis = torch.cos(math.pi / _BLOCK * (place + 0.5) * place[:, None]) * math.sqrt(2 / _BLOCK)
    basis[0] /= math.sqrt(2)
    return basis.float().to(device)
