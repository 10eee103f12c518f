from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.utils.estimator_checks import parametrize_with_checks

from retina_fm import adapters
from retina_fm.errors import ConfigError

EQUIVALENCE = (
    "check_sample_weight_equivalence_on_dense_data",
    "check_sample_weight_equivalence_on_sparse_data",
)


def not_by_counts(estimator: Any) -> dict[str, str]:
    """Where a weight of two cannot be the same as an example seen twice, and why."""
    reasons = {
        adapters.MLPClassifier: "batches and the validation part are drawn from the examples",
        adapters.MLPRegressor: "batches and the validation part are drawn from the examples",
        adapters.NeighboursClassifier: "an example seen twice takes two of the k places",
        adapters.NeighboursRegressor: "an example seen twice takes two of the k places",
    }
    reason = reasons.get(type(estimator))
    if isinstance(estimator, adapters.LinearClassifier) and estimator.class_weight == "balanced":
        return {EQUIVALENCE[0]: "class weights are kept in single precision"}
    return dict.fromkeys(EQUIVALENCE, reason) if reason else {}


@parametrize_with_checks(
    [
        adapters.MLPClassifier(epochs=8),
        adapters.MLPClassifier(epochs=8, class_weight="balanced", calibrate=False),
        adapters.LinearClassifier(),
        adapters.LinearClassifier(C=0.1),
        adapters.LinearClassifier(C=0.1, class_weight="balanced"),
        adapters.NeighboursClassifier(),
        adapters.NearestMeanClassifier(),
        adapters.MLPRegressor(epochs=16),
        adapters.LinearRegressor(alpha=1.0),
        adapters.NeighboursRegressor(),
    ],
    expected_failed_checks=not_by_counts,
)
def test_heads_keep_the_contract_of_scikit_learn(estimator: Any, check: Any) -> None:
    check(estimator)


def test_few_rows_of_many_features_give_the_same_solution_as_the_whole_problem() -> None:
    random = np.random.default_rng(0)
    y = np.arange(24) % 3
    X = random.normal(size=(24, 200)) + y[:, None]  # noqa: N806
    head = adapters.LinearClassifier(C=0.1).fit(X, y)
    whole = LogisticRegression(C=0.1, max_iter=5000, tol=1e-8).fit((X - head.mean_) / head.scale_, y)
    assert head.coef_.shape == (3, 200)
    assert np.abs(head.coef_ - whole.coef_).max() < 1e-3 * np.abs(whole.coef_).max()


HEADS = [
    adapters.MLPClassifier(epochs=12, calibrate=False),
    adapters.LinearClassifier(C=1.0),
    adapters.NeighboursClassifier(n_neighbors=9),
    adapters.NearestMeanClassifier(class_weight="balanced"),
]


@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_heavier_class_is_predicted_more_often(head: Any) -> None:
    random = np.random.default_rng(1)
    y = np.arange(120) % 2
    X = random.normal(size=(120, 6)) + 0.5 * y[:, None]  # noqa: N806
    plain = clone(head).fit(X, y).predict_proba(X)[:, 1].mean()
    heavy = clone(head).fit(X, y, sample_weight=np.where(y == 1, 8.0, 1.0)).predict_proba(X)[:, 1].mean()
    same = clone(head).fit(X, y, sample_weight=np.ones(120)).predict_proba(X)[:, 1].mean()
    assert same == plain
    if isinstance(head, adapters.NearestMeanClassifier):
        assert heavy == pytest.approx(plain, abs=0.1), "balanced classes undo what a class weighs"
    else:
        assert heavy > plain + 0.1


@pytest.mark.parametrize(
    "head",
    [adapters.MLPRegressor(epochs=16), adapters.LinearRegressor(alpha=1.0), adapters.NeighboursRegressor(30)],
    ids=lambda head: type(head).__name__,
)
def test_heavier_measurements_pull_the_prediction(head: Any) -> None:
    random = np.random.default_rng(2)
    X = random.normal(size=(60, 4))  # noqa: N806
    y = np.where(np.arange(60) < 30, 1.0, 3.0)
    low = clone(head).fit(X, y, sample_weight=np.where(y == 1, 10.0, 1.0)).predict(X).mean()
    assert low < clone(head).fit(X, y).predict(X).mean() - 0.3


def test_weights_that_make_no_sense_are_refused() -> None:
    X, y = np.eye(6), np.arange(6) % 2  # noqa: N806
    with pytest.raises(ValueError, match="zero"):
        adapters.LinearClassifier().fit(X, y, sample_weight=np.zeros(6))
    with pytest.raises(ConfigError, match="one class"):
        adapters.LinearClassifier().fit(X, y, sample_weight=(y == 0).astype(float))
    with pytest.raises(ValueError, match=r"[Nn]egative"):
        adapters.LinearRegressor().fit(X, y, sample_weight=-np.ones(6))


def test_neighbours_saved_before_examples_had_weights_say_the_same() -> None:
    random = np.random.default_rng(3)
    X, y = random.normal(size=(20, 4)), random.normal(size=20)  # noqa: N806
    head = adapters.NeighboursRegressor().fit(X, y)
    arrays, state = head.state()
    del arrays["weights_"]
    again = clone(head)
    again.restore(arrays, state)
    np.testing.assert_array_equal(again.predict(X), head.predict(X))


def test_a_class_without_weight_is_not_learnt() -> None:
    random = np.random.default_rng(4)
    X, y = random.normal(size=(60, 4)), np.arange(60) % 3  # noqa: N806
    head = adapters.MLPClassifier(epochs=2)
    head.fit(X, y, val=(X[y > 0], y[y > 0]), sample_weight=(y > 0).astype(float))
    assert head.classes_.tolist() == [1, 2]
    assert head.predict_proba(X).shape == (60, 2)


@pytest.mark.parametrize("several", [False, True])
@pytest.mark.parametrize("head", HEADS, ids=lambda head: type(head).__name__)
def test_a_validation_part_is_scored_and_the_score_is_saved(head: Any, several: bool) -> None:
    random = np.random.default_rng(5)
    y = np.arange(90) % 3
    X = random.normal(size=(90, 4)) + 0.7 * y[:, None]  # noqa: N806
    labels = np.eye(3, dtype=int)[y] if several else y
    fitted = clone(head).fit(X[:60], labels[:60], val=(X[60:], labels[60:]))
    p = fitted.predict_proba(X[60:])
    wanted = np.mean([roc_auc_score(y[60:] == c, p[:, c]) for c in range(3)])
    assert fitted.validation_auroc_ == pytest.approx(wanted)
    again = clone(head)
    again.restore(*fitted.state())
    assert again.validation_auroc_ == fitted.validation_auroc_
    if not isinstance(head, adapters.MLPClassifier):
        assert clone(head).fit(X, labels).validation_auroc_ is None


@pytest.mark.parametrize("head", [adapters.LinearRegressor(1.0), adapters.NeighboursRegressor()], ids=str)
def test_a_regressors_validation_part_is_scored(head: Any) -> None:
    random = np.random.default_rng(6)
    X = random.normal(size=(60, 4))  # noqa: N806
    y = 10 * X[:, :2] + random.normal(size=(60, 2))
    head.fit(X[:40], y[:40], val=(X[40:], y[40:]))
    wanted = np.square((head.predict(X[40:]) - y[40:]) / y[:40].std(0)).mean()
    assert head.validation_error_ == pytest.approx(wanted)
    for fitted in (head, clone(head).fit(X, y)):
        again = clone(head)
        again.restore(*fitted.state())
        assert again.validation_error_ == fitted.validation_error_


@pytest.mark.parametrize("several", [False, True])
def test_a_linear_head_chooses_its_penalty_on_the_validation_part(several: bool) -> None:
    random = np.random.default_rng(7)
    y = np.arange(12) % 2
    X = random.normal(size=(12, 3)) + y[:, None]  # noqa: N806
    far, near = X + 6 * (2 * y[:, None] - 1), X[::-1]  # told apart with ease, and not at all
    labels = np.stack([y, 1 - y], 1) if several else y
    head = adapters.LinearClassifier()
    assert set(head.fit(X, labels).C_) == {0.1}, "too few for a choice by folds"
    assert set(head.fit(X, labels, val=(far, labels)).C_) == {3.0}
    assert set(head.fit(X, labels, val=(near, labels)).C_) == {0.003}
    assert set(head.set_params(C=0.5).fit(X, labels, val=(far, labels)).C_) == {0.5}


def test_a_validation_part_of_one_class_chooses_nothing_and_says_so() -> None:
    X, y = np.random.default_rng(8).normal(size=(12, 3)), np.arange(12) % 2  # noqa: N806
    head = adapters.LinearClassifier(class_weight="balanced")
    with pytest.warns(UserWarning, match="one class alone: it has no AUROC"):
        head.fit(X, y, val=(X[y > 0], y[y > 0]))
    assert head.C_ == [0.1] and head.validation_auroc_ is None


def test_nothing_is_predicted_before_fit() -> None:
    for head in (*HEADS, adapters.LinearRegressor(), adapters.NeighboursRegressor(), adapters.MLPRegressor()):
        with pytest.raises(NotFittedError):
            clone(head).predict(np.eye(6))
    for estimator in (adapters.FundusClassifier(), adapters.FundusRegressor(), adapters.FundusSegmenter()):
        with pytest.raises(NotFittedError):
            estimator.predict(["photo.jpg"])
