"""Photos to working views, whole or in overlapping tiles, and their random variation in training."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.pictures import Geometry, Transform

OVERLAP = 0.25
"""Share of a tile that it has in common with the next one, at least."""


class View(NamedTuple):
    """A photo as a segmenter sees it.

    Attributes:
        pixels: ``uint8 (S, S, 3)``.
        geometry: where it lies in the photo.
        inside: bool ``(S, S)``, the field of view.
    """

    pixels: np.ndarray
    geometry: Geometry
    inside: np.ndarray


def working_transform(transform: Transform, view_size: int | None) -> Transform:
    """The encoder's transform at another size of view; multiples of 16 alone.

    Raises:
        ConfigError: the size is smaller than the encoder's own, or no multiple of 16.
    """
    if transform.size % 16:
        raise ConfigError(
            f"This encoder's view of {transform.size} pixels is no multiple of 16, as segmentation needs. "
            "Use another encoder here; this one serves classification and regression."
        )
    size = transform.size if view_size is None else view_size
    if size % 16 or size < transform.size:
        raise ConfigError(
            f"view_size is {view_size}; a multiple of 16 from {transform.size} (the encoder's own) is "
            "needed. "
            "Larger views are cut into overlapping tiles of the encoder's size."
        )
    return dataclasses.replace(transform, size=size)


def view_of(photo: Any, transform: Transform) -> View:
    """A photo's view and field of view."""
    pixels, geometry = transform.view(photo)
    return View(pixels, geometry, geometry.mask_in_view())


def scaled(pixels: Tensor, transform: Transform) -> Tensor:
    """Views ``(N, 3, S, S)`` in [0, 1] as the encoder takes them."""
    mean = pixels.new_tensor(transform.mean).view(1, 3, 1, 1)
    std = pixels.new_tensor(transform.std).view(1, 3, 1, 1)
    return (pixels - mean) / std


def target_of(labels: np.ndarray, view: View, classes: int) -> np.ndarray:
    """Class indices in photo pixels to coverage ``float32 (C, S, S)`` in the view; C is 1 for two classes."""
    wanted = range(1, 2) if classes == 2 else range(classes)
    layers = [view.geometry.view_of((labels == c).astype(np.float32), "area") for c in wanted]
    return np.stack(layers).clip(0, 1).astype(np.float32)


def tile_corners(size: int, tile: int) -> list[int]:
    """First rows (or columns) of the tiles that cover a view, evenly spaced."""
    if size <= tile:
        return [0]
    count = 1 + int(np.ceil((size - tile) / (tile * (1 - OVERLAP))))
    return [int(round(value / 16) * 16) for value in np.linspace(0, size - tile, count)]


def tiles(size: int, tile: int) -> Iterator[tuple[slice, slice]]:
    """Rows and columns of the tiles that cover a view."""
    corners = tile_corners(size, tile)
    for top in corners:
        for left in corners:
            yield slice(top, top + tile), slice(left, left + tile)


def tile_weight(tile: int) -> Tensor:
    """How much a tile's prediction counts at each place: less towards its edges ``(tile, tile)``."""
    ramp = torch.minimum(torch.arange(tile) + 1, tile - torch.arange(tile)).float()
    ramp = (ramp / (tile * OVERLAP)).clamp(max=1)
    return ramp[:, None] * ramp[None, :]


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
