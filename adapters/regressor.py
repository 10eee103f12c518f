"""A regressor of photos: encoder, optional fusion, head."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import RegressorMixin

from retina_fm.adapters.examples.few_shot import Draw, draw_pictures
from retina_fm.adapters.examples.labels import regression_targets
from retina_fm.adapters.heads.by_name import REGRESSORS
from retina_fm.adapters.photo_estimator import PhotoEstimator


class FundusRegressor(RegressorMixin, PhotoEstimator):  # type: ignore[misc]
    """Photos to measurements (age, blood pressure, a ratio), one or several, in scikit-learn's style.

    Args:
        model: encoder, by a name that ``retina_fm.load`` takes, or a loaded one.
        fuse_with: another encoder, or several, fused by soft attention (with ``head="mlp"``).
        head: ``mlp``, ``linear`` or ``neighbours``.
        tune: ``head`` keeps the encoder frozen, ``last`` trains its last blocks too, ``all`` all of it.
        shots: photos that ``fit`` draws; None takes all.
        seed: of everything random.
        head_settings: further settings of the head.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.
        progress: a bar; None shows it on a terminal.

    Attributes:
        head_, encoders_, drawn_, drawn_names_, attention_, module_: see the base class.
    """

    _heads = REGRESSORS

    def __init__(
        self,
        model: Any = "fundus2video",
        *,
        fuse_with: Any = None,
        head: str = "mlp",
        tune: str = "head",
        shots: int | None = None,
        seed: int = 0,
        head_settings: dict[str, Any] | None = None,
        device: str | None = None,
        dtype: str = "auto",
        progress: bool | None = None,
    ) -> None:
        self.model = model
        self.fuse_with = fuse_with
        self.head = head
        self.tune = tune
        self.shots = shots
        self.seed = seed
        self.head_settings = head_settings
        self.device = device
        self.dtype = dtype
        self.progress = progress

    def _check_labels(self, y: Any) -> None:
        regression_targets(y)

    def _strata(self, y: Any) -> np.ndarray | None:  # noqa: ARG002
        return None

    def _draw(self, y: Any, patients: np.ndarray | None) -> Draw:
        assert self.shots is not None
        return draw_pictures(len(y), self.shots, seed=self.seed, groups=patients)
