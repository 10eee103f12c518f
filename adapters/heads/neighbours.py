"""Heads without training: nearest neighbours and nearest class mean."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.metrics.pairwise import euclidean_distances

from retina_fm.adapters.examples.labels import ClassTargets, class_weights, weighted_mean
from retina_fm.adapters.heads.base import ClassifierHead, RegressorHead, shrunk_scale
from retina_fm.adapters.heads.linear import probabilities_of

_PRIOR = 0.01
"""Neighbours that the whole set counts for: it breaks ties, and nothing becomes impossible."""


class NeighboursClassifier(ClassifierHead):
    """The share of each class among the k nearest examples.

    Attributes:
        embeddings_: ``(N, D)`` standardised, targets_: ``(N, C)``, weights_: ``(N, C)``.
    """

    _arrays = ("embeddings_", "targets_", "weights_", "scale_")

    def __init__(self, n_neighbors: int = 5, class_weight: Any = None) -> None:
        self.n_neighbors = n_neighbors
        self.class_weight = class_weight

    def _learn(
        self,
        X: np.ndarray,
        y: ClassTargets,
        groups: np.ndarray,  # noqa: ARG002
        val: Any,  # noqa: ARG002
        weight: np.ndarray | None,
    ) -> None:
        self.scale_ = shrunk_scale(X, weight=weight)
        self.embeddings_ = X / self.scale_
        self.targets_ = y.onehot.astype(np.float64)
        self.weights_ = class_weights(y, self.class_weight, weight).astype(np.float64)

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        nearest = nearest_rows(X / self.scale_, self.embeddings_, self.n_neighbors)
        weights = self.weights_[nearest]
        votes = (self.targets_[nearest] * weights).sum(1) + _PRIOR * self.targets_.mean(0)
        return np.asarray(votes / (weights.sum(1) + _PRIOR))


class NeighboursRegressor(RegressorHead):
    """The mean measurement of the k nearest examples."""

    _arrays = ("embeddings_", "targets_", "scale_", "weights_")

    def __init__(self, n_neighbors: int = 5) -> None:
        self.n_neighbors = n_neighbors

    def _learn(
        self,
        X: np.ndarray,
        y: np.ndarray,
        groups: np.ndarray,  # noqa: ARG002
        val: Any,  # noqa: ARG002
        weight: np.ndarray | None,
    ) -> None:
        self.scale_ = shrunk_scale(X, weight=weight)
        self.embeddings_, self.targets_ = X / self.scale_, y
        self.weights_ = np.ones(len(X)) if weight is None else weight

    def _predicted(self, X: np.ndarray) -> np.ndarray:
        nearest = nearest_rows(X / self.scale_, self.embeddings_, self.n_neighbors)
        weights = self.weights_[nearest][..., None]
        return np.asarray((self.targets_[nearest] * weights).sum(1) / weights.sum(1))

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: D102
        arrays.setdefault("weights_", np.ones(len(arrays["targets_"])))  # adapters of earlier releases
        super().restore(arrays, state)


class NearestMeanClassifier(ClassifierHead):
    """The class whose mean embedding is nearest; the natural head for one to a few examples a class.

    Probabilities come from squared distances to the means, as if every class were a round Gaussian of the
    spread seen within classes (Snell et al., Prototypical Networks, NeurIPS 2017, eq. 2, with a scale).

    Attributes:
        means_: ``(C, D)`` of each class; for multi-label ``(2, C, D)``: without and with each label.
        spread_: the variance that distances are measured in.
    """

    _arrays = ("means_", "scale_", "log_prior_")
    _values = ("spread_",)

    def __init__(self, class_weight: Any = None) -> None:
        self.class_weight = class_weight

    def _learn(
        self,
        X: np.ndarray,
        y: ClassTargets,
        groups: np.ndarray,  # noqa: ARG002
        val: Any,  # noqa: ARG002
        weight: np.ndarray | None,
    ) -> None:
        self.scale_ = shrunk_scale(X, weight=weight)
        Z, onehot = X / self.scale_, y.onehot.astype(np.float64)
        times = np.ones(len(Z)) if weight is None else weight
        own = onehot * times[:, None]
        counts = own.sum(0)
        means = (own.T @ Z) / counts[:, None]
        if y.multi_label:
            without = ((times[:, None] - own).T @ Z) / (times.sum() - counts)[:, None]
            self.means_ = np.stack([without, means])
            within = weighted_mean(np.square(Z - weighted_mean(Z, weight)), weight).sum()
        else:
            self.means_ = means
            within = (np.square(Z - means[y.index]).sum(1) * times).sum()
            within /= max(1, times.sum() - len(means))
        # one example a class has no spread within; the distance between the classes stands in for it
        between = max(np.square(means - means.mean(0)).sum() / len(means), 1e-12)
        self.spread_ = float(within if within > 1e-9 * between else between)
        # a class weight acts as a prior: equal for all without one, for the classes are drawn evenly
        weights = class_weights(y, self.class_weight, weight)
        self.log_prior_ = np.zeros(len(y.classes))
        if self.class_weight is not None and not y.multi_label:
            per_class = (onehot * weights).sum(0)
            self.log_prior_ = np.log(per_class / per_class.sum())

    def _probabilities(self, X: np.ndarray) -> np.ndarray:
        Z = X / self.scale_
        if self.multi_label_:
            far = [euclidean_distances(Z, side, squared=True) for side in self.means_]
            return probabilities_of((far[0] - far[1]) / (2 * self.spread_), multi_label=True)
        logits = -euclidean_distances(Z, self.means_, squared=True) / (2 * self.spread_)
        return probabilities_of(logits + self.log_prior_, multi_label=False)


def nearest_rows(X: np.ndarray, examples: np.ndarray, k: int) -> np.ndarray:
    """Positions ``(N, k)`` of the nearest examples; ties go to the first."""
    distances = euclidean_distances(X, examples, squared=True)
    return np.argsort(distances, axis=1, kind="stable")[:, : min(k, len(examples))]
