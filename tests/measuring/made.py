"""Readings that are drawn, so that their numbers are known."""

from __future__ import annotations

import numpy as np

from retina_fm.measuring.reading import Map, Reading

SIDE, RADIUS = 256, 125.0


def reading(
    *, disc: tuple[float, float] | None = (128.0, 60.0), fovea: tuple[float, float] | None = (132.0, 140.0)
) -> Reading:
    """A left eye: a disc of radius 18 with twelve vessels round it, each second an artery, and a fovea."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    inside = np.hypot(y - SIDE / 2, x - SIDE / 2) <= RADIUS
    empty = np.zeros((SIDE, SIDE), np.float32)
    maps: dict[str, Map] = {name: empty.copy() for name in ("vessel", "artery", "vein", "disc", "fovea")}
    maps["hard_exudate"] = np.where(np.hypot(y - 180, x - 180) < 6, 0.2, 0).astype(np.float32)
    maps["scar"] = empty.copy()
    if fovea is not None:
        maps["fovea"] = np.exp(-((y - fovea[0]) ** 2 + (x - fovea[1]) ** 2) / 300).astype(np.float32)
    if disc is not None:
        away = np.hypot(y - disc[0], x - disc[1])
        maps["disc"] = (away < 18).astype(np.float32) * 0.9
        for number in range(12):
            turn = np.deg2rad(30 * number + 10)
            along = (y - disc[0]) * np.sin(turn) + (x - disc[1]) * np.cos(turn)
            across = np.abs((y - disc[0]) * np.cos(turn) - (x - disc[1]) * np.sin(turn))
            width = 4.0 if number % 2 else 5.0
            line = np.clip(width / 2 - across + 0.5, 0, 1) * (along > 14) * inside
            maps["vessel"] = np.maximum(maps["vessel"], line).astype(np.float32)
            kind = "artery" if number % 2 else "vein"
            maps[kind] = np.maximum(maps[kind], line).astype(np.float32)
    view = np.full((SIDE, SIDE, 3), (180, 90, 50), np.float32) - 40 * maps["vessel"][..., None]
    return Reading(np.where(inside[..., None], view, 0).astype(np.uint8), inside, RADIUS, maps)
