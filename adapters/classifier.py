"""A classifier of photos: encoder, optional fusion, head."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn.base import ClassifierMixin

from retina_fm.adapters.examples.few_shot import Draw, draw_examples
from retina_fm.adapters.examples.labels import class_targets, is_label_sets
from retina_fm.adapters.heads.by_name import CLASSIFIERS
from retina_fm.adapters.photo_estimator import PhotoEstimator


class FundusClassifier(ClassifierMixin, PhotoEstimator):  # type: ignore[misc]
    """Photos to classes, binary, multi-class or multi-label, in scikit-learn's style.

    Args:
        model: encoder, by a name that ``retina_fm.load`` takes, or a loaded one.
        fuse_with: another encoder, or several, fused by soft attention (with ``head="mlp"``).
        head: ``mlp``, ``linear``, ``neighbours`` or ``nearest-mean``.
        tune: ``head`` keeps the encoder frozen, ``last`` trains its last blocks too, ``all`` all of it.
        shots: examples a class that ``fit`` draws; None takes all.
        class_weight: None, ``"balanced"`` or a dict.
        seed: of everything random.
        head_settings: further settings of the head, ``{"epochs": 100}`` for example.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.
        progress: a bar; None shows it on a terminal.

    Attributes:
        classes_: labels of the columns of ``predict_proba``.
        head_, encoders_, drawn_, drawn_names_, attention_, module_: see the base class.
    """

    _heads = CLASSIFIERS

    def __init__(
        self,
        model: Any = "fundus2video",
        *,
        fuse_with: Any = None,
        head: str = "mlp",
        tune: str = "head",
        shots: int | None = None,
        class_weight: Any = None,
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
        self.class_weight = class_weight
        self.seed = seed
        self.head_settings = head_settings
        self.device = device
        self.dtype = dtype
        self.progress = progress

    @property
    def classes_(self) -> np.ndarray:
        """Labels of the columns of ``predict_proba``."""
        if not hasattr(self, "head_"):
            raise AttributeError("classes_ are known once fit was called")
        return np.asarray(self.head_.classes_)

    def predict_proba(self, photos: Any) -> np.ndarray:
        """Probabilities ``(N, C)``, calibrated where a validation part allowed it."""
        embeddings = self.embed(photos)  # first: it says so where nothing was fitted
        return np.asarray(self.head_.predict_proba(embeddings))

    def score(self, photos: Any, y: Any, sample_weight: Any = None) -> float:
        """Share of photos whose label, or whole set of labels, is right."""
        if is_label_sets(y):
            y = class_targets(y, self.classes_).onehot.astype(np.int64)
        return float(super().score(photos, y, sample_weight))

    def _check_labels(self, y: Any) -> None:
        class_targets(y)

    def _strata(self, y: Any) -> np.ndarray | None:
        targets = class_targets(y)
        return None if targets.multi_label else targets.index

    def _draw(self, y: Any, patients: np.ndarray | None) -> Draw:
        assert self.shots is not None
        return draw_examples(y, self.shots, seed=self.seed, groups=patients)
