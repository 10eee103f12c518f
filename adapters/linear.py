"""Linear heads: logistic regression and ridge regression on standardised embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from retina_fm.adapters.base_heads import ClassifierHead, RegressorHead, shrunk_scale
from retina_fm.adapters.labels import ClassTargets, class_weights


class LinearClassifier(ClassifierHead):
    """Logistic regression (softmax for several classes, one sigmoid a label for multi-label).

    Attributes:
        coef_: ``(C, D)`` on standardised embeddings; for two classes ``(1, D)``.
        intercept_: ``(C,)`` or ``(1,)``.
        mean_: ``(D,)``, scale_: ``(D,)`` of the standardisation.
    """

    def __init__(self, C: float = 0.01, class_weight: Any = None, max_iter: int = 2000) -> None:
        self.C = C
        self.class_weight = class_weight
        self.max_iter = max_iter

    def _learn(self, X: np.ndarray, targets: ClassTargets, groups: Any, val: Any) -> None:  # noqa: ARG002
        self.mean_, self.scale_ = X.mean(0), shrunk_scale(X)
        Z = (X - self.mean_) / self.scale_
        weights = class_weights(targets, self.class_weight)
        problems = (
            [(targets.onehot[:, c].astype(int), weights[:, c]) for c in range(len(targets.classes))]
            if targets.multi_label
            else [(targets.index, weights[:, 0])]
        )
        fitted = [
            LogisticRegression(C=self.C, max_iter=self.max_iter).fit(Z, y, sample_weight=weight)
            for y, weight in problems
        ]
        self.coef_ = np.concatenate([one.coef_ for one in fitted])
        self.intercept_ = np.concatenate([one.intercept_ for one in fitted])
        self.n_iter_ = int(max(one.n_iter_.max() for one in fitted))

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits ``(N, C)``, or ``(N,)`` of the second class for two."""
        from sklearn.utils.validation import check_is_fitted, validate_data

        check_is_fitted(self)
        logits = self._logits(validate_data(self, X, reset=False, dtype=np.float64))
        return logits[:, 0] if not self.multi_label_ and logits.shape[1] == 1 else logits

    def _logits(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(((X - self.mean_) / self.scale_) @ self.coef_.T + self.intercept_)

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        return probabilities_of(self._logits(X), self.multi_label_)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        names = ("coef_", "intercept_", "mean_", "scale_")
        return {name: getattr(self, name) for name in names}, {"n_iter_": self.n_iter_}

    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:  # noqa: D102
        self.__dict__.update(arrays, **values)


class LinearRegressor(RegressorHead):
    """Ridge regression of standardised measurements on standardised embeddings.

    Attributes:
        coef_: ``(T, D)``.
        intercept_: ``(T,)``.
        mean_: ``(D,)``, scale_: ``(D,)`` of the standardisation.
    """

    def __init__(self, alpha: float = 100.0) -> None:
        self.alpha = alpha

    def _learn(self, X: np.ndarray, y: np.ndarray, groups: Any, val: Any) -> None:  # noqa: ARG002
        self.mean_, self.scale_ = X.mean(0), shrunk_scale(X)
        # alpha is per example and feature, so that its meaning does not change with the size of the set
        alpha = self.alpha * X.shape[1] * len(X) / 1e5
        fitted = Ridge(alpha=alpha).fit((X - self.mean_) / self.scale_, y)
        self.coef_ = fitted.coef_.reshape(y.shape[1], -1)
        self.intercept_ = np.asarray(fitted.intercept_).reshape(-1)

    def _predicted(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(((X - self.mean_) / self.scale_) @ self.coef_.T + self.intercept_)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        return {name: getattr(self, name) for name in ("coef_", "intercept_", "mean_", "scale_")}, {}

    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:  # noqa: D102
        self.__dict__.update(arrays, **values)


def probabilities_of(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits ``(N, C)`` to probabilities; one column for two classes stands for the second of them."""
    if multi_label or logits.shape[1] == 1:
        positive = np.exp(-np.logaddexp(0, -logits))
        return positive if multi_label else np.concatenate([1 - positive, positive], axis=1)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
