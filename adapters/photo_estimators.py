"""Photos to classes or measurements: encoder, optional fusion, a head over embeddings."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.base import ClassifierMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from retina_fm.adapters.estimator import Estimator, part_of, rows_of
from retina_fm.adapters.examples.draws import check_groups, validation_split
from retina_fm.adapters.examples.labels import ClassTargets, class_targets, is_label_sets
from retina_fm.adapters.extraction import embeddings_of, encoder_of, identity_of, models_of, photo_list
from retina_fm.adapters.heads.base import ClassifierHead, Head, RegressorHead
from retina_fm.adapters.heads.by_name import CLASSIFIERS, REGRESSORS, make_head
from retina_fm.adapters.tuning import finetune, tunable_copy
from retina_fm.errors import ConfigError, WeightsError

Held = tuple[list[Any], Any]
"""Photos and checked labels of a validation part."""


class EmbeddingEstimator(Estimator):
    """Base of :class:`FundusClassifier` and :class:`FundusRegressor`.

    Attributes:
        head_: the fitted head over embeddings.
    """

    head_: Any
    _kind: ClassVar[type[Head]]
    _heads: ClassVar[dict[str, Any]]

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

    def predict(self, photos: Any) -> np.ndarray:
        """Labels or measurements of photos, ``(N,)`` or ``(N, C)``."""
        embeddings = self.embed(photos)  # first: it says so where nothing was fitted
        return np.asarray(self.head_.predict(embeddings))

    def embed(self, photos: Any) -> np.ndarray:
        """What the head sees: embeddings of all encoders side by side, ``float64 (N, D1 + D2 + ...)``."""
        check_is_fitted(self, "head_")
        return self._embeddings(photo_list(photos))

    def attention(self, photos: Any) -> np.ndarray:
        """Weight of each encoder for each photo, ``(N, encoders)``; rows sum to 1.

        Raises:
            ConfigError: the head has no attention.
        """
        check_is_fitted(self, "head_")
        if not hasattr(self.head_, "attention"):
            raise ConfigError(f"head={self.head!r} has no attention over encoders; use head='mlp'.")
        return np.asarray(self.head_.attention(self.embed(photos)))

    @property
    def attention_(self) -> np.ndarray:
        """Weight of each encoder for the photos trained on, ``(N, encoders)``."""
        check_is_fitted(self, "head_")
        return np.asarray(self.head_.attention_)

    @property
    def module_(self) -> Any:
        """The head's ``torch.nn.Module``, for a training loop of one's own."""
        check_is_fitted(self, "head_")
        return self.head_.module_

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:  # noqa: D102
        arrays, state = self.head_.state()
        return {f"head.{key}": np.asarray(value) for key, value in arrays.items()} | super().state()[0], state

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: D102
        super().restore(arrays, state)
        features = sum(encoder_of(model, self._compute()).num_features for model in self.models())
        if state["n_features_in"] != features:
            raise WeightsError(
                f"The adapter's head takes {state['n_features_in']!r:.40} features, its encoders give "
                f"{features}. Save or fetch the adapter again."
            )
        head = make_head(self.head, self._heads, {}, state["head"])
        head.restore(part_of(arrays, "head."), state)
        head.predict(np.zeros((1, features)))  # arrays that do not fit each other show now
        self.head_ = head

    def models(self) -> list[Any]:  # noqa: D102
        return models_of(self.model, self.fuse_with)

    def loaded_encoders(self) -> list[Any]:
        """The encoders that :meth:`embed` uses, in its order; the leading one as it was tuned."""
        encoders = [encoder_of(model, self._compute()) for model in self.models()]
        if hasattr(self, "tuned_"):
            encoders[0] = self.tuned_
        return encoders

    def metrics(self) -> dict[str, float]:  # noqa: D102
        names = ("validation_auroc", "validation_error")
        found = {name: getattr(self.head_, f"{name}_", None) for name in names}
        return {name: float(value) for name, value in found.items() if value is not None}

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def _checked(self, y: Any, photos: list[Any], known: Any = None) -> Any:
        if y is None:
            raise ConfigError("Labels are missing: fit(photos, y) needs one a photo.")
        y = y.to_numpy() if hasattr(y, "to_numpy") else y if isinstance(y, np.ndarray) else list(y)
        if len(y) != len(photos):
            there = "There are" if known is None else "The validation part has"
            raise ConfigError(f"{there} {len(photos)} photos and {len(y)} labels; give one label each.")
        return self._kind.checked(y, known)

    def _learn(self, photos: list[Any], labels: Any, patients: np.ndarray | None, held: Held | None) -> None:
        if patients is None:
            patients = check_groups(None, len(photos))
        if self.tune != "head":
            if self.head != "mlp":
                raise ConfigError(
                    f"tune={self.tune!r} trains the encoder through head='mlp', not {self.head!r}."
                )
            if held is None:
                photos, labels, patients, held = self._set_aside(photos, labels, patients)
        if hasattr(self, "tuned_"):
            del self.tuned_
        self.encoders_ = [identity_of(encoder_of(model, self._compute())) for model in self.models()]
        head = self._new_head()
        X = self._embeddings(photos)
        self.head_ = head.learn(X, labels, patients, self._embedded(held))
        if self.tune != "head":
            self._fit_encoder(photos, X, labels, held)

    def _set_aside(
        self, photos: list[Any], labels: Any, patients: np.ndarray
    ) -> tuple[list[Any], Any, np.ndarray, Held | None]:
        """The split that the head would make, made here, so that the encoder does not see it either."""
        share = (self.head_settings or {}).get("validation", 0.2)
        strata = labels.strata if isinstance(labels, ClassTargets) else None
        train, held = validation_split(strata, patients, share, self.seed)
        if not len(held):
            return photos, labels, patients, None
        return rows_of(photos, train), labels[train], patients[train], (rows_of(photos, held), labels[held])

    def _fit_encoder(self, photos: list[Any], X: np.ndarray, labels: Any, held: Held | None) -> None:
        """Go on from the fitted head with the leading encoder trained along."""
        encoder = encoder_of(self.models()[0], self._compute())
        tuned, parameters = tunable_copy(encoder, self.tune)
        self.tuned_ = tuned
        loss, score = (
            self.head_.joint(labels, None, None)
            if held is None
            else self.head_.joint(labels, lambda: self._embeddings(held[0]), held[1])
        )
        finetune(
            tuned,
            parameters,
            self.head_.module_,
            [encoder.transform.view(photo)[0] for photo in photos],
            torch.from_numpy(X[:, self.encoders_[0].features :]).float(),
            loss,
            score,
            self.head_.protocol(),
            seed=self.seed,
            progress=self.progress,
        )
        self.head_.after_joint(self._embeddings(photos), self._embedded(held))

    def _embedded(self, held: Held | None) -> tuple[np.ndarray, Any] | None:
        return None if held is None else (self._embeddings(held[0]), held[1])

    def _embeddings(self, photos: list[Any]) -> np.ndarray:
        models = self.models()
        if hasattr(self, "tuned_"):
            models[0] = self.tuned_
        return embeddings_of(photos, models, self._compute())

    def _new_head(self) -> Any:
        widths = [identity.features for identity in self.encoders_]
        settings = {
            "widths": widths if len(widths) > 1 else None,
            "class_weight": getattr(self, "class_weight", None),
            "seed": self.seed,
        }
        return make_head(self.head, self._heads, settings, self.head_settings)


class FundusClassifier(ClassifierMixin, EmbeddingEstimator):  # type: ignore[misc]
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

    task = "classification"
    _kind, _heads = ClassifierHead, CLASSIFIERS

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
        super().__init__(
            model,
            fuse_with=fuse_with,
            head=head,
            tune=tune,
            shots=shots,
            seed=seed,
            head_settings=head_settings,
            device=device,
            dtype=dtype,
            progress=progress,
        )
        self.class_weight = class_weight

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

    def saved_settings(self) -> dict[str, Any]:  # noqa: D102
        settings = super().saved_settings()
        if isinstance(self.class_weight, dict):
            settings["class_weight"] = None  # it has done its work, and its keys need not be JSON
        return settings

    def _sets(self, labels: ClassTargets) -> list[tuple[str, np.ndarray]]:
        return labels.sets


class FundusRegressor(RegressorMixin, EmbeddingEstimator):  # type: ignore[misc]
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

    task = "regression"
    _kind, _heads = RegressorHead, REGRESSORS
