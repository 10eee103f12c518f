"""Labels as users have them, checked and turned into arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils.validation import column_or_1d

from retina_fm.errors import ConfigError


@dataclass(frozen=True)
class ClassTargets:
    """Checked labels of a classification; ``targets[positions]`` are those of some examples.

    Attributes:
        classes: the label of each column, sorted; for multi-label the columns' names or numbers.
        onehot: ``float32 (N, C)``, 1 where the class applies.
        multi_label: whether any number of classes may apply at once.
    """

    classes: np.ndarray
    onehot: np.ndarray
    multi_label: bool

    def __len__(self) -> int:
        return len(self.onehot)

    def __getitem__(self, positions: Any) -> ClassTargets:
        return ClassTargets(self.classes, self.onehot[positions], self.multi_label)

    @property
    def index(self) -> np.ndarray:
        """Position of each example's class, for labels of one class each."""
        return np.asarray(self.onehot.argmax(1))

    @property
    def strata(self) -> np.ndarray | None:
        """The class that both parts of a split should hold; None for multi-label."""
        return None if self.multi_label else self.index

    @property
    def sets(self) -> list[tuple[str, np.ndarray]]:
        """Names and positions of the examples of each class; for multi-label, then of those without it."""
        named = [(f"class {name}", self.onehot[:, c] > 0.5) for c, name in enumerate(self.classes)]
        if self.multi_label:
            named += [(f"class not {name}", self.onehot[:, c] <= 0.5) for c, name in enumerate(self.classes)]
        return [(name, np.flatnonzero(has)) for name, has in named]


def class_targets(y: Any, classes: Any = None) -> ClassTargets:
    """Labels to one column a class.

    Args:
        y: ``(N,)`` labels of any kind that sorts, or an indicator ``(N, C)`` of 0 and 1, or one set, list or
            tuple of label names an example (multi-label).
        classes: the classes that a fitted model knows; labels outside them are refused.

    Raises:
        ConfigError: a label is missing (NaN, None), unknown, continuous, or there is one class alone.
    """
    if is_label_sets(y):
        return _from_sets(y, classes)
    array = np.asarray(y)
    if array.ndim == 2 and array.shape[1] == 1:
        array = column_or_1d(array, warn=True)
    if array.ndim == 2:
        return _from_indicator(array, classes)
    if array.ndim != 1:
        raise ConfigError(f"Labels have shape {array.shape}; pass (N,) or, for several labels, (N, C).")
    refuse_missing(array)
    if array.dtype.kind == "f" and not (array == np.round(array)).all():
        raise ConfigError(
            "Unknown label type: continuous. The labels are fractions such as "
            f"{array[array != np.round(array)][0]!r}; classes are whole numbers or names. "
            "For measurements use task='regression'."
        )
    known = np.unique(array) if classes is None else np.asarray(classes)
    if classes is not None:
        unknown = sorted({str(value) for value in array if value not in set(known.tolist())})
        if unknown:
            raise ConfigError(
                f"Labels {', '.join(unknown[:5])} are none of the classes fitted "
                f"({', '.join(map(str, known))}). Fit again with examples of them, or leave them out."
            )
    elif len(known) < 2:
        raise ConfigError(
            f"There is only one class: all {len(array)} labels are {known[0]!r}. Add examples of "
            "another class."
        )
    onehot = (array[:, None] == known[None, :]).astype(np.float32)
    return ClassTargets(known, onehot, multi_label=False)


def regression_targets(y: Any) -> np.ndarray:
    """Measurements ``float64 (N,)`` or ``(N, T)``; one column is taken as ``(N,)``, with a warning.

    Raises:
        ConfigError: a value is missing or no number.
    """
    try:
        array = np.asarray(y, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"Regression needs numbers: {error}.") from None
    if array.ndim not in (1, 2):
        raise ConfigError(f"Measurements have shape {array.shape}; pass (N,) or (N, T).")
    refuse_missing(array)
    if not np.isfinite(array).all():
        raise ConfigError("The measurements hold infinity; leave those examples out.")
    return np.asarray(column_or_1d(array, warn=True)) if array.ndim == 2 and array.shape[1] == 1 else array


def refuse_missing(array: np.ndarray) -> None:
    """Refuse NaN and None, naming the first of them.

    Raises:
        ConfigError: a label is missing.
    """
    if array.dtype.kind == "f":
        missing = np.isnan(array)
    elif array.dtype.kind == "O":
        missing = np.array([_is_missing(value) for value in array.ravel()])
        missing = missing.reshape(array.shape)
    else:
        return
    if missing.any():
        first = int(np.argwhere(missing)[0][0])
        raise ConfigError(
            f"{int(missing.sum())} labels are missing (Input y contains NaN), the first at position {first}. "
            "Leave those photos out."
        )


def _is_missing(value: Any) -> bool:
    # pandas' NA is neither equal nor unequal to itself; it is known by name, so that pandas is not needed
    return value is None or type(value).__name__ == "NAType" or bool(value != value)


def is_label_sets(y: Any) -> bool:
    """Whether every example has a collection of label names of its own."""
    if isinstance(y, np.ndarray) and y.dtype != object:
        return False
    values: Sequence[Any] = list(y) if hasattr(y, "__iter__") else []
    if not values or not all(isinstance(value, list | tuple | set | frozenset) for value in values):
        return False
    return all(isinstance(name, str) for value in values for name in value)


def _from_sets(y: Any, classes: Any) -> ClassTargets:
    sets = [set(value) for value in y]
    known = sorted(set().union(*sets)) if classes is None else list(classes)
    unknown = sorted(set().union(*sets) - set(known))
    if unknown:
        raise ConfigError(f"Labels {', '.join(unknown[:5])} are none of the classes fitted ({known}).")
    return _from_indicator(np.array([[name in one for name in known] for one in sets], int), known)


def _from_indicator(array: np.ndarray, classes: Any) -> ClassTargets:
    refuse_missing(array)
    if not np.isin(array, (0, 1)).all():
        raise ConfigError(
            f"Labels of shape {array.shape} must be an indicator of 0 and 1, a column a class; "
            f"this one holds {np.unique(array)[:5]}."
        )
    known = np.arange(array.shape[1]) if classes is None else np.asarray(classes)
    if len(known) != array.shape[1]:
        raise ConfigError(f"The labels have {array.shape[1]} columns, the fitted classes are {len(known)}.")
    single = [str(known[c]) for c in range(array.shape[1]) if len(np.unique(array[:, c])) < 2]
    if classes is None and single:
        raise ConfigError(
            f"Labels {', '.join(single[:5])} are the same for every example; each needs both 0 and 1."
        )
    return ClassTargets(known, array.astype(np.float32), multi_label=True)


def class_weights(targets: ClassTargets, class_weight: Any, times: np.ndarray | None = None) -> np.ndarray:
    """Weight of each example and class, ``float32 (N, C)``; mean 1 over the examples' own entries.

    For one class each, a row holds the weight of that example's class; for multi-label every entry is
    weighted by how rare its value is in its column.

    Args:
        targets: checked labels.
        class_weight: None, ``"balanced"`` or, for one class each, a dict.
        times: ``(N,)``, how many examples each stands for and counts as; None where each stands for one.

    Raises:
        ConfigError: a weight names a class that is not there.
    """
    onehot = targets.onehot
    counted = np.ones_like(onehot) if times is None else np.repeat(times[:, None], onehot.shape[1], axis=1)
    if class_weight is None:
        return counted.astype(np.float32)
    if targets.multi_label:
        if class_weight != "balanced":
            raise ConfigError("For multi-label problems class_weight is None or 'balanced'.")
        share = weighted_mean(onehot, times).clip(1e-6, 1 - 1e-6)
        return np.asarray(counted * np.where(onehot > 0.5, 0.5 / share, 0.5 / (1 - share)), np.float32)
    if class_weight == "balanced":
        weights = 1 / weighted_mean(onehot, times)
    elif isinstance(class_weight, dict):
        unknown = [key for key in class_weight if key not in set(targets.classes.tolist())]
        if unknown:
            raise ConfigError(f"class_weight names {unknown[0]!r}; the classes are {targets.classes}.")
        weights = np.array([float(class_weight.get(key, 1.0)) for key in targets.classes.tolist()])
    else:
        raise ConfigError(f"class_weight is {class_weight!r}; use None, 'balanced' or a dict.")
    rows = (onehot * weights).sum(1, keepdims=True)
    rows = rows / weighted_mean(rows, times)
    return np.asarray(counted * np.repeat(rows, onehot.shape[1], axis=1), np.float32)


def weighted_mean(values: np.ndarray, weight: np.ndarray | None) -> np.ndarray:
    """Mean over the examples ``(N, ...)``, each counted as often as its weight says."""
    return np.asarray(values.mean(0) if weight is None else np.average(values, axis=0, weights=weight))
