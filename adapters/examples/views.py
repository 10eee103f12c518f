"""Photos to the working views that a segmenter learns from and predicts on, whole or in overlapping tiles."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
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
