"""Arterial and venous trees that grow from the optic disc by Murray's law.

A trunk leaves the disc in each quadrant and follows a guide field that runs round the macula as the arcades
do. Side branches obey r0^3 = r1^3 + r2^3 and leave at the angle of least work (Murray 1926, Proc Natl Acad
Sci 12:207 and J Gen Physiol 9:835). They turn towards the macula or the periphery, keep away from vessels of
their own kind and spare the foveal avascular zone. Trees of different kinds cross freely.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from retina_fm.training.simulator.anatomy.plan import Anatomy

STEP = 0.012  # radii of the field of view
REACH = 1.12  # trees grow a little beyond the field of view
THINNEST = 0.0021  # about 14 micrometres: thinner vessels are not seen in photographs
CELL = 0.021  # occupancy grid
CELLS = int(2 * REACH / CELL) + 3
AVASCULAR = 0.055  # radius kept free round the fovea

ARCADE = 1.3  # the arcades are highest 1.3 disc-to-fovea distances temporal of the disc
# Trunks: angle at the disc from the temporal direction (degrees, positive up), height of the arcade that it
# follows (in disc-to-fovea distances; 0 for trunks that run straight), share of the largest radius.
_TRUNKS = (
    (76.0, 0.80, 1.0),
    (-76.0, 0.84, 1.0),
    (128.0, 0.0, 0.70),
    (-132.0, 0.0, 0.70),
    (178.0, 0.0, 0.40),
    (24.0, 0.27, 0.34),
    (-22.0, 0.29, 0.34),
    (98.0, 0.0, 0.50),
    (-100.0, 0.0, 0.46),
)


@dataclass(frozen=True)
class Branch:
    """One course: ``points`` (n, 2) as (x, y), ``radius`` (n,) and ``distance`` (n,) from the disc."""

    points: NDArray[np.float64]
    radius: NDArray[np.float64]
    distance: NDArray[np.float64]
    generation: int


def murray_angles(parent: float, first: float, second: float) -> tuple[float, float]:
    """Branching angles of least work, radians (Murray 1926, J Gen Physiol 9:835, equations 2 and 3)."""
    p, a, b = parent**4, first**4, second**4
    one = (p + a - b) / (2 * parent**2 * first**2)
    two = (p + b - a) / (2 * parent**2 * second**2)
    return math.acos(max(-1.0, min(1.0, one))), math.acos(max(-1.0, min(1.0, two)))


def _normals(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.standard_normal(4096).tolist()


def _uniforms(rng: np.random.Generator) -> Iterator[float]:
    while True:
        yield from rng.random(2048).tolist()


Start = tuple[
    float, float, float, float, int, int, float
]  # x, y, heading, distance, generation, parent, arcade


class _Grower:
    """Mutable state of one growing tree."""

    def __init__(self, rng: np.random.Generator, anatomy: Anatomy, spacing: float) -> None:
        self.normal = _normals(rng)
        self.uniform = _uniforms(rng)
        self.anatomy = anatomy
        lean = math.atan2(anatomy.fovea[1] - anatomy.disc[1], abs(anatomy.fovea[0] - anatomy.disc[0]))
        self.along, self.across = math.cos(lean), math.sin(lean)
        self.spacing = spacing
        self.owner = [-1] * (CELLS * CELLS)
        self.heap: list[tuple[float, int, Start]] = []
        self.count = 0
        self.branches: list[Branch] = []

    def push(self, radius: float, start: Start) -> None:
        if radius >= THINNEST:
            self.count += 1
            heapq.heappush(self.heap, (-radius, self.count, start))

    def guide(self, x: float, y: float, height: float) -> tuple[float, float]:
        """Unit direction of a trunk at (x, y).

        Temporal of the disc: half ellipses that leave the disc upright and close beyond the fovea, as the
        arcades do; ``height`` is the half axis to steer for. Nasal, and with height 0: straight outwards.
        """
        d = self.anatomy.traits.disc_to_fovea
        t = self.anatomy.temporal
        u, v = self.along * (x - self.anatomy.disc[0]) * t + self.across * (y - self.anatomy.disc[1]), 0.0
        v = -self.across * (x - self.anatomy.disc[0]) * t + self.along * (y - self.anatomy.disc[1])
        u, v = u / d, v / d
        out = math.hypot(u, v) + 1e-6
        gu, gv = u / out, v / out
        if height > 0:
            shape = max(0.02, 2 * u / ARCADE - (u / ARCADE) ** 2) if u > 0 else 0.02
            slope = v * (ARCADE - u) / (ARCADE**2 * shape)
            if u > ARCADE:
                slope *= 0.5
            elif u < 0.06:
                slope = math.copysign(2.6, v)
            error = math.copysign(height * math.sqrt(shape), v) - v if u > 0.06 else 0.0
            eu, ev = 1.0, slope + 2.5 * error
            norm = math.hypot(eu, ev)
            gu, gv = eu / norm, ev / norm
        return (self.along * gu - self.across * gv) * t, self.across * gu + self.along * gv

    def cell(self, x: float, y: float) -> int:
        return int((y + REACH) / CELL + 1) * CELLS + int((x + REACH) / CELL + 1)

    def crowding(self, x: float, y: float, mine: int, parent: int) -> int:
        if abs(x) >= REACH or abs(y) >= REACH:
            return 0
        base = self.cell(x, y)
        found = 0
        for offset in (0, 1, -1, CELLS, -CELLS):
            owner = self.owner[base + offset]
            found += owner not in (-1, mine, parent)
        return found

    def walk(self, radius: float, start: Start) -> None:
        x, y, heading, distance, generation, parent, height = start
        fx, fy = self.anatomy.fovea
        dx, dy = self.anatomy.disc
        traits = self.anatomy.traits
        me = len(self.branches)
        wander = 0.0
        side = 1.0 if next(self.uniform) < 0.5 else -1.0
        points, radii, distances = [(x, y)], [radius], [distance]
        until_branch = self.spacing * (0.35 + next(self.uniform)) * (0.05 + 6.0 * radius)
        inward: bool | None = None
        steps = 0
        while radius >= THINNEST * 0.9 and x * x + y * y < REACH * REACH and steps < 400:
            gx, gy = self.guide(x, y, height)
            tx, ty = fx - x, fy - y
            to_fovea = math.hypot(tx, ty) + 1e-9
            if generation == 0:
                pull = 0.16
                goal = math.atan2(gy, gx)
            else:
                pull = 0.05
                if inward is None and steps > 4:
                    inward = math.cos(heading) * tx + math.sin(heading) * ty > 0
                if inward and to_fovea < 0.95 * traits.disc_to_fovea:
                    goal = math.atan2(0.8 * ty / to_fovea + 0.3 * gy, 0.8 * tx / to_fovea + 0.3 * gx)
                    pull = 0.06 if to_fovea > 0.3 else 0.16
                    if to_fovea < 0.22 and math.cos(heading) * tx + math.sin(heading) * ty < 0.3 * to_fovea:
                        break
                else:
                    ox, oy = x - 0.55 * dx - 0.45 * fx, y - 0.55 * dy - 0.45 * fy
                    out = math.hypot(ox, oy) + 1e-9
                    goal = math.atan2(0.55 * gy + 0.5 * oy / out, 0.55 * gx + 0.5 * ox / out)
            turn = math.remainder(goal - heading, math.tau) * pull
            if generation > 0 and steps > 5:
                ahead = 0.05
                left = self.crowding(
                    x + ahead * math.cos(heading - 0.6), y + ahead * math.sin(heading - 0.6), me, parent
                )
                right = self.crowding(
                    x + ahead * math.cos(heading + 0.6), y + ahead * math.sin(heading + 0.6), me, parent
                )
                turn += 0.05 * (left - right)
                if (
                    self.crowding(x + 0.026 * math.cos(heading), y + 0.026 * math.sin(heading), me, parent)
                    > 1
                ):
                    break
            wander += -0.22 * wander + next(self.normal) * 0.028 * traits.tortuosity * (
                1.0 + 0.25 * min(generation, 3)
            )
            heading += turn + wander
            x += STEP * math.cos(heading)
            y += STEP * math.sin(heading)
            distance += STEP
            steps += 1
            if to_fovea < AVASCULAR + (0.03 if generation < 3 else 0.0):
                break
            radius *= 1.0 - (0.0014, 0.0025, 0.005)[min(generation, 2)]
            points.append((x, y))
            radii.append(radius)
            distances.append(distance)
            if abs(x) < REACH and abs(y) < REACH:
                self.owner[self.cell(x, y)] = me
            until_branch -= STEP
            from_disc = math.hypot(x - dx, y - dy)
            if until_branch <= 0 and from_disc > 1.15 * traits.disc_radius and radius > THINNEST * 1.15:
                fork = next(self.uniform) < (0.16 if generation == 0 else 0.24)
                ratio = 0.75 + 0.24 * next(self.uniform) if fork else 0.3 + 0.38 * next(self.uniform)
                if not fork and generation > 0:
                    ratio = 0.5 + 0.4 * next(self.uniform)
                main = radius / (1.0 + ratio**3) ** (1 / 3)
                child = max(main * ratio, THINNEST * 1.02) if radius > THINNEST * 1.6 else main * ratio
                first, second = murray_angles(radius, main, main * ratio)
                jitter = 0.8 + 0.35 * next(self.uniform)
                self.push(
                    child, (x, y, heading + side * second * jitter, distance, generation + 1, me, height)
                )
                heading -= side * first * 0.8
                radius = main
                side = -side if next(self.uniform) < 0.8 else side
                until_branch = self.spacing * (0.4 + 1.1 * next(self.uniform)) * (0.045 + 6.0 * radius)
        if len(points) > 3:
            self.branches.append(Branch(np.array(points), np.array(radii), np.array(distances), generation))
        else:  # too short to be seen: its number must still be taken
            self.branches.append(Branch(np.zeros((0, 2)), np.zeros(0), np.zeros(0), generation))


def grow_tree(
    rng: np.random.Generator, anatomy: Anatomy, radius: float, *, swing: float = 0.0
) -> list[Branch]:
    """Grows one tree from the disc.

    Args:
        rng: source of all randomness.
        anatomy: landmarks and traits.
        radius: radius of the largest trunks at the disc, in radii of the field of view.
        swing: degrees by which trunks are turned away from the tree's twin, so that pairs run side by side.

    Returns:
        Branches, thickest first.
    """
    grower = _Grower(rng, anatomy, spacing=1.0)
    dx, dy = anatomy.disc
    disc_radius = anatomy.traits.disc_radius
    for index, (angle, height, share) in enumerate(_TRUNKS):
        if share < 0.6 and rng.random() < 0.35:
            continue
        own = angle + (
            anatomy.traits.trunk_angles[index] + rng.normal(0, 5.0) + swing * (1 if index % 2 else -1)
        ) * (0.25 if height else 1.0)
        radians = math.radians(own)
        heading = math.atan2(-math.sin(radians), anatomy.temporal * math.cos(radians))
        # Vessels come up through the nasal side of the cup and leave the disc nearly vertically.
        x = (
            dx
            - anatomy.temporal * (0.1 + 0.012 * swing) * disc_radius
            + 0.04 * disc_radius * math.cos(heading)
        )
        y = dy + 0.03 * disc_radius * math.sin(heading)
        upright = -math.pi / 2 if own > 0 else math.pi / 2
        lean = 0.5 if 35 < abs(own) < 150 else 0.1
        heading += lean * math.remainder(upright - heading, math.tau)
        arcade = height * (
            1 + 0.004 * anatomy.traits.trunk_angles[index] + 0.008 * swing + rng.normal(0, 0.05)
        )
        width = radius * share * float(rng.uniform(0.85, 1.1))
        grower.push(width, (x, y, heading, 0.0, 0, -1, arcade))
    while grower.heap and len(grower.branches) < 900:
        negative, _, start = heapq.heappop(grower.heap)
        grower.walk(-negative, start)
    return [branch for branch in grower.branches if len(branch.points)]
