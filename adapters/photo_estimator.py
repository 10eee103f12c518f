"""What classifier and regressor of photos have in common: examples drawn, features, a head."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_is_fitted

from retina_fm.adapters.examples.few_shot import Draw, check_groups
from retina_fm.adapters.examples.splits import refuse_shared_patients, validation_split
from retina_fm.adapters.extraction import (
    Compute,
    Identity,
    embeddings_of,
    encoder_of,
    identity_of,
    models_of,
    photo_list,
)
from retina_fm.adapters.heads.by_name import make_head
from retina_fm.adapters.tuning import finetune, tunable_copy
from retina_fm.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

TUNES = ("head", "last", "all")


class PhotoEstimator(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of :class:`FundusClassifier` and :class:`FundusRegressor`.

    Attributes:
        head_: the fitted head over embeddings.
        encoders_: identity of each encoder.
        drawn_: positions of the photos trained on, where ``shots`` drew them; all positions otherwise.
        drawn_names_: what those photos are called.
        tuned_: the leading encoder as it was trained along; only with ``tune`` other than ``head``.
    """

    head_: Any
    encoders_: list[Identity]
    drawn_: np.ndarray
    drawn_names_: list[str]
    tuned_: Any
    _heads: dict[str, Any]

    def fit(self, photos: Any, y: Any, groups: Any = None, val: Any = None) -> Self:
        """Learn from photos.

        Args:
            photos: many photos in any form (folder, glob, iterable, arrays).
            y: a label, or measurement, a photo.
            groups: ``(N,)`` patients: never in training and validation both, and drawn once for few shots.
            val: ``(photos, y)`` or ``(photos, y, groups)`` to validate on instead of a part set aside.

        Raises:
            ConfigError: settings or labels that make no sense, too few examples for ``shots``, or a patient
                in both parts.
            PictureError: a photo that cannot be read.
        """
        if self.tune not in TUNES:
            raise ConfigError(f"tune is {self.tune!r}; use {', '.join(map(repr, TUNES))}.")
        found = photo_list(photos)
        y = _as_labels(y)
        if len(y) != len(found):
            raise ConfigError(f"There are {len(found)} photos and {len(y)} labels; give one label each.")
        self._check_labels(y)
        patients = None if groups is None else check_groups(groups, len(found))
        if self.shots is None:
            draw = Draw(np.arange(len(found)), np.empty(0, np.int64))
        else:
            draw = self._draw(y, patients)
        self.drawn_ = draw.drawn
        chosen = [found[position] for position in draw.drawn]
        self.drawn_names_ = [_name(found[position], position) for position in draw.drawn.tolist()]
        labels = _rows_of(y, draw.drawn)
        patients = None if patients is None else patients[draw.drawn]
        others = self._validation(val, patients)
        self._fit_photos(chosen, labels, patients, others)
        return self

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

    def save(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write the adapter as a folder of safetensors and JSON; see :func:`retina_fm.adapters.save`."""
        from retina_fm.adapters.saving import save

        return save(self, folder, licence=licence)

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "head_")

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _fit_photos(self, photos: list[Any], y: Any, groups: Any, val: Any) -> None:
        if self.tune != "head":
            if self.head != "mlp":
                raise ConfigError(
                    f"tune={self.tune!r} trains the encoder through head='mlp', not {self.head!r}."
                )
            photos, y, val = self._set_aside(photos, y, groups, val)
        if hasattr(self, "tuned_"):
            del self.tuned_
        self.encoders_ = [identity_of(encoder_of(model, self._compute())) for model in self.models()]
        head = self._new_head()
        X = self._embeddings(photos)
        held = None if val is None else (self._embeddings(val[0]), val[1])
        self.head_ = head.fit(X, y, groups=groups, val=held)
        if self.tune != "head":
            self._fit_encoder(photos, X, y, val)

    def _fit_encoder(self, photos: list[Any], X: np.ndarray, y: Any, val: Any) -> None:
        """Go on from the fitted head with the leading encoder trained along."""
        encoder = encoder_of(self.models()[0], self._compute())
        tuned, parameters = tunable_copy(encoder, self.tune)
        self.tuned_ = tuned
        loss, score = self.head_.joint(y, None if val is None else lambda: self._embeddings(val[0]), val)
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
        held = None if val is None else self._embeddings(val[0])
        self.head_.after_joint(self._embeddings(photos), held, val)

    def _set_aside(self, photos: list[Any], y: Any, groups: Any, val: Any) -> tuple[list[Any], Any, Any]:
        """The split that the head would make, made here, so that the encoder does not see it either."""
        if val is not None:
            return photos, y, val
        patients = check_groups(groups, len(photos))
        share = (self.head_settings or {}).get("validation", 0.2)
        train, held = validation_split(self._strata(y), patients, share, self.seed)
        if not len(held):
            return photos, y, None
        kept = [photos[i] for i in train]
        return kept, _rows_of(y, train), ([photos[i] for i in held], _rows_of(y, held))

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

    def models(self) -> list[Any]:
        """The encoders, the leading one first, as they were given."""
        return models_of(self.model, self.fuse_with)

    def _compute(self) -> Compute:
        return Compute(self.device, self.dtype, self.progress)

    def _validation(self, val: Any, patients: np.ndarray | None) -> Any:
        if val is None:
            return None
        photos = photo_list(val[0])
        labels = _as_labels(val[1])
        if len(labels) != len(photos):
            raise ConfigError(f"The validation part has {len(photos)} photos and {len(labels)} labels.")
        if len(val) > 2 and val[2] is not None:
            refuse_shared_patients(patients, check_groups(val[2], len(photos)))
        return photos, labels

    @abstractmethod
    def _check_labels(self, y: Any) -> None: ...

    @abstractmethod
    def _strata(self, y: Any) -> np.ndarray | None: ...

    @abstractmethod
    def _draw(self, y: Any, patients: np.ndarray | None) -> Draw: ...


def _as_labels(y: Any) -> Any:
    if y is None:
        raise ConfigError("Labels are missing: fit(photos, y) needs one a photo.")
    return y.to_numpy() if hasattr(y, "to_numpy") else y if isinstance(y, np.ndarray) else list(y)


def _rows_of(y: Any, positions: np.ndarray) -> Any:
    return y[positions] if isinstance(y, np.ndarray) else [y[position] for position in positions]


def _name(photo: Any, position: int) -> str:
    from retina_fm.pictures import describe

    return describe(photo) if isinstance(photo, str) or hasattr(photo, "__fspath__") else f"#{position}"
