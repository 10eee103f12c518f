"""Linear heads: logistic regression and ridge regression on standardised embeddings."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedGroupKFold

from retina_fm.adapters.examples.labels import ClassTargets, class_weights, weighted_mean
from retina_fm.adapters.heads.base import ClassifierHead, Head, RegressorHead, shrunk_scale

_GRID = (0.003, 0.03, 0.3, 3.0)
_CHOOSE_FROM = 9
_FEW = 0.1
"""Strength for few examples, where any choice by folds would be chance."""
# The solver's own stops so early that the order of rows, and the processor, show in the fourth decimal.
_TOLERANCE = 1e-7


class _Linear(Head):
    """What both have: a linear map of standardised embeddings."""

    _arrays = ("coef_", "intercept_", "mean_", "scale_")

    def _standard(self, X: np.ndarray) -> np.ndarray:
        return np.asarray((X - self.mean_) / self.scale_)

    def _mapped(self, X: np.ndarray) -> np.ndarray:
        return np.asarray(self._standard(X) @ self.coef_.T + self.intercept_)


class LinearClassifier(_Linear, ClassifierHead):
    """Logistic regression (softmax for several classes, one sigmoid a label for multi-label).

    Args:
        C: inverse strength of the penalty; None chooses it by three folds, patients kept together, where
            every class has nine examples, and takes 0.1 otherwise.
        class_weight: None, ``"balanced"`` or a dict.
        max_iter: of the solver.

    Attributes:
        C_: the strengths used, one a label for multi-label.
        coef_: ``(C, D)`` on standardised embeddings; for two classes ``(1, D)``.
        intercept_: ``(C,)`` or ``(1,)``.
        mean_: ``(D,)``, scale_: ``(D,)`` of the standardisation.
    """

    _values = ("n_iter_", "C_")

    def __init__(self, C: float | None = None, class_weight: Any = None, max_iter: int = 2000) -> None:
        self.C = C
        self.class_weight = class_weight
        self.max_iter = max_iter

    def _learn(
        self,
        X: np.ndarray,
        y: ClassTargets,
        groups: np.ndarray,
        val: Any,  # noqa: ARG002
        weight: np.ndarray | None,
    ) -> None:
        self.mean_, self.scale_ = weighted_mean(X, weight), shrunk_scale(X, weight=weight)
        Z = self._standard(X)
        weights = class_weights(y, self.class_weight, weight)
        problems = (
            [(y.onehot[:, c].astype(int), weights[:, c]) for c in range(len(y.classes))]
            if y.multi_label
            else [(y.index, weights[:, 0])]
        )
        basis = row_space(Z)
        rows = Z @ basis
        self.C_ = [self._strength(rows, one, weight, groups) for one, weight in problems]
        fitted = [
            self._solve(rows, one, weight, strength, _TOLERANCE)
            for (one, weight), strength in zip(problems, self.C_, strict=True)
        ]
        self.coef_ = np.concatenate([one.coef_ for one in fitted]) @ basis.T
        self.intercept_ = np.concatenate([one.intercept_ for one in fitted])
        self.n_iter_ = int(max(one.n_iter_.max() for one in fitted))

    def _solve(
        self, Z: np.ndarray, y: np.ndarray, weight: np.ndarray, strength: float, tolerance: float = 1e-4
    ) -> Any:
        solver = LogisticRegression(C=strength, max_iter=self.max_iter, tol=tolerance)
        return solver.fit(Z, y, sample_weight=weight)

    def _strength(self, Z: np.ndarray, y: np.ndarray, weight: np.ndarray, patients: np.ndarray) -> float:
        """The C given, or that of the least log loss on patients left out."""
        if self.C is not None:
            return self.C
        if np.unique(y, return_counts=True)[1].min() < _CHOOSE_FROM:
            return _FEW
        if len(np.unique(patients)) < 3:
            return _FEW
        folds = list(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(Z, y, patients))
        if any(len(np.unique(y[train])) < len(np.unique(y)) for train, _ in folds):
            return _FEW  # patients so large that a fold would lack a class
        losses = []
        for strength in _GRID:
            loss = 0.0
            for train, test in folds:
                fitted = self._solve(Z[train], y[train], weight[train], strength)
                column = np.searchsorted(fitted.classes_, y[test])[:, None]
                p = np.take_along_axis(fitted.predict_proba(Z[test]), column, 1)
                loss -= float((weight[test] * np.log(np.maximum(p[:, 0], 1e-12))).sum())
            losses.append(loss)
        return _GRID[int(np.argmin(losses))]

    def decision_function(self, X: Any) -> np.ndarray:
        """Logits ``(N, C)``, or ``(N,)`` of the second class for two."""
        logits = self._mapped(self._embedded(X))
        return logits[:, 0] if not self.multi_label_ and logits.shape[1] == 1 else logits

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        return probabilities_of(self._mapped(X), self.multi_label_)


class LinearRegressor(_Linear, RegressorHead):
    """Ridge regression of standardised measurements on standardised embeddings.

    Attributes:
        coef_: ``(T, D)``.
        intercept_: ``(T,)``.
        mean_: ``(D,)``, scale_: ``(D,)`` of the standardisation.
    """

    def __init__(self, alpha: float = 100.0) -> None:
        self.alpha = alpha

    def _learn(
        self,
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray,  # noqa: ARG002
        val: Any,  # noqa: ARG002
        weight: np.ndarray | None,
    ) -> None:
        self.mean_, self.scale_ = weighted_mean(X, weight), shrunk_scale(X, weight=weight)
        # alpha is per example and feature, so that its meaning does not change with the size of the set
        count = len(X) if weight is None else weight.sum()
        alpha = self.alpha * X.shape[1] * count / 1e5
        fitted = Ridge(alpha=alpha).fit(self._standard(X), y, sample_weight=weight)
        self.coef_ = fitted.coef_.reshape(y.shape[1], -1)
        self.intercept_ = np.asarray(fitted.intercept_).reshape(-1)

    def _predicted(self, X: np.ndarray) -> np.ndarray:
        return self._mapped(X)


def row_space(Z: np.ndarray) -> np.ndarray:
    """Orthonormal columns ``(D, min(N, D))`` that span the rows of ``Z (N, D)``.

    With a quadratic penalty the best coefficients are sums of rows, so that a problem of few examples may be
    solved in as many dimensions as it has examples: the same solution in a fraction of the time.
    """
    if len(Z) >= Z.shape[1]:
        return np.eye(Z.shape[1])
    return np.asarray(np.linalg.qr(Z.T)[0])


def probabilities_of(logits: np.ndarray, multi_label: bool) -> np.ndarray:
    """Logits ``(N, C)`` to probabilities; one column for two classes stands for the second of them."""
    if multi_label or logits.shape[1] == 1:
        positive = np.exp(-np.logaddexp(0, -logits))
        return positive if multi_label else np.concatenate([1 - positive, positive], axis=1)
    shifted = np.exp(logits - logits.max(1, keepdims=True))
    return np.asarray(shifted / shifted.sum(1, keepdims=True))
