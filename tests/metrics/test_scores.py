"""Metrics against scikit-learn and hand-worked cases."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, roc_auc_score

from retina_fm.errors import ConfigError
from retina_fm.metrics.scores import (
    auroc,
    average_precision,
    best_threshold,
    dice,
    macro,
    macro_ranked,
)


def made(seed: int, n: int = 200, levels: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    truth = random.random(n) < 0.3
    scores = random.normal(size=n) + truth
    return truth, np.round(scores * levels) / levels if levels else scores


@pytest.mark.parametrize("levels", [0, 1, 4], ids=["no ties", "many ties", "some ties"])
@pytest.mark.parametrize("seed", range(5))
def test_binary_figures_are_those_of_scikit_learn(seed: int, levels: int) -> None:
    truth, scores = made(seed, levels=levels)
    assert auroc(truth, scores) == pytest.approx(roc_auc_score(truth, scores), abs=1e-12)
    assert average_precision(truth, scores) == pytest.approx(
        average_precision_score(truth, scores), abs=1e-12
    )


def test_weights_count_rows_several_times_or_not_at_all() -> None:
    truth, scores = made(3, levels=3)
    weights = np.random.default_rng(0).integers(0, 4, (6, len(truth))).astype(float)
    for metric, reference in ((auroc, roc_auc_score), (average_precision, average_precision_score)):
        wanted = [reference(truth, scores, sample_weight=row) for row in weights]
        assert metric(truth, scores, weights) == pytest.approx(wanted, abs=1e-12)


def test_figures_worked_by_hand() -> None:
    truth = np.array([1, 0, 1, 0, 0], bool)
    scores = np.array([0.9, 0.8, 0.7, 0.7, 0.1])
    # pairs: 0.9 beats three; 0.7 loses to 0.8, ties with 0.7, beats 0.1
    assert auroc(truth, scores) == pytest.approx((3 + 1.5) / 6)
    # precision 1 at recall 1/2; the tied step has precision 2/4 for the other half
    assert average_precision(truth, scores) == pytest.approx(0.5 * 1 + 0.5 * 0.5)


def test_a_constant_prediction_is_chance() -> None:
    truth = np.array([1, 0, 0, 0], bool)
    assert auroc(truth, np.ones(4)) == 0.5
    assert average_precision(truth, np.ones(4)) == 0.25


def test_one_class_alone_cannot_be_judged() -> None:
    assert np.isnan(auroc(np.ones(3, bool), np.arange(3.0)))
    assert np.isnan(average_precision(np.zeros(3, bool), np.arange(3.0)))


def test_macro_is_that_of_scikit_learn() -> None:
    random = np.random.default_rng(1)
    truth = random.integers(0, 4, 120)
    scores = random.dirichlet(np.ones(4), 120)
    wanted = roc_auc_score(truth, scores, multi_class="ovr", average="macro")
    assert macro(auroc, truth, scores).mean == pytest.approx(wanted)
    wanted = average_precision_score(np.eye(4)[truth], scores, average="macro")
    assert macro(average_precision, truth, scores).mean == pytest.approx(wanted)


def test_two_classes_are_judged_by_the_second() -> None:
    truth, scores = made(2)
    table = np.stack([-scores, scores], 1)
    assert macro(average_precision, truth.astype(int), table).mean == pytest.approx(
        average_precision_score(truth, scores)
    )


def test_an_absent_class_stays_out_of_the_mean_and_is_shown() -> None:
    truth = np.array([0, 0, 1, 1])
    scores = np.array([[0.9, 0.1, 0.0], [0.2, 0.8, 0.0], [0.3, 0.7, 0.0], [0.1, 0.9, 0.0]])
    found = macro(auroc, truth, scores)
    assert np.isnan(found.per_class[2])
    assert found.mean == pytest.approx(found.per_class[:2].mean())
    assert np.isnan(macro(average_precision, truth, scores).per_class[2])


def test_ranks_give_the_same_area() -> None:
    from scipy.stats import rankdata

    random = np.random.default_rng(5)
    truth = random.integers(0, 3, 60)
    scores = np.round(random.normal(size=(60, 3)), 1)
    assert macro_ranked(truth, rankdata(scores, axis=0)) == pytest.approx(macro(auroc, truth, scores).mean)


def test_dice_is_the_f1_of_pixels() -> None:
    random = np.random.default_rng(0)
    first, second = random.random((20, 20)) < 0.4, random.random((20, 20)) < 0.4
    assert dice(first, second) == pytest.approx(f1_score(second.ravel(), first.ravel()))
    inside = random.random((20, 20)) < 0.5
    assert dice(first, second, inside) == pytest.approx(f1_score(second[inside], first[inside]))
    assert dice(np.zeros(4), np.zeros(4)) == 1
    with pytest.raises(ConfigError, match="cannot be compared"):
        dice(np.zeros(4), np.zeros(5))


def test_nan_scores_and_nothing_to_judge_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 scores are NaN"):
        auroc([True, False], [np.nan, 0.0])
    with pytest.raises(ConfigError, match="nothing to judge"):
        auroc([], [])
    with pytest.raises(ConfigError, match="do not belong together"):
        auroc([True], [0.0, 1.0])
    with pytest.raises(ConfigError, match="is needed"):
        macro(auroc, np.array([0, 1]), np.zeros((2, 1)))


def test_the_best_threshold_is_of_each_picture_or_of_all_together() -> None:
    wanted = np.array([0, 0, 1, 1], bool)
    one, two = np.array([0.1, 0.2, 0.6, 0.9]), np.array([0.1, 0.4, 0.5, 0.9])
    grid = [0.15, 0.3, 0.45, 0.5, 0.7]
    assert best_threshold([(one, wanted, None), (two, wanted, None)], grid) == 0.45
    assert best_threshold([(one, wanted, None)], grid) == 0.3
    assert best_threshold([(one, wanted, None)], grid, together=True) == 0.45  # the middle of three
    inside = np.array([1, 1, 0, 1], bool)
    assert best_threshold([(two, wanted, inside)], [0.3, 0.45, 0.7]) == 0.45
