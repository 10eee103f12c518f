"""Centre lines and segments of drawn vessels, whose width and length are known."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.vessels.skeleton import lines_of, segments_of, thinned

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
    alone, numbers = lines_of(lines, 8)
    assert [one.length for one in alone] == [one.length for one in found] and np.array_equal(numbers, labels)
    assert ndimage.label(lines, np.ones((3, 3)))[1] == 1 and not (lines & ~mask).any()


def thinned_by_the_book(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Zhang and Suen's two halves of a round, pixel by pixel."""
    thin = np.pad(mask, 1)
    turned = [(-1, 0), (-1, 1), (0, 1), (1, 1), (1, 0), (1, -1), (0, -1), (-1, -1)]
    while True:
        before = thin.copy()
        for sides in (((0, 2, 4), (2, 4, 6)), ((0, 2, 6), (0, 4, 6))):
            gone = []
            for y, x in np.argwhere(thin):
                p = [bool(thin[y + dy, x + dx]) for dy, dx in turned]
                rises = sum(b > a for a, b in zip(p, p[1:] + p[:1], strict=True))
                if 2 <= sum(p) <= 6 and rises == 1 and not any(all(p[i] for i in side) for side in sides):
                    gone.append((y, x))
            for y, x in gone:
                thin[y, x] = False
        if np.array_equal(thin, before):
            return thin[1:-1, 1:-1]


def test_blots_are_thinned_by_the_book() -> None:
    mask = ndimage.gaussian_filter(np.random.default_rng(0).random((30, 47)), 1.5) > 0.5
    lines = thinned(mask)
    assert np.array_equal(lines, thinned_by_the_book(mask)) and 20 < lines.sum() < 0.5 * mask.sum()
    assert np.array_equal(lines, thinned(np.asfortranarray(mask)))


@pytest.mark.parametrize("turned", [False, True])
def test_a_line_to_the_edge_does_not_go_on_at_the_other(turned: bool) -> None:
    lines = np.zeros((40, 30), bool)
    lines[10, 15:] = lines[11, :15] = True
    lines = lines.T if turned else lines
    found, _ = lines_of(lines, 2)
    assert len(found) == 1 and found[0].chord == pytest.approx(np.hypot(29, 1))
    lines = np.zeros((40, 30), bool)
    lines[10, 20:] = lines[11, :10] = True
    assert [one.length for one in lines_of(lines, 2)[0]] == pytest.approx([9, 9])


def test_nothing_has_no_segments() -> None:
    nothing = np.zeros((32, 32), bool)
    assert segments_of(nothing.astype(np.float32), nothing, thinned(nothing), 8)[0] == []
