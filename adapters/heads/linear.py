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
_Part = tuple[np.ndarray, np.ndarray, np.ndarray]
"""Embeddings, labels and weights of some examples."""


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
        C: inverse strength of the penalty; None chooses it on the validation part where one is given that has
            every class, else by three folds, patients kept together, where every class has nine examples, and
            takes 0.1 otherwise.
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
        val: Any,
        weight: np.ndarray | None,
    ) -> None:
        self.mean_, self.scale_ = weighted_mean(X, weight), shrunk_scale(X, weight=weight)
        Z = self._standard(X)
        problems = self._problems(y, weight)
        basis = row_space(Z)
        rows = Z @ basis
        held: list[_Part | None] = [None] * len(problems)
        if val is not None and (y.multi_label or val[1].onehot.any(0).all()):
            seen = self._standard(val[0]) @ basis
            held = [(seen, *one) if len(np.unique(one[0])) > 1 else None for one in self._problems(val[1])]
        self.C_ = [
            self._strength((rows, *one), groups, other) for one, other in zip(problems, held, strict=True)
        ]
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

    def _problems(
        self, y: ClassTargets, weight: np.ndarray | None = None
    ) -> list[tuple[np.ndarray, np.ndarray]]:
        """Labels and weights of each regression: one a label for multi-label, one for all classes else."""
        weights = class_weights(y, self.class_weight, weight)
        if y.multi_label:
            return [(y.onehot[:, c].astype(int), weights[:, c]) for c in range(len(y.classes))]
        return [(y.index, weights[:, 0])]

    def _strength(self, part: _Part, patients: np.ndarray, held: _Part | None) -> float:
        """The C given, or that of the least log loss on the validation part, or on patients left out."""
        if self.C is not None:
            return self.C
        pairs = _folds(part, patients) if held is None else [(part, held)]
        if not pairs:
            return _FEW
        losses = [sum(self._log_loss(train, test, strength) for train, test in pairs) for strength in _GRID]
        return _GRID[int(np.argmin(losses))]

    def _log_loss(self, train: _Part, test: _Part, strength: float) -> float:
        fitted = self._solve(*train, strength)
        Z, y, weight = test
        p = np.take_along_axis(fitted.predict_proba(Z), np.searchsorted(fitted.classes_, y)[:, None], 1)
        return -float((weight * np.log(np.maximum(p[:, 0], 1e-12))).sum())

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


def _folds(part: _Part, patients: np.ndarray) -> list[tuple[_Part, _Part]]:
    """Three times what is learnt from and what is judged, by patients; nothing where there is too little."""
    Z, y, weight = part
    if np.unique(y, return_counts=True)[1].min() < _CHOOSE_FROM or len(np.unique(patients)) < 3:
        return []
    folds = list(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(Z, y, patients))
    if any(len(np.unique(y[train])) < len(np.unique(y)) for train, _ in folds):
        return []  # patients so large that a fold would lack a class
    return [((Z[train], y[train], weight[train]), (Z[test], y[test], weight[test])) for train, test in folds]


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
