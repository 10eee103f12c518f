"""What all heads over plain embeddings have in common: scikit-learn's contract, and state as arrays."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted, validate_data

from retina_fm.adapters.examples.draws import check_groups
from retina_fm.adapters.examples.labels import ClassTargets, class_targets, regression_targets

if TYPE_CHECKING:
    from typing_extensions import Self

Validation = tuple[np.ndarray, Any]
"""Embeddings and labels of a validation part."""


class Head(BaseEstimator, ABC):  # type: ignore[misc]
    """A head over embeddings ``(N, D)``.

    Attributes:
        n_features_in_: D.
    """

    n_features_in_: int
    _arrays: ClassVar[tuple[str, ...]] = ()
    """Attributes that fitting leaves as arrays."""
    _values: ClassVar[tuple[str, ...]] = ()
    """Attributes that fitting leaves as JSON values."""

    def fit(self, X: Any, y: Any, groups: Any = None, val: Validation | None = None) -> Self:
        """Learn from embeddings.

        Args:
            X: ``(N, D)``.
            y: for a classifier ``(N,)`` labels, ``(N, C)`` indicator, or a set of label names an example; for
                a regressor measurements ``(N,)`` or ``(N, T)``.
            groups: ``(N,)`` patients, kept together where a validation part is set aside.
            val: embeddings and labels to validate on instead.

        Raises:
            ConfigError: labels that cannot be learnt from; the message says which.
            ValueError: embeddings with NaN, infinity or of a wrong rank.
        """
        # scikit-learn's own words for labels or embeddings that are not there, before labels are looked at
        validate_data(self, X, **({"y": y} if y is None else {"dtype": np.float64}))
        labels = self.checked(y)
        held = None if val is None else (val[0], self.checked(val[1], labels))
        return self.learn(X, labels, check_groups(groups, len(labels)), held)

    def learn(self, X: Any, labels: Any, groups: np.ndarray, val: Validation | None) -> Self:
        """:meth:`fit` with labels and groups that are :meth:`checked` already."""
        X = validate_data(self, X, dtype=np.float64)
        if len(X) != len(labels):
            raise ValueError(f"Found {len(X)} examples and {len(labels)} labels; give one label each.")
        self._remember(labels)
        held = None
        if val is not None:
            held = (validate_data(self, val[0], reset=False, dtype=np.float64), self._prepared(val[1]))
        self._learn(X, self._prepared(labels), groups, held)
        return self

    @staticmethod
    @abstractmethod
    def checked(y: Any, known: Any = None) -> Any:
        """Labels as heads of this kind learn from them.

        Args:
            y: as :meth:`fit` takes them.
            known: checked labels of the training part, for those of a validation part.

        Raises:
            ConfigError: labels that cannot be learnt from.
        """

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was learnt, as named arrays, and as JSON values with the settings."""
        state = {
            "values": {name: getattr(self, name) for name in self._values},
            "n_features_in": int(self.n_features_in_),
            "head": self.get_params(),
        }
        return {name: getattr(self, name) for name in self._arrays}, state

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`, for a head with the same settings."""
        self.n_features_in_ = state["n_features_in"]
        self.__dict__.update(arrays, **state["values"])

    def _embedded(self, X: Any) -> np.ndarray:
        """Embeddings to predict for, checked."""
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, reset=False, dtype=np.float64))

    @abstractmethod
    def _remember(self, labels: Any) -> None:
        """Keep of the checked labels what prediction needs."""

    @abstractmethod
    def _prepared(self, labels: Any) -> Any:
        """Checked labels as :meth:`_learn` takes them."""

    @abstractmethod
    def _learn(self, X: np.ndarray, y: Any, groups: np.ndarray, val: Any) -> None: ...


class ClassifierHead(ClassifierMixin, Head):  # type: ignore[misc]
    """A classifier of embeddings ``(N, D)``: binary, multi-class or multi-label.

    Attributes:
        classes_: labels of the columns of ``predict_proba``.
        multi_label_: whether any number of classes may apply to an example.
        n_features_in_: D.
    """

    classes_: np.ndarray
    multi_label_: bool

    def predict_proba(self, X: Any) -> np.ndarray:
        """Probabilities ``(N, C)``; rows sum to 1 unless several labels may apply."""
        return self._probabilities(self._embedded(X))

    def predict(self, X: Any) -> np.ndarray:
        """The likeliest class ``(N,)``, or for multi-label the indicator ``(N, C)`` of p >= 0.5."""
        probabilities = self.predict_proba(X)
        if self.multi_label_:
            return (probabilities >= 0.5).astype(np.int64)
        return np.asarray(self.classes_[probabilities.argmax(1)])

    @staticmethod
    def checked(y: Any, known: ClassTargets | None = None) -> ClassTargets:
        """See :func:`~retina_fm.adapters.examples.labels.class_targets`."""
        return class_targets(y, None if known is None else known.classes)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        arrays, state = super().state()
        # class weights have done their work, and their keys need not be JSON
        head = {key: None if key == "class_weight" else value for key, value in state["head"].items()}
        learnt = {"classes": self.classes_.tolist(), "multi_label": self.multi_label_}
        return arrays, {**state, "head": head, **learnt}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: D102
        self.classes_, self.multi_label_ = np.array(state["classes"]), state["multi_label"]
        super().restore(arrays, state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.classifier_tags.multi_label = True
        return tags

    def _remember(self, labels: ClassTargets) -> None:
        self.classes_, self.multi_label_ = labels.classes, labels.multi_label

    def _prepared(self, labels: ClassTargets) -> ClassTargets:
        return labels

    @abstractmethod
    def _probabilities(self, X: np.ndarray) -> np.ndarray: ...


class RegressorHead(RegressorMixin, Head):  # type: ignore[misc]
    """A regressor of embeddings ``(N, D)`` for one measurement or several.

    Attributes:
        n_features_in_: D.
        target_mean_: ``(T,)`` mean of the measurements learnt from.
        target_scale_: ``(T,)`` their standard deviation.
    """

    target_mean_: np.ndarray
    target_scale_: np.ndarray
    one_target_: bool

    def predict(self, X: Any) -> np.ndarray:
        """Measurements, in the shape that they were fitted in."""
        values = self._predicted(self._embedded(X)) * self.target_scale_ + self.target_mean_
        return np.asarray(values[:, 0] if self.one_target_ else values)

    @staticmethod
    def checked(y: Any, known: np.ndarray | None = None) -> np.ndarray:  # noqa: ARG004
        """See :func:`~retina_fm.adapters.examples.labels.regression_targets`."""
        return regression_targets(y)

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        arrays, state = super().state()
        scales = {"target_mean_": self.target_mean_, "target_scale_": self.target_scale_}
        return {**arrays, **scales}, {**state, "one_target": self.one_target_}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: D102
        self.target_mean_, self.target_scale_ = arrays.pop("target_mean_"), arrays.pop("target_scale_")
        self.one_target_ = state["one_target"]
        super().restore(arrays, state)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    def _remember(self, labels: np.ndarray) -> None:
        self.one_target_ = labels.ndim == 1
        values = labels.reshape(len(labels), -1)
        spread = values.std(0)
        self.target_mean_ = values.mean(0)
        self.target_scale_ = np.where(spread > 0, spread, 1.0)

    def _prepared(self, labels: np.ndarray) -> np.ndarray:
        """Standardised measurements ``(N, T)``."""
        return np.asarray((labels.reshape(len(labels), -1) - self.target_mean_) / self.target_scale_)

    @abstractmethod
    def _predicted(self, X: np.ndarray) -> np.ndarray: ...


def shrunk_scale(X: np.ndarray, prior: float = 16.0) -> np.ndarray:
    """Standard deviation of each feature, drawn to the typical one where there are few examples.

    From a handful of examples a feature's own spread is chance; dividing by it would give noise the loudest
    voice. The variance counts as if ``prior`` further examples had had the mean variance of all features.
    """
    variance = X.var(0)
    pooled = (len(X) * variance + prior * variance.mean()) / (len(X) + prior)
    return np.sqrt(np.where(pooled > 0, pooled, 1.0))
