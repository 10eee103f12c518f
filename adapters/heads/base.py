"""What all heads over plain embeddings have in common: scikit-learn's contract, and state as arrays."""

from __future__ import annotations

import math
import warnings
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin, RegressorMixin
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from retina_fm.adapters.examples.draws import check_groups
from retina_fm.adapters.examples.labels import (
    ClassTargets,
    class_targets,
    regression_targets,
    weighted_mean,
)
from retina_fm.errors import ConfigError
from retina_fm.network.defaults import undisturbed

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
    _figure: ClassVar[str]
    """The attribute with what the validation part said; None where there was none, or it says nothing."""

    @undisturbed
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
            y: for a classifier ``(N,)`` labels, ``(N, C)`` indicator, or a set of label names an example; for
                a regressor measurements ``(N,)`` or ``(N, T)``.
            groups: ``(N,)`` patients, kept together where a validation part is set aside.
            val: embeddings and labels to validate on instead. What a head chooses is chosen on them, and what
                they say of the fitted head is kept.
            sample_weight: ``(N,)``, how many examples each stands for; zero leaves it out.

        Raises:
            ConfigError: labels that cannot be learnt from; the message says which.
            ValueError: embeddings with NaN, infinity or of a wrong rank; weights of another length, negative,
                or zero throughout.
        """
        if y is None:
            validate_data(self, X, y)  # scikit-learn's own words for labels that are not there
        X = validate_data(self, X, dtype=np.float64)
        labels = self.checked(y)
        groups = check_groups(groups, len(labels))
        if len(X) != len(labels):
            raise ValueError(f"Found {len(X)} examples and {len(labels)} labels; give one label each.")
        weight = counted_weight(sample_weight, X)
        if weight is not None:
            kept = weight > 0
            X, groups, weight, labels = X[kept], groups[kept], weight[kept], self._left(labels, kept)
        held = None
        if val is not None:
            others = validate_data(self, val[0], reset=False, dtype=np.float64)
            held = (others, self.checked(val[1], labels))
        return self._learn_checked(X, labels, groups, held, weight)

    def learn(self, X: Any, labels: Any, groups: np.ndarray, val: Validation | None) -> Self:
        """:meth:`fit` with labels and groups that are :meth:`checked` already."""
        X = validate_data(self, X, dtype=np.float64)
        if val is not None:
            val = (validate_data(self, val[0], reset=False, dtype=np.float64), val[1])
        return self._learn_checked(X, labels, groups, val, None)

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
        said = [self._figure] if getattr(self, self._figure) is not None else []
        state = {
            "values": {name: getattr(self, name) for name in (*self._values, *said)},
            "n_features_in": int(self.n_features_in_),
            "head": self.get_params(),
        }
        return {name: getattr(self, name) for name in self._arrays}, state

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
        """The inverse of :meth:`state`, for a head with the same settings."""
        self.n_features_in_ = state["n_features_in"]
        values = {self._figure: None, **state["values"]}
        for what, found, wanted in (
            ("arrays", arrays, self._arrays),
            ("values", values, (*self._values, self._figure)),
        ):
            if set(found) != set(wanted):
                raise ConfigError(
                    f"A head of this kind has the {what} {', '.join(sorted(wanted))}, not "
                    f"{', '.join(sorted(map(str, found)))[:200]}. Save the adapter again."
                )
        self.__dict__.update(arrays, **values)

    def _embedded(self, X: Any) -> np.ndarray:
        """Embeddings to predict for, checked."""
        check_is_fitted(self)
        return np.asarray(validate_data(self, X, reset=False, dtype=np.float64))

    def _learn_checked(
        self,
        X: np.ndarray,
        labels: Any,
        groups: np.ndarray,
        val: Validation | None,
        weight: np.ndarray | None,
    ) -> Self:
        self._remember(labels, weight)
        held = None if val is None else (val[0], self._prepared(val[1]))
        self._learn(X, self._prepared(labels), groups, held, weight)
        self._judge(held)
        return self

    def _judge(self, held: Validation | None) -> None:
        """Keep what the validation part says of the fitted head."""
        score = math.nan if held is None else self._score(*held)
        if held is not None and math.isnan(score):
            warnings.warn("The validation part holds one class alone: it has no AUROC.", stacklevel=5)
        self._note(score)

    def _left(self, labels: Any, kept: np.ndarray) -> Any:
        """Checked labels of the examples that have a weight."""
        return labels[kept]

    @abstractmethod
    def _remember(self, labels: Any, weight: np.ndarray | None) -> None:
        """Keep of the checked labels what prediction needs."""

    @abstractmethod
    def _prepared(self, labels: Any) -> Any:
        """Checked labels as :meth:`_learn` takes them."""

    @abstractmethod
    def _learn(self, X: np.ndarray, y: Any, groups: np.ndarray, val: Any, weight: np.ndarray | None) -> None:
        """Fit; ``weight`` is how many examples each stands for, or None where all count the same."""

    @abstractmethod
    def _score(self, X: np.ndarray, y: Any) -> float:
        """Of a validation part: higher is better, NaN says nothing."""

    @abstractmethod
    def _note(self, score: float) -> None:
        """Keep the validation score, NaN where there is none."""


class ClassifierHead(ClassifierMixin, Head):  # type: ignore[misc]
    """A classifier of embeddings ``(N, D)``: binary, multi-class or multi-label.

    Attributes:
        classes_: labels of the columns of ``predict_proba``.
        multi_label_: whether any number of classes may apply to an example.
        validation_auroc_: of the validation part, mean over the classes; None without one.
        n_features_in_: D.
    """

    classes_: np.ndarray
    multi_label_: bool
    validation_auroc_: float | None
    _figure = "validation_auroc_"

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

    def _left(self, labels: ClassTargets, kept: np.ndarray) -> ClassTargets:
        """Classes of which no example is left go as well."""
        left = labels[kept]
        if labels.multi_label:
            return left
        there = left.onehot.any(0)
        if there.sum() < 2:
            only = labels.classes[there][0]
            raise ConfigError(f"There is only one class, {only!r}, among examples with a weight.")
        return ClassTargets(left.classes[there], left.onehot[:, there], multi_label=False)

    def _remember(self, labels: ClassTargets, weight: np.ndarray | None) -> None:  # noqa: ARG002
        self.classes_, self.multi_label_ = labels.classes, labels.multi_label

    def _prepared(self, labels: ClassTargets) -> ClassTargets:
        return labels

    def _score(self, X: np.ndarray, y: ClassTargets) -> float:
        return auroc(y, self._probabilities(X))

    def _note(self, score: float) -> None:
        self.validation_auroc_ = None if math.isnan(score) else score

    @abstractmethod
    def _probabilities(self, X: np.ndarray) -> np.ndarray: ...


class RegressorHead(RegressorMixin, Head):  # type: ignore[misc]
    """A regressor of embeddings ``(N, D)`` for one measurement or several.

    Attributes:
        n_features_in_: D.
        target_mean_: ``(T,)`` mean of the measurements learnt from.
        target_scale_: ``(T,)`` their standard deviation.
        validation_error_: mean squared standardised error of the validation part; None without one.
    """

    target_mean_: np.ndarray
    target_scale_: np.ndarray
    one_target_: bool
    validation_error_: float | None
    _figure = "validation_error_"

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

    def _remember(self, labels: np.ndarray, weight: np.ndarray | None) -> None:
        self.one_target_ = labels.ndim == 1
        values = labels.reshape(len(labels), -1)
        self.target_mean_ = weighted_mean(values, weight)
        spread = np.sqrt(weighted_mean(np.square(values - self.target_mean_), weight))
        self.target_scale_ = np.where(spread > 0, spread, 1.0)

    def _prepared(self, labels: np.ndarray) -> np.ndarray:
        """Standardised measurements ``(N, T)``."""
        return np.asarray((labels.reshape(len(labels), -1) - self.target_mean_) / self.target_scale_)

    def _score(self, X: np.ndarray, y: np.ndarray) -> float:
        return -float(np.square(self._predicted(X) - y).mean())

    def _note(self, score: float) -> None:
        self.validation_error_ = None if math.isnan(score) else -score

    @abstractmethod
    def _predicted(self, X: np.ndarray) -> np.ndarray: ...


def auroc(targets: ClassTargets, probabilities: np.ndarray) -> float:
    """Mean over the classes of the AUROC of each against the rest; classes absent here are left out."""
    from sklearn.metrics import roc_auc_score

    columns = range(len(targets.classes))
    if not targets.multi_label and len(targets.classes) == 2:
        columns = range(1, 2)
    values = [
        roc_auc_score(targets.onehot[:, c] > 0.5, probabilities[:, c])
        for c in columns
        if 0 < targets.onehot[:, c].sum() < len(targets.onehot)
    ]
    return float(np.mean(values)) if values else float("nan")


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
