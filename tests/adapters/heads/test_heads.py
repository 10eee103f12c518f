from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.utils.estimator_checks import parametrize_with_checks

from retina_fm import adapters


@parametrize_with_checks(
    [
        adapters.MLPClassifier(epochs=8),
        adapters.MLPClassifier(epochs=8, class_weight="balanced", calibrate=False),
        adapters.LinearClassifier(),
        adapters.NeighboursClassifier(),
        adapters.NearestMeanClassifier(),
        adapters.MLPRegressor(epochs=40),
        adapters.LinearRegressor(alpha=1.0),
        adapters.NeighboursRegressor(),
    ]
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
