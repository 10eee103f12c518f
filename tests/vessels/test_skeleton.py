"""Centre lines and segments of drawn vessels, whose width and length are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.skeleton import segments_of, thinned

SIDE = 160


def bar(angle: float, width: float = 5.0, half: float = 55.0) -> NDArray[np.float32]:
    """Coverage by a straight vessel through the middle."""
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5 - SIDE / 2
    turn = np.deg2rad(angle)
    across = np.abs(y * np.cos(turn) - x * np.sin(turn))
    along = np.abs(y * np.sin(turn) + x * np.cos(turn))
    return np.asarray(np.clip(width / 2 - across + 0.5, 0, 1) * (along < half), np.float32)


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 115])
@pytest.mark.parametrize("width", [3.0, 5.5])
def test_a_straight_vessel_is_one_segment_of_its_width(angle: float, width: float) -> None:
    coverage = bar(angle, width)
    mask = coverage >= 0.5
    (found,), _ = segments_of(coverage, mask, thinned(mask), 8)
    assert found.width == pytest.approx(width, rel=0.08)
    assert found.length == pytest.approx(110 - width, abs=4)
    assert found.length / found.chord - 1 < 0.002


def test_a_bent_vessel_is_longer_than_its_chord() -> None:
    y, x = np.mgrid[:SIDE, :SIDE] + 0.5
    away = np.abs(np.hypot(y - SIDE / 2, x - SIDE / 2) - 50)
    coverage = np.asarray(np.clip(2.5 - away, 0, 1) * (y < SIDE / 2), np.float32)
    mask = coverage >= 0.5
    (found,), _ = segments_of(coverage, mask, thinned(mask), 8)
    assert found.length / found.chord == pytest.approx(np.pi / 2, rel=0.04)


def test_crossing_vessels_are_four_segments() -> None:
    coverage = np.maximum(bar(0), bar(90))
    mask = coverage >= 0.5
    lines = thinned(mask)
    found, labels = segments_of(coverage, mask, lines, 8)
    assert len(found) == 4 and set(np.unique(labels)) >= {one.label for one in found}
    assert all(one.width == pytest.approx(5, rel=0.15) for one in found)
    assert ndimage.label(lines, np.ones((3, 3)))[1] == 1 and not (lines & ~mask).any()


def test_nothing_has_no_segments() -> None:
    nothing = np.zeros((32, 32), bool)
    assert segments_of(nothing.astype(np.float32), nothing, thinned(nothing), 8)[0] == []
