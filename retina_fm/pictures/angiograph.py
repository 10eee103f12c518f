"""One angiography camera: how it is drawn, how it lights the eye, and what it makes of a mean frame.

The ranges are those within which real frames lie (docs/simulator.md, "Told apart").
"""

from __future__ import annotations

import torch
from torch import Tensor

from retina_fm.pictures.draws import Draws
from retina_fm.pictures.grain import angiograph_noise, soften
from retina_fm.pictures.grids import enlarged, grid_of
from retina_fm.vocabulary import FRAMES_A_PHASE, FRAMES_A_VIDEO, PHASES

NOISE = (0.014, 0.044)
GAIN_OF_NOISE = 1.3
_VIGNETTE = (0.2, 0.85)
_OFF_CENTRE = 0.25
_GAMMA = (0.8, 1.15)
_OFFSET = (0.015, 0.07)
_ONE = (-1, 1, 1, 1)


def draw_angiograph(draw: Draws) -> dict[str, Tensor]:
    """Cameras of a batch.

    Returns:
        By name, all float32 ``(B,)`` unless said: ``exposure`` ``(B, 12)``, factor on each frame beside what
        its phase takes; ``gamma``; ``offset``, grey of no light; ``noise``, level for ``angiograph_noise``;
        ``vignette``, fall-off of the light; ``vignette_centre`` ``(B, 2)``; ``blur``, 0 to 1.
    """
    phases = torch.cat(
        [draw.log_uniform(0.84, 1.22, 1).expand(-1, FRAMES_A_PHASE) for _ in PHASES], 1
    )  # photographers expose each phase for itself
    return {
        "exposure": draw.log_uniform(0.85, 1.25, 1) * phases * torch.exp(draw.normal(0.05, FRAMES_A_VIDEO)),
        "gamma": draw.uniform(*_GAMMA),
        "offset": draw.uniform(*_OFFSET),
        "noise": draw.log_uniform(*NOISE),
        "vignette": draw.uniform(*_VIGNETTE),
        "vignette_centre": draw.normal(_OFF_CENTRE, 2),
        "blur": draw.uniform(0.0, 1.0),
    }


def draw_light(draw: Draws) -> Tensor:
    """Log of the light on a grid of the view, (B, 1, 6, 6): mottled, and brighter towards one side.

    Seldom do camera and pupil share an axis.
    """
    across = torch.linspace(-1, 1, 6)
    slope = draw.normal(0.28, 1, 2, 1, 1)
    plane = slope[:, :, 0] * across.view(1, 1, 6, 1) + slope[:, :, 1] * across.view(1, 1, 1, 6)
    return draw.normal(1.0, 1, 6, 6) * draw.uniform(0.06, 0.28, 1, 1, 1) + plane


def vignette(picture: Tensor, strength: Tensor, centre: Tensor, light: Tensor) -> Tensor:
    """How a camera lights the view, (B, 1, H, W): 1 in the middle on average, less towards the rim.

    Args:
        picture: of the size wanted, (B, C, H, W).
        strength: of the fall-off, (B,).
        centre: brightest place (y, x) in [-1, 1], (B, 2).
        light: from ``draw_light``.
    """
    y, x = grid_of(picture)
    centre = centre.view(-1, 2, 1, 1)
    far = (y - centre[:, :1]).square() + (x - centre[:, 1:]).square()
    return _fall_off(far, strength) * torch.exp(enlarged(light, *picture.shape[-2:]))


def _fall_off(far: Tensor, strength: Tensor) -> Tensor:
    return (1 - strength.view(_ONE) * 0.5 * far.clamp(max=1.6)).clamp(min=0.12)


def as_taken(frames: Tensor, seed: int, strength: float = 1.0) -> Tensor:
    """A sequence as one camera would have taken it, where a generator gives the mean of all cameras.

    The camera is drawn from the seed; its light, exposure, tone and black are put in the place of the mean
    ones, and its noise is added.

    Args:
        frames: grey (T, H, W) in [0, 1] on the CPU, the frames of a video in their order.
        seed: of the sequence.
        strength: from 0, the frames as they are, to 1, as different as cameras are.

    Returns:
        Of the same shape, in [0, 1].
    """
    if not strength:
        return frames
    draw = Draws(torch.Generator().manual_seed(seed), 1)
    camera, light = draw_angiograph(draw), draw_light(draw)
    grey = frames[:, None].clamp(0, 1)
    y, x = grid_of(grey)
    usual = _fall_off(y.square() + x.square() + 2 * _OFF_CENTRE**2, torch.tensor([_middle(_VIGNETTE)]))
    lit = vignette(grey, camera["vignette"], camera["vignette_centre"], light) / usual
    exposure = camera["exposure"][0, : len(grey)].view(_ONE)
    grey = (grey - strength * _middle(_OFFSET)).clamp(min=1e-4) * (lit * exposure).pow(strength)
    grey = grey.pow(1 + strength * (float(camera["gamma"]) / _middle(_GAMMA) - 1))
    grey = (grey + strength * camera["offset"]).clamp(0, 1)
    count = torch.arange(len(grey))
    level = strength * GAIN_OF_NOISE * camera["noise"].view(_ONE).expand(len(grey), -1, -1, -1)
    noise = angiograph_noise(grey, level, torch.full_like(count, seed % 2**31), count)
    return (grey + soften(noise, 0.5 * camera["blur"].expand(len(grey)))).clamp(0, 1)[:, 0]


def _middle(ends: tuple[float, float]) -> float:
    return sum(ends) / 2
