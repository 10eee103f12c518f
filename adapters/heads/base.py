"""What all heads over plain embeddings have in common: scikit-learn's contract, and state as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import (
    _check_sample_weight,
    check_is_fitted,
    column_or_1d,
    validate_data,
)

from retina_fm.adapters.examples.labels import (
    ClassTargets,
    class_targets,
    is_label_sets,
    regression_targets,
    weighted_mean,
)
from retina_fm.errors import ConfigError

if TYPE_CHECKING:
    from typing_extensions import Self

Validation = tuple[np.ndarray, Any]
"""Embeddings and labels of a validation part."""


class ClassifierHead(ClassifierMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A classifier of embeddings ``(N, D)``: binary, multi-class or multi-label.

    Attributes:
        classes_: labels of the columns of ``predict_proba``.
        multi_label_: whether any number of classes may apply to an example.
        n_features_in_: D.
    """

    classes_: np.ndarray
    multi_label_: bool
    n_features_in_: int

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        val: Validation | None = None,
        sample_weight: Any = None,
    ) -> Self:
        """Learn from embeddings.

        Args:
            X: ``(N, D)``.
            y: ``(N,)`` labels, ``(N, C)`` indicator, or a set of label names an example.
            groups: ``(N,)`` patients, kept together where a validation part is set aside.
            val: embeddings and labels to validate on instead.
            sample_weight: ``(N,)``, how many examples each stands for; zero leaves it out.

        Raises:
            ConfigError: labels that cannot be learnt from; the message says which.
            ValueError: embeddings with NaN, infinity or of a wrong rank.
        """
        X, targets = self._checked(X, y)
        weight = counted_weight(sample_weight, X)
        if weight is not None:
            kept = weight > 0
            groups = None if groups is None else np.asarray(groups)[kept]
            X, targets = X[kept], _of_rows(targets, kept, weight[kept])
        self.classes_, self.multi_label_ = targets.classes, targets.multi_label
        held = None
        if val is not None:
            others = class_targets(val[1], self.classes_)
            held = (validate_data(self, val[0], reset=False, dtype=np.float64), others)
        self._learn(X, targets, groups, held)
        return self

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``(N, C)``; rows sum to 1 unless several labels may apply."""
        check_is_fitted(self)
        return self._probabilities(validate_data(self, X, reset=False, dtype=np.float64))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class ``(N,)``, or for multi-label the indicator ``(N, C)`` of p >= 0.5."""
        probabilities = self.predict_proba(X)
        if self.multi_label_:
            return (probabilities >= 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was learnt, as named arrays and JSON values."""

    @abstractmethod
    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _checked(self, X: Any, y: Any) -> tuple[np.ndarray, ClassTargets]:
        if y is None:  # scikit-learn's own words for it
            validate_data(self, X, y)
        X = validate_data(self, X, dtype=np.float64)
        if not is_label_sets(y):
            y = np.asarray(y)
            y = column_or_1d(y, warn=True) if y.ndim == 2 and y.shape[1] == 1 else y
        targets = class_targets(y)
        _same_length(len(X), len(targets.onehot))
        return X, targets

    @abstractmethod
    def _learn(self, X: np.ndarray, targets: ClassTargets, groups: Any, val: Any) -> None: ...

    @abstractmethod
    def _probabilities(self, X: np.ndarray) -> np.ndarray: ...


class RegressorHead(RegressorMixin, BaseEstimator, ABC):  # type: ignore[misc]
    """A regressor of embeddings ``(N, D)`` for one measurement or several.

    Attributes:
        n_features_in_: D.
        target_mean_: ``(T,)`` mean of the measurements learnt from.
        target_scale_: ``(T,)`` their standard deviation.
    """

    n_features_in_: int
    target_mean_: np.ndarray
    target_scale_: np.ndarray
    one_target_: bool

    def fit(
        self,
        X: Any,
        y: Any,
        groups: Any = None,
        val: Validation | None = None,
        sample_weight: Any = None,
    ) -> Self:
        """Learn from embeddings ``(N, D)`` and measurements ``(N,)`` or ``(N, T)``; else as a classifier."""
        if y is None:
            validate_data(self, X, y)
        X = validate_data(self, X, dtype=np.float64)
        values = regression_targets(y)
        if values.ndim == 2 and values.shape[1] == 1:
            values = column_or_1d(values, warn=True)
        _same_length(len(X), len(values))
        self.one_target_ = values.ndim == 1
        values = values.reshape(len(values), -1)
        weight = counted_weight(sample_weight, X)
        if weight is not None:
            kept = weight > 0
            groups = None if groups is None else np.asarray(groups)[kept]
            X, values, weight = X[kept], values[kept], weight[kept]
        self.target_mean_ = weighted_mean(values, weight)
        spread = np.sqrt(weighted_mean(np.square(values - self.target_mean_), weight))
        self.target_scale_ = np.where(spread > 0, spread, 1.0)
        held = None
        if val is not None:
            others = regression_targets(val[1]).reshape(len(val[0]), -1)
            held = (validate_data(self, val[0], reset=False, dtype=np.float64), self._standard(others))
        self._learn(X, self._standard(values), groups, held, weight)
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Measurements, in the shape that they were fitted in."""
        check_is_fitted(self)
        standard = self._predicted(validate_data(self, X, reset=False, dtype=np.float64))
        values = standard * self.target_scale_ + self.target_mean_
        return np.asarray(values[:, 0] if self.one_target_ else values)

    @abstractmethod
    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was learnt, as named arrays and JSON values."""

    @abstractmethod
    def restore(self, arrays: dict[str, np.ndarray], values: dict[str, Any]) -> None:
        """The inverse of :meth:`state`."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _standard(self, values: np.ndarray) -> np.ndarray:
        return np.asarray((values - self.target_mean_) / self.target_scale_)

    @abstractmethod
    def _learn(
        self, X: np.ndarray, y: np.ndarray, groups: Any, val: Any, weight: np.ndarray | None
    ) -> None: ...

    @abstractmethod
    def _predicted(self, X: np.ndarray) -> np.ndarray: ...


def counted_weight(sample_weight: Any, X: np.ndarray) -> np.ndarray | None:
    """How many examples each stands for, ``float64 (N,)``, or None where all count the same.

    Raises:
        ValueError: of another length, negative, NaN, or zero throughout.
    """
    if sample_weight is None:
        return None
    weight = np.asarray(_check_sample_weight(sample_weight, X, dtype=np.float64, ensure_non_negative=True))
    if not weight.any():
        raise ValueError("Every sample_weight is zero: no example is left to learn from.")
    return None if (weight == 1).all() else weight


def shrunk_scale(X: np.ndarray, prior: float = 16.0, weight: np.ndarray | None = None) -> np.ndarray:
    """Standard deviation of each feature, drawn to the typical one where there are few examples.

    From a handful of examples a feature's own spread is chance; dividing by it would give noise the loudest
    voice. The variance counts as if ``prior`` further examples had had the mean variance of all features.
    """
    variance = X.var(0) if weight is None else weighted_mean((X - weighted_mean(X, weight)) ** 2, weight)
    count = len(X) if weight is None else weight.sum()
    pooled = (count * variance + prior * variance.mean()) / (count + prior)
    return np.sqrt(np.where(pooled > 0, pooled, 1.0))


def _of_rows(targets: ClassTargets, kept: np.ndarray, weight: np.ndarray) -> ClassTargets:
    """Some of the examples; classes of which none is left go as well."""
    onehot, classes = targets.onehot[kept], targets.classes
    if not targets.multi_label:
        left = onehot.any(0)
        onehot, classes = onehot[:, left], classes[left]
        if len(classes) < 2:
            raise ConfigError(f"There is only one class, {classes[0]!r}, among examples with a weight.")
    return ClassTargets(classes, onehot, targets.multi_label, weight)


def _same_length(examples: int, labels: int) -> None:
    if examples != labels:
        raise ValueError(f"Found {examples} examples and {labels} labels; give one label each.")
