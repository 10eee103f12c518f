"""Paints lesions: dense maps of each type, and the matching marks in the colour photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.pictures.grids import enlarged
from retina_fm.training.simulator.rendering.eye_batch import EyeBatch, Window
from retina_fm.training.simulator.rendering.neighbourhoods import highest_around
from retina_fm.training.simulator.rendering.parameters import Parameters, anchor_index
from retina_fm.vocabulary import LESION_TYPES

COUNT = len(LESION_TYPES)
MICROANEURYSM, HAEMORRHAGE, EXUDATE, COTTON_WOOL, DRUSEN, SCAR = range(COUNT)
_SOFTNESS = (0.7, 0.9, 0.7, 3.5, 1.4, 1.2)  # pixels at a radius of 245 pixels
_PATCHES = (9, 17, 33, 65, 129)  # sides of stamps; a spot takes the smallest that holds it


def _places(eyes: EyeBatch, window: Window, parameters: Parameters) -> Tensor:
    """Middle of each spot (N, 2) as (x, y) in the window's [-1, 1]."""
    batch, anchor = parameters["spot_batch"], parameters["spot_anchor"]
    moved = window.moved(eyes.anchors.flatten(1, 2)).view(len(eyes), *eyes.anchors.shape[1:])
    chosen = moved[batch, anchor.clamp(min=0), anchor_index(parameters["spot_choice"])]
    return torch.where((anchor >= 0).unsqueeze(1), chosen, parameters["spot_place"])


def paint_maps(eyes: EyeBatch, window: Window, parameters: Parameters) -> Tensor:
    """Coverage of the lesions to paint, float32 (B, 6, H, W) in [0, 1].

    Every spot is an ellipse with a wavy, soft outline, stamped where it lies; stamps of like size are drawn
    together and merged by their maximum. Nothing is painted on the disc or outside the field of view.
    """
    field = window.maps["field_of_view"]
    batch_size, _, height, width = field.shape
    device = field.device
    canvas = torch.zeros(batch_size * COUNT * height * width, device=device)
    batch, kind = parameters["spot_batch"], parameters["spot_kind"]
    if len(batch):
        place = _places(eyes, window, parameters)
        px, py = (place[:, 0] + 1) * width / 2 - 0.5, (place[:, 1] + 1) * height / 2 - 0.5
        scale = window.radius[batch]
        softness = torch.tensor(_SOFTNESS, device=device)[kind] * scale / 245.0 + 0.25
        a = (parameters["spot_long"] * scale).clamp(min=0.7)
        b = (parameters["spot_wide"] * scale).clamp(min=0.7)
        disc = window.moved(eyes.disc.unsqueeze(1))[batch, 0]
        fibre = torch.atan2(place[:, 1] - disc[:, 1], place[:, 0] - disc[:, 0])
        angle = torch.where(parameters["spot_angle"] > 8, fibre, parameters["spot_angle"])
        need = 2.6 * a + 5 * softness + 3
        strength = parameters["spot_strength"]
        low = 0.0
        for side in _PATCHES:
            last = side == _PATCHES[-1]
            inside = (px > -side) & (py > -side) & (px < width + side) & (py < height + side)
            rows = ((need > low) & (last | (need <= side)) & inside).nonzero()[:, 0]
            low = float(side)
            for start in range(0, len(rows), max(1, 2_000_000 // side**2)):
                part = rows[start : start + max(1, 2_000_000 // side**2)]
                _stamp(
                    canvas,
                    (batch * COUNT + kind)[part],
                    px[part],
                    py[part],
                    a[part],
                    b[part],
                    angle[part],
                    softness[part],
                    strength[part],
                    parameters["spot_rough"][part],
                    parameters["spot_phase"][part],
                    side,
                    height,
                    width,
                )
    maps = canvas.view(batch_size, COUNT, height, width)
    return maps * field * (1 - window.maps["disc"])


def _stamp(
    canvas: Tensor,
    plane: Tensor,
    px: Tensor,
    py: Tensor,
    a: Tensor,
    b: Tensor,
    angle: Tensor,
    softness: Tensor,
    strength: Tensor,
    rough: Tensor,
    phase: Tensor,
    side: int,
    height: int,
    width: int,
) -> None:
    """Merges one group of spots into the flat canvas, in place."""
    span = torch.arange(side, device=canvas.device) - side // 2
    x = px.round().long()[:, None] + span
    y = py.round().long()[:, None] + span
    dx, dy = (x - px[:, None])[:, None, :], (y - py[:, None])[:, :, None]
    cos, sin = angle.cos()[:, None, None], angle.sin()[:, None, None]
    u = (dx * cos + dy * sin) / a[:, None, None]
    v = (dy * cos - dx * sin) / b[:, None, None]
    theta = torch.atan2(v, u)
    outline = torch.ones_like(theta)
    for k, order in enumerate((2.0, 3.0, 5.0, 8.0)):
        outline = outline + (rough[:, k] / order**0.5)[:, None, None] * torch.cos(
            order * theta + phase[:, k, None, None]
        )
    level = (outline - torch.hypot(u, v)) * torch.minimum(a, b)[:, None, None]
    cover = torch.sigmoid(level / (0.45 * softness)[:, None, None]) * strength[:, None, None]
    inside = (x >= 0)[:, None, :] & (x < width)[:, None, :] & (y >= 0)[:, :, None] & (y < height)[:, :, None]
    index = (plane[:, None, None] * height + y.clamp(0, height - 1)[:, :, None]) * width + x.clamp(
        0, width - 1
    )[:, None, :]
    canvas.scatter_reduce_(0, index.flatten(), (cover * inside).flatten(), "amax", include_self=True)


def _mix(photo: Tensor, colour: Tensor, weight: Tensor) -> Tensor:
    return photo + (colour - photo) * weight


def paint_photo(window: Window, lesions: Tensor, parameters: Parameters) -> Tensor:
    """The photo with lesions painted in, float32 (B, 3, H, W).

    Colours follow the photo: bright lesions are a multiple of the retina's own colour, blood takes away what
    blood in this photo's veins takes away.
    """
    photo, field = window.photo, window.maps["field_of_view"]
    height, width = photo.shape[-2:]
    one = (-1, 1, 1, 1)
    weight = field / field.sum((2, 3), keepdim=True).clamp(min=1)
    colour = (photo * weight).sum((2, 3), keepdim=True)  # of the retina as a whole
    near = F.interpolate(F.avg_pool2d(photo, 8), (height, width), mode="bilinear", align_corners=False)
    light = (near[:, 1:2] / colour[:, 1:2].clamp(min=0.02)).clamp(0.4, 1.8)  # local illumination
    uneven = 1 + 0.2 * enlarged(parameters["uneven_field"], height, width)
    contrast = parameters["lesion_contrast"].view(-1, COUNT, 1, 1)
    tint = parameters["exudate_colour"].view(-1, 3, 1, 1)
    top = (colour[:, :1] * 1.25).clamp(0.35, 1.0)
    bright = (tint * top * light).clamp(0, 1)
    pale = (
        0.5 * bright + 0.5 * torch.cat([bright[:, :1], bright[:, :1] * 0.9, bright[:, :1] * 0.72], 1)
    ).clamp(0, 1)
    shown = lesions * contrast

    def pick(kind: int) -> Tensor:
        return shown[:, kind : kind + 1]

    scar = lesions[:, SCAR : SCAR + 1]
    rim = (highest_around(scar) - scar).clamp(0, 1)
    window_defect = parameters["window_defect"].view(one)
    photo = _mix(photo, pale, (0.75 * pick(SCAR) * uneven).clamp(0, 1))
    photo = photo * (
        1 - (1 - window_defect) * (0.45 * rim + 0.4 * scar * (uneven - 1.1).clamp(0, 1) * 4).clamp(0, 0.7)
    )
    photo = _mix(photo, 0.75 * bright + 0.25 * photo, (0.6 * pick(DRUSEN) * uneven).clamp(0, 1))
    photo = _mix(photo, pale, (0.62 * pick(COTTON_WOOL) * uneven).clamp(0, 1))
    photo = _mix(photo, bright, (0.95 * pick(EXUDATE) * uneven).clamp(0, 1))
    vein = window.maps["vein"] * (window.maps["calibre"] > 0.006) * field
    thick = vein.sum((2, 3), keepdim=True)
    blood = (photo * vein).sum((2, 3), keepdim=True) / thick.clamp(min=1)
    taken = -torch.log((blood / colour.clamp(min=0.02)).clamp(0.05, 0.98))
    usual = torch.tensor([0.35, 0.75, 0.55], device=photo.device).view(1, 3, 1, 1)
    taken = torch.where(thick > 30, 0.5 * taken + 0.5 * usual, usual).clamp(0.05, 1.4)
    density = parameters["blood_density"].view(one) * (
        pick(HAEMORRHAGE) * uneven + 0.8 * pick(MICROANEURYSM)
    ).clamp(0, 1.2)
    photo = photo * torch.exp(-1.5 * density * taken)
    return photo.clamp(0, 1)
