from __future__ import annotations

from typing import Any

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
