"""Lesions of a drawn retina: float masks of each type, laid where such lesions lie.

Sizes follow ETDRS definitions (report 10, Ophthalmology 1991): microaneurysms up to 125 micrometres, blot and
flame haemorrhages larger, exudates in clusters and rings round the macula, cotton-wool spots up to a third
of a disc; drusen as in AREDS (report 6, 2001). One radius of the field is about 6,500 micrometres.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.training.simulator.anatomy.plan import Anatomy
from retina_fm.vocabulary import LESION_TYPES

Map = NDArray[np.float32]


def draw_counts(rng: np.random.Generator) -> dict[str, int]:
    """How many of each type an eye has: healthy, mild to severe diabetic, drusen or laser."""
    kind = rng.choice(
        ["healthy", "mild", "moderate", "severe", "drusen", "laser"], p=[0.42, 0.14, 0.16, 0.1, 0.12, 0.06]
    )
    n = rng.integers
    table: dict[str, dict[str, int]] = {
        "healthy": {},
        "mild": {"microaneurysm": int(n(2, 12)), "haemorrhage": int(n(0, 3))},
        "moderate": {
            "microaneurysm": int(n(8, 30)),
            "haemorrhage": int(n(3, 14)),
            "hard_exudate": int(n(0, 25)),
            "cotton_wool_spot": int(n(0, 3)),
        },
        "severe": {
            "microaneurysm": int(n(20, 60)),
            "haemorrhage": int(n(12, 40)),
            "hard_exudate": int(n(10, 90)),
            "cotton_wool_spot": int(n(1, 7)),
        },
        "drusen": {"drusen": int(n(15, 90))},
        "laser": {"scar": int(n(20, 70)), "microaneurysm": int(n(0, 15)), "haemorrhage": int(n(0, 6))},
    }
    return {key: value for key, value in table[str(kind)].items() if value}


class _Canvas:
    """Masks in the making, with pixel grids and conversions at hand."""

    def __init__(
        self, rng: np.random.Generator, anatomy: Anatomy, size: int, scale: float, centre: tuple[float, float]
    ) -> None:
        self.rng, self.anatomy, self.size, self.scale, self.centre = rng, anatomy, size, scale, centre
        self.masks = {name: np.zeros((size, size), np.float32) for name in LESION_TYPES}

    def pixel(self, x: float, y: float) -> tuple[float, float]:
        return x * self.scale + self.centre[0], y * self.scale + self.centre[1]

    def anywhere(self) -> tuple[float, float]:
        """A place in the field of view, outside disc and fovea, denser towards the posterior pole."""
        rng = self.rng
        while True:
            radius, angle = 0.9 * rng.random() ** 0.62, rng.uniform(0, 2 * np.pi)
            x, y = radius * np.cos(angle), radius * np.sin(angle)
            clear = (
                np.hypot(x - self.anatomy.disc[0], y - self.anatomy.disc[1])
                > 1.5 * self.anatomy.traits.disc_radius
            )
            if clear and np.hypot(x - self.anatomy.fovea[0], y - self.anatomy.fovea[1]) > 0.03:
                return float(x), float(y)

    def stamp(
        self,
        name: str,
        x: float,
        y: float,
        long: float,
        wide: float,
        angle: float,
        *,
        rough: float = 0.0,
        soft: float = 0.7,
    ) -> None:
        """Adds an ellipse with a wavy outline; ``long`` and ``wide`` are radii in radii of the field."""
        cx, cy = self.pixel(x, y)
        a, b = max(long * self.scale, 0.6), max(wide * self.scale, 0.6)
        reach = int(np.ceil(1.5 * max(a, b) + 3 * soft + 1))
        x0, y0 = round(cx) - reach, round(cy) - reach
        lo_x, lo_y = max(x0, 0), max(y0, 0)
        hi_x, hi_y = min(x0 + 2 * reach + 1, self.size), min(y0 + 2 * reach + 1, self.size)
        if lo_x >= hi_x or lo_y >= hi_y:
            return
        gy, gx = np.mgrid[lo_y:hi_y, lo_x:hi_x].astype(np.float32)
        u = (gx - cx) * np.cos(angle) + (gy - cy) * np.sin(angle)
        v = -(gx - cx) * np.sin(angle) + (gy - cy) * np.cos(angle)
        theta = np.arctan2(v / b, u / a)
        outline = np.ones_like(u)
        for order, phase, size in zip(
            (2, 3, 5, 8), self.rng.uniform(0, 6.3, 4), self.rng.normal(0, 1, 4), strict=True
        ):
            outline += rough * size / order**0.5 * np.cos(order * theta + phase)
        level = (outline - np.hypot(u / a, v / b)) * min(a, b)
        patch = 1 / (1 + np.exp(-np.clip(level / (0.45 * soft), -30, 30)))
        region = self.masks[name][lo_y:hi_y, lo_x:hi_x]
        np.maximum(region, patch.astype(np.float32), out=region)


def _microaneurysms(c: _Canvas, count: int) -> None:
    for _ in range(count):
        x, y = c.anywhere()
        radius = c.rng.uniform(0.0035, 0.0085)
        c.stamp("microaneurysm", x, y, radius, radius, 0.0, rough=0.08)


def _haemorrhages(c: _Canvas, count: int) -> None:
    for _ in range(count):
        x, y = c.anywhere()
        if c.rng.random() < 0.35:  # flame, along the nerve fibres: away from the disc
            angle = np.arctan2(y - c.anatomy.disc[1], x - c.anatomy.disc[0])
            long = c.rng.uniform(0.02, 0.06)
            c.stamp("haemorrhage", x, y, long, long * c.rng.uniform(0.2, 0.4), angle, rough=0.2, soft=1.2)
        else:
            radius = min(0.009 * c.rng.lognormal(0.3, 0.6), 0.07)
            c.stamp(
                "haemorrhage",
                x,
                y,
                radius,
                radius * c.rng.uniform(0.6, 1),
                c.rng.uniform(0, 3.1),
                rough=0.16,
                soft=0.9,
            )


def _exudates(c: _Canvas, count: int) -> None:
    rng, left = c.rng, count
    while left > 0:
        cluster = min(left, int(rng.integers(4, 30)))
        left -= cluster
        fx, fy = c.anatomy.fovea
        away, angle = rng.uniform(0.08, 0.5), rng.uniform(0, 2 * np.pi)
        mx, my = fx + away * np.cos(angle), fy + away * np.sin(angle)
        ring = rng.random() < 0.4
        spread = rng.uniform(0.03, 0.13)
        for _ in range(cluster):
            turn = rng.uniform(0, 2 * np.pi)
            far = spread * (rng.normal(1, 0.15) if ring else abs(rng.normal(0, 0.6)))
            size = min(0.006 * rng.lognormal(0.0, 0.65), 0.04)
            c.stamp(
                "hard_exudate",
                mx + far * np.cos(turn),
                my + far * np.sin(turn),
                size,
                size * rng.uniform(0.5, 1),
                rng.uniform(0, 3.1),
                rough=0.2,
                soft=0.7,
            )


def _cotton_wool(c: _Canvas, count: int) -> None:
    for _ in range(count):
        x, y = c.anywhere()
        angle = np.arctan2(y - c.anatomy.disc[1], x - c.anatomy.disc[0]) + np.pi / 2
        long = c.rng.uniform(0.02, 0.05)
        c.stamp("cotton_wool_spot", x, y, long, long * c.rng.uniform(0.45, 0.8), angle, rough=0.15, soft=4.0)


def _drusen(c: _Canvas, count: int) -> None:
    for _ in range(count):
        away, angle = abs(c.rng.normal(0, 0.2)) + 0.01, c.rng.uniform(0, 2 * np.pi)
        radius = min(0.007 * c.rng.lognormal(0.0, 0.5), 0.035)
        x, y = c.anatomy.fovea[0] + away * np.cos(angle), c.anatomy.fovea[1] + away * np.sin(angle)
        c.stamp(
            "drusen", x, y, radius, radius * c.rng.uniform(0.7, 1), c.rng.uniform(0, 3.1), rough=0.1, soft=1.6
        )


def _scars(c: _Canvas, count: int) -> None:
    start = c.rng.uniform(0, 2 * np.pi)
    for _ in range(count):  # panretinal laser spares the posterior pole
        radius, angle = c.rng.uniform(0.62, 0.97), start + c.rng.uniform(0, 4.0)
        size = c.rng.uniform(0.016, 0.03)
        c.stamp(
            "scar",
            radius * np.cos(angle),
            radius * np.sin(angle),
            size,
            size * c.rng.uniform(0.75, 1),
            angle,
            rough=0.12,
            soft=1.2,
        )


_PAINTERS = {
    "microaneurysm": _microaneurysms,
    "haemorrhage": _haemorrhages,
    "hard_exudate": _exudates,
    "cotton_wool_spot": _cotton_wool,
    "drusen": _drusen,
    "scar": _scars,
}


def draw_lesions(
    rng: np.random.Generator,
    anatomy: Anatomy,
    counts: dict[str, int],
    size: int,
    scale: float,
    centre: tuple[float, float],
) -> dict[str, Map]:
    """Masks of every type, float32 (size, size) in [0, 1]; types without a lesion are all zero."""
    canvas = _Canvas(rng, anatomy, size, scale, centre)
    for name in LESION_TYPES:
        if counts.get(name):
            _PAINTERS[name](canvas, counts[name])
    clear = np.ones((size, size), np.float32)
    return {
        name: np.asarray(ndimage.gaussian_filter(mask, 0.4) * clear if mask.any() else mask, np.float32)
        for name, mask in canvas.masks.items()
    }
