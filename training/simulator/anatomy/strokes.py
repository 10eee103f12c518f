"""Drawing round strokes of changing width into float maps, antialiased, without a loop over pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retina_fm.training.simulator.anatomy.vessel_trees import Branch

Map = NDArray[np.float32]


@dataclass(frozen=True)
class Strokes:
    """Maps of one tree, each (S, S) in [0, 1].

    Attributes:
        coverage: share of the pixel that the vessels cover.
        depth: chord of the blood column against that of a wide vessel.
        core: the middle third, where the light reflex lies.
    """

    coverage: Map
    depth: Map
    core: Map


def _dense(branches: list[Branch], scale: float, centre: tuple[float, float]) -> NDArray[np.float64]:
    """Points every half pixel along all branches as rows (x, y, radius) in pixels."""
    parts = []
    for branch in branches:
        points = branch.points * scale + np.array(centre)
        length = np.concatenate([[0.0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
        at = np.arange(0.0, length[-1], 0.5)
        parts.append(
            np.stack(
                [
                    np.interp(at, length, points[:, 0]),
                    np.interp(at, length, points[:, 1]),
                    np.interp(at, length, branch.radius * scale),
                ],
                axis=1,
            )
        )
    return np.concatenate(parts) if parts else np.zeros((0, 3))


def draw_branches(branches: list[Branch], size: int, scale: float, centre: tuple[float, float]) -> Strokes:
    """Rasterises branches.

    Args:
        branches: courses in radii of the field of view.
        size: side of the maps in pixels.
        scale: pixels a radius.
        centre: (x, y) of the origin in pixels, pixel centres at whole numbers.

    Returns:
        Coverage, depth and core, each float32 (size, size).
    """
    coverage = np.zeros((size + 32, size + 32), np.float32)
    depth, core = coverage.copy(), coverage.copy()
    points = _dense(branches, scale, centre)
    inside = (points[:, :2] > -8).all(1) & (points[:, :2] < size + 8).all(1)
    points = points[inside]
    widest = float(points[:, 2].max()) if len(points) else 1.0
    for reach in range(1, int(widest) + 3):
        chosen = points[(np.ceil(points[:, 2] + 0.5)).astype(int) == reach]
        if not len(chosen):
            continue
        span = np.arange(-reach, reach + 1)
        ix, iy = np.rint(chosen[:, 0]).astype(int), np.rint(chosen[:, 1]).astype(int)
        x = ix[:, None, None] + span[None, None, :]
        y = iy[:, None, None] + span[None, :, None]
        r = chosen[:, 2, None, None]
        distance = np.hypot(x - chosen[:, 0, None, None], y - chosen[:, 1, None, None])
        cover = np.clip(r + 0.5 - distance, 0, 1) * np.minimum(1.0, 2.0 * r)
        chord = np.sqrt(np.clip(1.0 - (distance / (r + 0.35)) ** 2, 0, 1)) * cover
        middle = np.exp(-0.5 * (distance / np.maximum(0.33 * r, 0.5)) ** 2) * np.clip((r - 0.9) / 0.9, 0, 1)
        index = (np.broadcast_to(y + 16, cover.shape).ravel(), np.broadcast_to(x + 16, cover.shape).ravel())
        np.maximum.at(coverage, index, cover.ravel().astype(np.float32))
        np.maximum.at(depth, index, (chord * np.minimum(1.0, 0.35 + r / 3.2)).ravel().astype(np.float32))
        np.maximum.at(core, index, middle.ravel().astype(np.float32))
    crop = slice(16, 16 + size)
    return Strokes(coverage[crop, crop], depth[crop, crop], core[crop, crop])
