"""``explain``: a fitted estimator and a photo to a heat map."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Literal

import numpy as np
from torch import Tensor

from retina_fm._io.progress import progress_bar
from retina_fm.errors import ConfigError
from retina_fm.explaining.evidence import evidence_in, refuse_unexplained, target_of
from retina_fm.explaining.heat_map import LEAST_LOG_ODDS, HeatMap
from retina_fm.explaining.methods import gradients, occlusion, views_of
from retina_fm.pictures import read_picture

WINDOWS = {"occlusion": 8, "gradients": 16}
"""Windows along a view's side, by method, unless another number is asked for."""
_METHODS: dict[str, Callable[..., Any]] = {"occlusion": occlusion, "gradients": gradients}
_BATCH = 8


def explain(
    estimator: Any,
    photo: Any,
    method: Literal["occlusion", "gradients"] = "occlusion",
    *,
    target: Any = None,
    windows: int | None = None,
    batch_size: int | None = None,
    progress: bool | None = None,
) -> HeatMap:
    """Where in a photo the evidence for an estimator's prediction lies.

    ``occlusion`` hides one window after the other behind the photo's own background and asks again: about 110
    passes of the network with 8 windows a side. ``gradients`` adds up gradients on the way from background to
    photo: 16 passes forth and back, finer, and noisier. Of several fused encoders each is explained by
    itself, and what they find is added up. Needs the extra ``explain`` (captum).

    Args:
        estimator: a fitted ``FundusClassifier`` or ``FundusRegressor``.
        photo: any form that :func:`retina_fm.pictures.read_picture` takes.
        method: ``occlusion`` or ``gradients``.
        target: the class to explain, the predicted one without it; of several measurements, the number of
            one.
        windows: along a side of the view; 8 for occlusion, 16 for gradients.
        batch_size: views a pass of the network, 8 without it.
        progress: a bar of the views; None shows it on a terminal.

    Returns:
        The map in the photo's own pixels. Log-odds are explained, not probabilities: a sure classifier's
        probability hardly moves whatever is hidden.

    Raises:
        ConfigError: the estimator is no classifier or regressor, is not fitted, or has no such target; the
            method or a number makes no sense.
        MissingDependencyError: captum is not installed.
        PictureError: the photo cannot be read.

    Example:
        >>> heat = explain(grading, "photo.jpg")  # doctest: +SKIP
        >>> heat.save("photo-heat.png")  # doctest: +SKIP
    """
    if method not in _METHODS:
        raise ConfigError(f"method is {method!r}; use 'occlusion' or 'gradients'.")
    count = WINDOWS[method] if windows is None else windows
    if not isinstance(count, int) or not 2 <= count <= 64:
        raise ConfigError(f"windows is {windows!r}; a whole number from 2 to 64 is needed.")
    refuse_unexplained(estimator, gradients=method == "gradients")
    picture = read_picture(photo)
    embedding = estimator.embed([picture])
    column, name, predicted = target_of(estimator, embedding, target)
    heat = np.zeros(picture.shape[:2], np.float32)
    evidences = list(evidence_in(estimator, picture, embedding, column, exact=method == "gradients"))
    insides = [evidence.geometry.mask_in_view() for evidence in evidences]
    total = sum(views_of(method, inside, count) for inside in insides)
    with progress_bar(progress, total, "heat map", unit="view", few=0) as bar:
        for evidence, inside in zip(evidences, insides, strict=True):
            counted = replace(evidence, of=_counted(evidence.of, bar))
            found = _METHODS[method](counted, inside, count, batch_size or _BATCH)
            heat += np.where(
                evidence.geometry.mask_in_picture(), evidence.geometry.picture_of(found, "bilinear"), 0
            )
    least = LEAST_LOG_ODDS if estimator.task == "classification" else 0.0
    return HeatMap(picture, heat, name, predicted, method, least)


def _counted(of: Callable[[Tensor], Tensor], bar: Any) -> Callable[[Tensor], Tensor]:
    """The same function, which tells the bar of each view."""

    def counting(views: Tensor) -> Tensor:
        found = of(views)
        bar.update(len(views))
        return found

    return counting
