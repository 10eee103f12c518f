"""The doors to classification, regression and segmentation: ``adapt`` makes one, ``load`` opens one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, TypeAlias, overload

import numpy as np

from retina_fm.adapters.photo_estimators import FundusClassifier, FundusRegressor
from retina_fm.adapters.saving import checked_manifest, read_arrays
from retina_fm.adapters.segmenter import FundusSegmenter
from retina_fm.errors import ConfigError, RetinaError, WeightsError, nearest
from retina_fm.models.contract import Model
from retina_fm.models.places import HUB_PREFIX, Remembered, fetch_from_hub
from retina_fm.network.defaults import undisturbed

Tune: TypeAlias = Literal["head", "last", "all"]
TASKS: dict[str, Any] = {kind.task: kind for kind in (FundusClassifier, FundusRegressor, FundusSegmenter)}


@overload
def adapt(
    task: Literal["classification"],
    shots: int | None = ...,
    *,
    model: Model = ...,
    tune: Tune = ...,
    seed: int = ...,
    device: str | None = ...,
    dtype: str = ...,
    progress: bool | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    head: str | None = ...,
    head_settings: dict[str, Any] | None = ...,
    class_weight: Literal["balanced"] | Mapping[Any, float] | None = ...,
) -> FundusClassifier: ...


@overload
def adapt(
    task: Literal["regression"],
    shots: int | None = ...,
    *,
    model: Model = ...,
    tune: Tune = ...,
    seed: int = ...,
    device: str | None = ...,
    dtype: str = ...,
    progress: bool | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    head: str | None = ...,
    head_settings: dict[str, Any] | None = ...,
) -> FundusRegressor: ...


@overload
def adapt(
    task: Literal["segmentation"],
    shots: int | None = ...,
    *,
    model: Model = ...,
    tune: Tune = ...,
    seed: int = ...,
    device: str | None = ...,
    dtype: str = ...,
    progress: bool | None = ...,
    target: str = ...,
    decoder: Literal["light", "full"] = ...,
    classes: Sequence[int] | None = ...,
    mask_threshold: float | None = ...,
    allow_unreliable: bool = ...,
    view_size: int | None = ...,
    steps: int | None = ...,
    max_seconds: float | None = ...,
    validation: float = ...,
    augment: bool = ...,
    test_flips: bool = ...,
    memory_gb: float = ...,
) -> FundusSegmenter: ...


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
        settings: of all tasks ``device``, ``dtype`` and ``progress``; of classification and regression
            ``head_settings``, ``{"epochs": 100}`` for example; of segmentation ``target`` (with ``shots=0``),
            ``decoder``, ``classes``, ``mask_threshold``, ``view_size``, ``steps``, ``max_seconds``,
            ``validation``, ``augment``, ``test_flips``, ``memory_gb``. The estimators' own pages say what
            each is.

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
            f"shots=0 is for segmentation; a {task} needs examples. retina_fm.measure(photos) gives numbers "
            "without any."
        )
    given = {"fuse_with": fuse_with, "head": head, "class_weight": class_weight}
    settings.update({key: value for key, value in given.items() if value is not None})
    shots = None if shots is None else int(shots)
    return _unfitted(task, {"model": model, "shots": shots, "tune": tune, "seed": seed, **settings})


@overload
def load(
    folder: str | Path,
    *,
    task: Literal["classification"],
    model: Model | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    revision: str | None = ...,
    device: str | None = ...,
    dtype: str | None = ...,
) -> FundusClassifier: ...


@overload
def load(
    folder: str | Path,
    *,
    task: Literal["regression"],
    model: Model | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    revision: str | None = ...,
    device: str | None = ...,
    dtype: str | None = ...,
) -> FundusRegressor: ...


@overload
def load(
    folder: str | Path,
    *,
    task: Literal["segmentation"],
    model: Model | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    revision: str | None = ...,
    device: str | None = ...,
    dtype: str | None = ...,
) -> FundusSegmenter: ...


@overload
def load(
    folder: str | Path,
    *,
    task: None = ...,
    model: Model | None = ...,
    fuse_with: Model | Sequence[Model] | None = ...,
    revision: str | None = ...,
    device: str | None = ...,
    dtype: str | None = ...,
) -> FundusClassifier | FundusRegressor | FundusSegmenter: ...


@undisturbed
def load(
    folder: str | Path,
    *,
    task: str | None = None,
    model: Any = None,
    fuse_with: Any = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Any:
    """A fitted estimator from a folder or the hub; its encoder is loaded by name and checked.

    Args:
        folder: as :func:`save` wrote it, or ``hf-hub:OWNER/NAME``.
        task: what it must be for; an editor then knows its type.
        model: where the encoder is now, if not under the name that the adapter remembers.
        fuse_with: the same for fused encoders.
        revision: of a hub repository.
        device: the first GPU or the CPU without it.
        dtype: number type of the encoder; the one it was fitted with without it.

    Raises:
        ConfigError: the folder is no adapter, for another task than asked, or of another release.
        WeightsError: its file was changed, or the encoder has other weights.
        TransformMismatchError: the encoder has another transform.
        WeightsNotFoundError, UnknownModelError: the encoder is not to be had. Names of the hub that the
            adapter of a folder says are looked up in the hub's cache alone; ``model=`` fetches.
    """
    path = Path(folder)
    if str(folder).startswith(HUB_PREFIX):
        path = fetch_from_hub(str(folder), revision)
    manifest = checked_manifest(path)
    if task is not None and task != manifest.task:
        raise ConfigError(f"{folder} is an adapter for {manifest.task}, not {task}. Leave task= out.")
    arrays = read_arrays(path, manifest)
    moved = {"model": model, "fuse_with": fuse_with, "dtype": dtype}
    settings = {key: value for key, value in moved.items() if value is not None}
    said = dict(manifest.settings)
    if not str(folder).startswith(HUB_PREFIX):  # who named the hub may be sent on to it, a folder may not
        said |= {key: _remembered(said[key]) for key in ("model", "fuse_with") if key in said}
    estimator = _unfitted(manifest.task, {**said, **settings, "device": device})
    estimator.encoders_ = manifest.encoders
    estimator.drawn_names_ = manifest.drawn_names
    estimator.check_encoders()
    try:
        estimator.drawn_ = np.array(manifest.drawn, np.int64)
        estimator.restore(arrays, manifest.state)
    except RetinaError:
        raise
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise WeightsError(
            f"The adapter {folder} does not fit together ({type(error).__name__}: {error}). Save or fetch it "
            "again."
        ) from None
    if arrays:
        raise WeightsError(
            f"The adapter {folder} holds arrays that it has no use for: {', '.join(sorted(arrays)[:3])}. "
            "Save or fetch it again."
        )
    return estimator


def _remembered(models: Any) -> Any:
    if isinstance(models, str):
        return Remembered(models)
    return [_remembered(model) for model in models] if isinstance(models, list | tuple) else models


def _unfitted(task: str, settings: dict[str, Any]) -> Any:
    known = TASKS[task]().get_params()
    for key in settings:
        if key not in known:
            raise ConfigError(_no_setting(task, key, known))
    return TASKS[task](**settings)


def _no_setting(task: str, key: str, known: Any) -> str:
    others = [name for name, kind in TASKS.items() if key in kind().get_params()]
    if not others:
        return f"{task} has no setting {key!r}. {nearest(key, known)}"
    head = (
        " Its head is set by head_settings, {'epochs': 100} for example."
        if "head_settings" in known and key in ("steps", "max_seconds", "validation")
        else ""
    )
    return (
        f"{key!r} is a setting of {' and '.join(others)}; {task} has none of that name.{head} Leave it out."
    )
