"""Which way and how far dye has to travel: distances from the disc along the vessels, and their calibre."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, sparse
from scipy.sparse import csgraph

from retina_fm.vessels.line_filter import blurred

Map = NDArray[np.float32]

_OUTSIDE_COST = 4.0  # a gap in a vessel is bridged, but a detour along a vessel is preferred


def _grid_graph(cost: Map) -> sparse.csr_matrix:
    """Eight-connected grid; an edge costs the mean of its ends times its length."""
    height, width = cost.shape
    numbers = np.arange(height * width, dtype=np.int32).reshape(height, width)
    rows, columns, weights = [], [], []
    full = slice(None)
    for step_y, step_x, length in ((0, 1, 1.0), (1, 0, 1.0), (1, 1, 2**0.5), (1, -1, 2**0.5)):
        down, up = (slice(step_y, None), slice(None, -step_y)) if step_y else (full, full)
        if step_x > 0:
            ahead, behind = slice(step_x, None), slice(None, -step_x)
        elif step_x < 0:
            ahead, behind = slice(None, step_x), slice(-step_x, None)
        else:
            ahead, behind = full, full
        rows.append(numbers[up, behind].ravel())
        columns.append(numbers[down, ahead].ravel())
        weights.append((0.5 * length * (cost[up, behind] + cost[down, ahead])).ravel())
    return sparse.csr_matrix(
        (np.concatenate(weights), (np.concatenate(rows), np.concatenate(columns))),
        shape=(cost.size, cost.size),
    )


def distance_along(
    vessels: Map,
    field_of_view: NDArray[np.bool_],
    disc: tuple[float, float],
    disc_radius: float,
    radius: float,
) -> Map:
    """Length of the way from the disc's rim to each pixel along the vessels.

    Off the vessels a pixel has the value of the vessel nearest to it, smoothed, so that tissue fills after
    the vessel that feeds it.

    Args:
        vessels: coverage of one tree, float32 (S, S).
        field_of_view: bool (S, S).
        disc: centre (y, x) in pixels.
        disc_radius: in pixels.
        radius: of the field of view in pixels.

    Returns:
        float32 (S, S) in radii of the field of view.
    """
    size = vessels.shape[0]
    step = max(1, size // 256)
    half = size // step
    coarse = vessels[: half * step, : half * step].reshape(half, step, half, step).max((1, 3))
    cost = 1.0 + (_OUTSIDE_COST - 1.0) * (1.0 - np.clip(coarse * 1.8, 0, 1)) ** 2
    y, x = (np.mgrid[:half, :half] + 0.5) * step
    away = np.hypot(y - disc[0], x - disc[1])
    rim = max(disc_radius, 1.5 * step)
    sources = np.flatnonzero(away.ravel() < max(rim, float(away.min()) + step))
    reached = csgraph.dijkstra(
        _grid_graph(np.asarray(cost, np.float32)), directed=False, indices=sources, min_only=True
    )
    reached = np.asarray(reached, np.float32).reshape(half, half) * step / radius
    # Where the estimate of the vessels is full of gaps, the way cannot be much longer than it looks.
    reached = np.minimum(reached, 1.45 * np.clip(away - disc_radius, 0, None) / radius + 0.05).astype(
        np.float32
    )
    on_vessel = coarse > 0.35
    on_vessel[np.unravel_index(sources, on_vessel.shape)] = True
    index = ndimage.distance_transform_edt(~on_vessel, return_distances=False, return_indices=True)
    spread = reached[tuple(index)]
    inside = field_of_view[: half * step : step, : half * step : step].astype(np.float32)
    smooth = blurred(spread, np.maximum(inside, 0.05), 0.035 * half / 2)
    near = np.clip(ndimage.gaussian_filter(on_vessel.astype(np.float32), 1.0) * 1.6, 0, 1)
    blended = near * spread + (1 - near) * smooth
    at = (np.arange(size, dtype=np.float32) + 0.5) / step - 0.5
    grid = np.meshgrid(at, at, indexing="ij")
    return np.asarray(ndimage.map_coordinates(blended, grid, order=1, mode="nearest"), np.float32)


def axis_and_calibre(vessels: Map, radius: float) -> tuple[Map, Map]:
    """Place across the vessel and its half width.

    Args:
        vessels: coverage of one tree, float32 (S, S).
        radius: of the field of view in pixels.

    Returns:
        ``axis`` float32 (S, S), 0 at the wall to 1 on the axis, and ``calibre`` float32 (S, S), the half
        width in radii of the field of view, both 0 away from vessels.
    """
    inside = vessels > 0.5
    if not inside.any():
        return np.zeros_like(vessels), np.zeros_like(vessels)
    depth = ndimage.distance_transform_edt(inside).astype(np.float32)
    ridge = inside & (depth >= ndimage.maximum_filter(depth, 3) - 1e-3)
    index = ndimage.distance_transform_edt(~ridge, return_distances=False, return_indices=True)
    half = depth[tuple(index)]
    near = ndimage.binary_dilation(inside, iterations=2)
    axis = np.clip((depth - 0.5) / np.maximum(half - 0.5, 0.6), 0, 1) * inside
    return (
        np.asarray(ndimage.gaussian_filter(axis, 0.5), np.float32),
        np.asarray(ndimage.gaussian_filter(np.where(near, half, 0), 0.7) / radius, np.float32),
    )
