"""Pairs of one eye among many signatures: all of them, once, in bounded memory."""

from __future__ import annotations

import numpy as np
import pytest

from retina_fm.errors import ConfigError
from retina_fm.signatures import default_basis, find_same_eyes, rate_in_words, same_eyes
from retina_fm.signatures.fitting import best_cosines

BASIS = default_basis()


def made(count: int, seed: int = 0) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, BASIS.length)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_all_pairs_are_found_across_blocks_as_by_comparing_everything(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(same_eyes, "_GALLERY", 7)
    monkeypatch.setattr(same_eyes, "_QUERIES", 3)
    rows = made(30)
    rows[20] = rows[2] + 0.4 * made(1, 5)[0]  # another photograph
    rows[29] = BASIS.variants(rows[3:4])[0, 30]  # turned and zoomed
    rows[11] = 0  # no vessels
    rows[20] /= np.linalg.norm(rows[20])
    for turned in (False, True):
        found = find_same_eyes(rows, BASIS, turned=turned)
        whole = best_cosines(BASIS, rows, rows) if turned else rows @ rows.T
        limit = BASIS.threshold(1e-5, turned=turned)
        wanted = {(i, j) for i in range(30) for j in range(i + 1, 30) if whole[i, j] >= limit}
        assert {(p.first, p.second) for p in found.pairs} == wanted
        assert ((3, 29) in wanted) == turned and (2, 20) in wanted
        assert [p.cosine for p in found.pairs] == sorted((p.cosine for p in found.pairs), reverse=True)
        assert all(p.false_accept <= 1.001e-5 for p in found.pairs)
    assert found.without_signature == [11]
    assert found.comparisons == 29 * 28 // 2 and found.expected_false == pytest.approx(406e-5)


def test_rows_may_be_given_by_position_and_a_mirror_image_is_found_on_request() -> None:
    rows = made(6, 1)
    rows[5] = BASIS.variants(rows[0:1], mirrored=True)[0, 1 + 99 + 49]
    taken = []

    def take(places: np.ndarray) -> np.ndarray:
        taken.append(len(places))
        return rows[places]

    assert find_same_eyes(take, BASIS, count=6).pairs == []
    assert [p[:2] for p in find_same_eyes(take, BASIS, count=6, mirrored=True).pairs] == [(0, 5)]
    assert taken
    assert find_same_eyes(rows[:0], BASIS).comparisons == 0


def test_a_rate_without_a_threshold_is_refused_and_rates_are_told_in_words() -> None:
    with pytest.raises(ConfigError, match="1e-06 to 1e-01"):
        find_same_eyes(made(3), BASIS, false_accepts=1e-9)
    assert rate_in_words(1e-5) == "1 in 100,000" and rate_in_words(3.4e-4) == "1 in 2,000"
