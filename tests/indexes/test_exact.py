from __future__ import annotations

import numpy as np
import pytest

from retina_fm.indexes import exact
from retina_fm.indexes.exact import blocks_of, nearest_rows


def reference(
    queries: np.ndarray, vectors: np.ndarray, k: int, allowed: np.ndarray | None = None
) -> np.ndarray:
    """Sorting everything in float64: slow, and obviously right."""
    scores = (queries.astype(np.float64) @ vectors.astype(np.float64).T).astype(np.float32)
    if allowed is not None:
        scores[:, ~allowed] = -np.inf
    ids = np.argsort(-scores, axis=1, kind="stable")[:, :k]
    return np.where(np.take_along_axis(scores, ids, 1) > -np.inf, ids, -1)


def made(count: int, width: int, seed: int = 0) -> np.ndarray:
    vectors = np.random.default_rng(seed).standard_normal((count, width), dtype=np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


@pytest.mark.parametrize("queries", [1, 2, 17])
def test_rows_are_those_of_sorting_everything(queries: int) -> None:
    vectors = made(3000, 64)
    asked = made(queries, 64, 1)
    found = nearest_rows(asked, blocks_of(vectors, 700), 10)
    assert np.array_equal(found.positions, reference(asked, vectors, 10))
    assert np.allclose(found.scores, np.take_along_axis(asked @ vectors.T, found.positions, 1), atol=1e-6)


def test_copies_of_a_vector_come_in_the_order_of_their_rows() -> None:
    vectors = made(4001, 33)
    copies = np.random.default_rng(3).permutation(4001)[:900]
    vectors[copies] = vectors[copies[0]]
    asked = np.concatenate([vectors[copies[:1]], made(4, 33, 2)])
    for rows in (17, 512, 5000):
        found = nearest_rows(asked, blocks_of(vectors, rows), 25)
        assert found.positions[0].tolist() == sorted(copies.tolist())[:25]
        assert len(set(found.scores[0].tolist())) == 1
        assert np.array_equal(found.positions, reference(asked, vectors, 25))


def test_scores_that_float32_products_cannot_tell_apart_are_told_apart() -> None:
    random = np.random.default_rng(5)
    base = made(1, 1024)[0]
    vectors = np.repeat(base[None], 500, axis=0)
    vectors[np.arange(500), random.integers(0, 1024, 500)] += 3e-8 * random.integers(-4, 5, 500).astype(
        np.float32
    )
    assert np.array_equal(nearest_rows(base[None], vectors, 50).positions, reference(base[None], vectors, 50))


@pytest.mark.parametrize("share", [0.9, 0.2, 0.001, 0.0])
def test_what_is_not_allowed_is_never_found_and_what_is_left_is_exact(share: float) -> None:
    vectors = made(2500, 32)
    vectors[100:140] = vectors[100]
    allowed = np.random.default_rng(0).random(2500) < share
    asked = np.concatenate([vectors[100:101], made(3, 32, 9)])
    found = nearest_rows(asked, blocks_of(vectors, 600), 12, allowed=allowed)
    assert np.array_equal(found.positions, reference(asked, vectors, 12, allowed))


def test_a_row_excluded_for_one_query_is_found_by_the_others() -> None:
    vectors = made(50, 16)
    found = nearest_rows(
        vectors[[3, 4, 5]], blocks_of(vectors, 7), 1, excluded=np.array([3, -1, 5])
    ).positions
    assert found[0, 0] != 3 and found[1, 0] == 4 and found[2, 0] != 5
    mask = np.zeros((3, 50), np.bool_)
    mask[1, 4] = True
    found = nearest_rows(vectors[[3, 4, 5]], vectors, 1, excluded=mask).positions
    assert found[0, 0] == 3 and found[1, 0] != 4 and found[2, 0] == 5


def test_fewer_rows_than_k_leave_minus_one() -> None:
    found = nearest_rows(made(2, 8), made(3, 8, 1), 5)
    assert (found.positions[:, 3:] == -1).all() and (found.scores[:, 3:] == -np.inf).all()
    assert (found.positions[:, :3] >= 0).all()
    assert nearest_rows(made(2, 8), np.empty((0, 8), np.float32), 4).positions.tolist() == [[-1] * 4] * 2
    assert nearest_rows(np.empty((0, 8), np.float32), made(3, 8), 4).positions.shape == (0, 4)


def test_many_equal_candidates_do_not_pile_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exact, "_PRUNE_AT", 10)
    vectors = np.repeat(made(1, 8), 1000, axis=0)
    vectors[700] *= 2
    assert nearest_rows(vectors[:1], blocks_of(vectors, 300), 3).positions.tolist() == [[700, 0, 1]]
