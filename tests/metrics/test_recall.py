"""Recall: the query is never its own neighbour, patients alone decide, any search can be judged."""

from __future__ import annotations

import numpy as np
import pytest

from retina_fm.errors import ConfigError
from retina_fm.metrics.recall import nearest_others, patient_codes, recall_hits, unit_rows

# two pictures of a, two of b that lie apart, one of c
FEATURES = np.array([[1, 0.0], [1, 0.1], [0, 1.0], [1, 0.2], [-1, 0.0]])
PATIENTS = ["a", "a", "b", "b", "c"]


def test_hits_and_shares_are_counted_by_hand() -> None:
    found = recall_hits(FEATURES, PATIENTS, (1, 3))
    assert found.queries.tolist() == [0, 1, 2, 3]
    assert found.order[0].tolist() == [1, 3, 2]
    assert found.hits.tolist() == [[True, True], [False, True], [True, True], [False, True]]
    three = recall_hits(FEATURES, ["a", "a", "b", "a", "c"], (1, 2))
    assert three.found.tolist() == [[0.5, 1], [0.5, 1], [0.5, 1]]


def test_equal_rows_are_ranked_by_position_and_a_query_never_finds_itself() -> None:
    order, likeness = nearest_others(np.ones((4, 3)), np.arange(4), 3)
    assert order.tolist() == [[1, 2, 3], [0, 2, 3], [0, 1, 3], [0, 1, 2]]
    assert np.allclose(likeness, 1)


def test_fewer_others_than_k_leave_gaps_and_no_more_columns_than_pictures() -> None:
    found = recall_hits(FEATURES[:2], ["a", "a"], (1, 5))
    assert found.order.tolist() == [[1, -1], [0, -1]]
    assert found.found.tolist() == [[1, 1], [1, 1]]


def test_a_gallery_hides_all_else_and_queries_outside_it_may_ask() -> None:
    gallery = np.array([True, False, True, False, True])
    found = recall_hits(FEATURES, PATIENTS, (1,), queries=~gallery, gallery=gallery)
    assert found.queries.tolist() == [1, 3]
    assert found.order.tolist() == [[0], [0]]
    assert found.hits.tolist() == [[True], [False]]


def test_unknown_patients_are_only_distractors() -> None:
    assert patient_codes(["x", None, "", float("nan"), "x", 3]).tolist() == [0, -1, -1, -1, 0, 1]
    found = recall_hits(FEATURES, ["a", "a", "", "", None], (1,))
    assert found.queries.tolist() == [0, 1]
    assert not len(recall_hits(FEATURES, [None] * 5, (1,)).queries)


def test_a_search_of_ones_own_is_judged_alike() -> None:
    def search(rows: np.ndarray, k: int) -> np.ndarray:
        return nearest_others(FEATURES, rows, k)[0]

    for one, two in zip(recall_hits(search, PATIENTS), recall_hits(FEATURES, PATIENTS), strict=True):
        assert (one == two).all()


def test_many_queries_are_taken_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    features = np.random.default_rng(0).normal(size=(50, 4))
    whole = nearest_others(features, np.arange(50), 5)[0]
    monkeypatch.setattr("retina_fm.metrics.recall._BLOCK", 7)
    assert (nearest_others(features, np.arange(50), 5)[0] == whole).all()


def test_rows_of_zeros_stay_zero() -> None:
    assert unit_rows([[0, 0], [3, 4]]).tolist() == [[0, 0], [0.6, 0.8]]


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ConfigError, match="from 1"):
        recall_hits(FEATURES, PATIENTS, (0,))
    with pytest.raises(ConfigError, match=r"gallery is bool .*a bool mask of length 5"):
        recall_hits(FEATURES, PATIENTS, gallery=np.ones(4, bool))
