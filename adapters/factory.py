"""``adapt``: the one door to classification, regression and segmentation."""

from __future__ import annotations

from typing import Any

import numpy as np

from retina_fm.adapters.classifier import FundusClassifier
from retina_fm.adapters.regressor import FundusRegressor
from retina_fm.adapters.segmenter import FundusSegmenter
from retina_fm.errors import ConfigError, nearest

TASKS: dict[str, Any] = {
    "classification": FundusClassifier,
    "regression": FundusRegressor,
    "segmentation": FundusSegmenter,
}


def adapt(
    task: str,
    shots: int | None = None,
    *,
    model: Any = "fundus2video",
    fuse_with: Any = None,
    tune: str = "head",
    head: str | None = None,
    class_weight: Any = None,
    seed: int = 0,
    **settings: Any,
) -> Any:
    """An unfitted estimator in scikit-learn's style: ``adapt("segmentation", shots=1).fit(photos, masks)``.

    Args:
        task: ``classification``, ``regression`` or ``segmentation``.
        shots: examples a class (photos for the other tasks) that ``fit`` draws; None takes all; 0, for
            segmentation alone, reads the model itself.
        model: encoder, by a name that ``retina_fm.load`` takes, or a loaded one.
        fuse_with: another encoder, or several (classification and regression).
        tune: ``head``, ``last`` or ``all``: what is trained besides the head.
        head: ``mlp`` (without it), ``linear``, ``neighbours``, ``nearest-mean``.
        class_weight: None, ``"balanced"`` or a dict (classification).
        seed: of everything random.
        settings: further arguments of the estimator.

    Returns:
        A ``FundusClassifier``, ``FundusRegressor`` or ``FundusSegmenter``.

    Raises:
        ConfigError: an unknown task, or a setting that the task does not have.
    """
    if task not in TASKS:
        raise ConfigError(f"Unknown task {task!r}. {nearest(str(task), TASKS)}")
    whole = isinstance(shots, int | np.integer) and not isinstance(shots, bool)
    if shots is not None and (not whole or shots < 0):
        raise ConfigError(f"shots is {shots!r}; a whole number, or None for all examples.")
    if shots == 0 and task != "segmentation":
        raise ConfigError(
            f"shots=0 is for segmentation; a {task} without examples is read off "
            "retina_fm.adapters.lesion_readings(photos)."
        )
    given = {"fuse_with": fuse_with, "head": head, "class_weight": class_weight}
    settings.update({key: value for key, value in given.items() if value is not None})
    shots = None if shots is None else int(shots)
    estimator = TASKS[task](model=model, shots=shots, tune=tune, seed=seed)
    known = estimator.get_params()
    for key in settings:
        if key not in known:
            raise ConfigError(f"{task} has no setting {key!r}. {nearest(key, known)}")
    return estimator.set_params(**settings)
