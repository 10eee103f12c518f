from __future__ import annotations

import math

import numpy as np
import pytest

from retina_fm.errors import ConfigError
from retina_fm.indexes.recall import recall_at_k, recall_by_pair


def angles(*degrees: float) -> np.ndarray:
    radians = np.radians(degrees)
    return np.column_stack([np.cos(radians), np.sin(radians)]).astype(np.float32)


def test_both_readings_agree_with_counting_by_hand() -> None:
    #        a0 a1  b0  a2  b1   c0
    points = angles(0, 1, 3, 7, 15, 31)
    report = recall_at_k(points, ["a", "a", "b", "a", "b", "c"], (1, 2))
    # nearest two: a0: a1 b0; a1: a0 b0; b0: a1 a0; a2: b0 a1; b1: a2 b0. c has no partner.
    assert report.any_hit[1].mean == pytest.approx(2 / 5)
    assert report.any_hit[2].mean == pytest.approx(4 / 5)
    assert report.share_found[1].mean == pytest.approx((0.5 + 0.5) / 5)
    assert report.share_found[2].mean == pytest.approx((0.5 + 0.5 + 0 + 0.5 + 1) / 5)
    assert report.average.mean == pytest.approx((2 / 5 + 4 / 5) / 2)
    assert (report.queries, report.without_partner, report.gallery, report.patients) == (5, 1, 6, 2)
    assert set(report.as_dict()) >= {"recall@1", "recall@2", "recall@mean", "share@1", "share@mean"}


def test_a_query_never_finds_itself_even_among_copies() -> None:
    points = np.repeat(angles(10), 4, axis=0)
    report = recall_at_k(points, ["a", "b", "b", "a"], (1,))
    # each query's nearest is the earliest other row: 0 -> 1, 1 -> 0, 2 -> 0, 3 -> 0
    assert report.any_hit[1].mean == pytest.approx(1 / 4)


def test_pictures_of_unknown_patients_only_distract() -> None:
    points = angles(0, 1, 5)
    assert recall_at_k(points, ["a", None, "a"], (1, 2)).any_hit[1].mean == 0
    assert recall_at_k(points, ["a", math.nan, "a"], (1, 2)).any_hit[2].mean == 1
    assert recall_at_k(points, ["a", "", "a"], (1,)).queries == 2


def test_pairs_of_modalities_ask_one_and_find_the_other() -> None:
    points = angles(0, 1, 40, 41, 80)
    reports = recall_by_pair(points, ["a", "a", "b", "a", "b"], ["CF", "FFA", "CF", "FFA", "OCT"], (1,))
    assert set(reports) == {("CF", "FFA"), ("FFA", "CF"), ("CF", "OCT"), ("OCT", "CF"), ("FFA", "FFA")}
    assert reports["CF", "FFA"].any_hit[1].mean == 1 and reports["CF", "FFA"].queries == 1
    assert reports["FFA", "CF"].any_hit[1].mean == pytest.approx(1 / 2)
    assert reports["CF", "OCT"].gallery == 1


@pytest.mark.parametrize(
    ("groups", "k", "message"),
    [
        (["a", "b"], (1,), "2 patient ids for 3"),
        (["a", "b", "c"], (1,), "No query has another picture"),
        ([None, None, None], (1,), "No query has another picture"),
        (["a", "a", "b"], (0,), "k is"),
        (["a", "a", "b"], (), "k is"),
    ],
)
def test_what_means_nothing_is_refused(groups: list[str], k: tuple[int, ...], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        recall_at_k(angles(0, 1, 2), groups, k)


def test_nan_is_named_by_row() -> None:
    points = angles(0, 1, 2)
    points[1, 0] = np.nan
    with pytest.raises(ConfigError, match="row 1"):
        recall_at_k(points, ["a", "a", "a"])
