"""Heads by name."""

from __future__ import annotations

from typing import Any

from retina_fm.adapters.heads.base import ClassifierHead, RegressorHead
from retina_fm.adapters.heads.linear import LinearClassifier, LinearRegressor
from retina_fm.adapters.heads.mlp import MLPClassifier, MLPRegressor
from retina_fm.adapters.heads.neighbours import (
    NearestMeanClassifier,
    NeighboursClassifier,
    NeighboursRegressor,
)
from retina_fm.errors import ConfigError, nearest

CLASSIFIERS: dict[str, type[ClassifierHead]] = {
    "mlp": MLPClassifier,
    "linear": LinearClassifier,
    "neighbours": NeighboursClassifier,
    "nearest-mean": NearestMeanClassifier,
}
REGRESSORS: dict[str, type[RegressorHead]] = {
    "mlp": MLPRegressor,
    "linear": LinearRegressor,
    "neighbours": NeighboursRegressor,
}
_ALSO = {"knn": "neighbours", "k-nearest": "neighbours", "neighbors": "neighbours", "logistic": "linear"}


def make_head(
    name: str, kinds: dict[str, Any], common: dict[str, Any], own: dict[str, Any] | None = None
) -> Any:
    """An unfitted head of ``CLASSIFIERS`` or ``REGRESSORS``.

    Args:
        name: of the head.
        kinds: the heads to choose from.
        common: settings of which a head takes those that it knows.
        own: settings meant for this head, which must know them.

    Raises:
        ConfigError: there is no head of that name, or it does not know a setting.
    """
    name = _ALSO.get(name, name)
    if name not in kinds:
        raise ConfigError(f"Unknown head {name!r}. {nearest(name, kinds)}")
    known = kinds[name]().get_params()
    for key in own or {}:
        if key not in known:
            raise ConfigError(f"head {name!r} has no setting {key!r}. {nearest(key, known)}")
    given = {key: value for key, value in common.items() if key in known}
    return kinds[name](**{**given, **(own or {})})
