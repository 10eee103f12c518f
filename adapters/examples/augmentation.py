"""Views and masks varied together in place and size; the views alone in brightness, contrast and colour."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor


def varied(
    view: Tensor, target: Tensor, inside: Tensor, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """One random variation of a view.

    Args:
        view: float ``(3, S, S)`` in [0, 1].
        target: float ``(C, S, S)`` coverage of each class.
        inside: float ``(1, S, S)``, 1 in the field of view.
        random: source of the variation.

    Returns:
        The same three, varied; the view is 0 outside the field of view.
    """
    angle, zoom = random.uniform(-math.pi, math.pi), math.exp(random.uniform(math.log(0.85), math.log(1.2)))
    flip = 1.0 if random.random() < 0.5 else -1.0
    cos, sin = math.cos(angle) / zoom, math.sin(angle) / zoom
    matrix = torch.tensor([[[cos * flip, -sin, 0.0], [sin * flip, cos, 0.0]]])
    stack = torch.cat([view, target, inside])[None]
    grid = F.affine_grid(matrix, list(stack.shape), align_corners=False)
    moved = F.grid_sample(stack, grid, mode="bilinear", padding_mode="zeros", align_corners=False)[0]
    view, target, inside = moved[:3], moved[3:-1], moved[-1:]
    inside = (inside > 0.99).float()
    return recoloured(view, random) * inside, target.clamp(0, 1), inside


def recoloured(view: Tensor, random: np.random.Generator) -> Tensor:
    """Gamma, brightness, contrast and colour balance of a view ``(3, S, S)`` in [0, 1]."""
    view = view.clamp(0, 1) ** math.exp(random.uniform(-0.25, 0.25))
    gain = torch.from_numpy(np.exp(random.uniform(-0.15, 0.15, (3, 1, 1))).astype(np.float32))
    middle = view.mean()
    contrast = math.exp(random.uniform(-0.25, 0.25))
    return (((view - middle) * contrast + middle) * gain + random.uniform(-0.05, 0.05)).clamp(0, 1)
