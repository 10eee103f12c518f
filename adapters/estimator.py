"""What classifier, regressor and segmenter of photos share: examples checked and drawn, encoders, state."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from sklearn.base import BaseEstimator

from retina_fm._notebook import fact_table, in_a_line
from retina_fm.adapters.examples.draws import check_groups, draw_from, refuse_shared_patients
from retina_fm.adapters.extraction import Compute, Identity, encoder_of, photo_list, photo_name
from retina_fm.adapters.saving import save
from retina_fm.adapters.tuning import changed_tensors, with_tensors
from retina_fm.errors import ConfigError, TransformMismatchError, WeightsError
from retina_fm.models import by_name
from retina_fm.network.defaults import undisturbed

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

TUNES = ("head", "last", "all")
_HERE = ("device", "dtype", "progress", "memory_gb")
"""Settings that belong to a machine, not to the adapter."""


class Estimator(BaseEstimator, ABC):  # type: ignore[misc]
    """Base of :class:`FundusClassifier`, :class:`FundusRegressor` and :class:`FundusSegmenter`.

    Attributes:
        encoders_: identity of each encoder.
        drawn_: positions of the photos trained on, where ``shots`` drew them; all positions otherwise.
        drawn_names_: what those photos are called.
        tuned_: the leading encoder as it was trained along; only with ``tune`` other than ``head``.
    """

    task: ClassVar[str]
    model: Any
    tune: str
    shots: int | None
    seed: int
    device: str | None
    dtype: str
    progress: bool | None
    encoders_: list[Identity]
    drawn_: np.ndarray
    drawn_names_: list[str]
    tuned_: Any

    @undisturbed
    def fit(self, photos: Any, y: Any = None, groups: Any = None, val: Any = None) -> Self:
        """Learn from photos.

        Args:
            photos: many photos in any form (folder, glob, iterable, arrays).
            y: a label, measurement or mask a photo.
            groups: ``(N,)`` patients: never in training and validation both, and drawn once for few shots.
            val: ``(photos, y)`` or ``(photos, y, groups)`` to validate on instead of a part set aside.

        Raises:
            ConfigError: settings, labels or masks that make no sense, too few examples for ``shots``, or a
                patient in both parts.
            PictureError: a photo or mask that cannot be read.
        """
        if self.tune not in TUNES:
            raise ConfigError(f"tune is {self.tune!r}; use {', '.join(map(repr, TUNES))}.")
        found = photo_list(photos)
        labels = self._checked(y, found)
        patients = check_groups(groups, len(found))
        drawn = np.arange(len(found))
        if self.shots is not None:
            drawn = draw_from(self._sets(labels), patients, self.shots, self.seed).drawn
        self.drawn_ = drawn
        self.drawn_names_ = [photo_name(found[position], position) for position in drawn.tolist()]
        mine = None if groups is None else patients[drawn]
        held = None if val is None else self._held(val, labels, mine)
        self._learn([found[position] for position in drawn], rows_of(labels, drawn), mine, held)
        return self

    def __repr__(self, N_CHAR_MAX: int = 700) -> str:
        """The settings that are not the usual ones; a loaded encoder by its name."""
        given, usual = self.get_params(deep=False), type(self)().get_params(deep=False)
        usual = {"model": usual["model"], **usual}  # what matters most comes first
        changed = (
            (name, given[name]) for name in usual if name == "model" or not _same(given[name], usual[name])
        )
        return in_a_line(type(self).__name__, ((name, repr(_plain(value))) for name, value in changed))

    def _repr_html_(self) -> str:
        """Settings and what was learnt, as notebooks show them."""
        facts: list[tuple[str, Any]] = [("", repr(self))]
        if hasattr(self, "encoders_"):
            facts.append(("encoders", ", ".join(identity.name for identity in self.encoders_)))
        if hasattr(self, "drawn_"):
            facts.append(("trained on", f"{len(self.drawn_)} photos"))
        if hasattr(self, "classes_"):
            facts.append(("classes", ", ".join(map(str, self.classes_))))
        learnt = hasattr(self, "drawn_")
        facts += [
            (name.replace("_", " "), f"{value:.3f}")
            for name, value in (self.metrics() if learnt else {}).items()
        ]
        return fact_table(f"{type(self).__name__}, {'fitted' if learnt else 'not fitted'}", facts)

    def save(self, folder: str | Path, *, licence: str | None = None) -> Path:
        """Write the adapter as a folder of safetensors and JSON; see :func:`retina_fm.adapters.save`."""
        return save(self, folder, licence=licence)

    @abstractmethod
    def models(self) -> list[Any]:
        """The encoders, the leading one first, as they were given."""

    def check_encoders(self) -> None:
        """Refuse an encoder or transform other than the adapter was fitted on.

        Raises:
            WeightsError: other weights.
            TransformMismatchError: another transform.
        """
        models = self.models()
        if len(models) != len(self.encoders_):
            raise ConfigError(f"The adapter fuses {len(self.encoders_)} encoders, {len(models)} were given.")
        for model, wanted in zip(models, self.encoders_, strict=True):
            encoder = encoder_of(model, self._compute())
            if encoder.transform.hash != wanted.transform_hash:
                raise TransformMismatchError(
                    f"The adapter was fitted on {wanted.name} with transform {wanted.transform_hash}, "
                    f"{encoder.name} has {encoder.transform.hash}: its views differ. Load that model, or fit "
                    "the adapter again."
                )
            if encoder.weights_sha256 != wanted.weights_sha256:
                raise WeightsError(
                    f"The adapter was fitted on {wanted.name} with weights {wanted.weights_sha256[:12]}..., "
                    f"{encoder.name} has {encoder.weights_sha256[:12]}...: its features mean something else. "
                    "Load that model (model=FOLDER), or fit the adapter again."
                )

    def state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """What was learnt, as named arrays and JSON values; the encoder only where it was trained along."""
        if not hasattr(self, "tuned_"):
            return {}, {}
        return {f"encoder.{key}": value for key, value in changed_tensors(self.tuned_).items()}, {}

    def restore(self, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:  # noqa: ARG002
        """The inverse of :meth:`state`, for an estimator with the same settings and encoders."""
        if tuned := part_of(arrays, "encoder."):
            self.tuned_ = with_tensors(encoder_of(self.models()[0], self._compute()), tuned)

    def saved_settings(self) -> dict[str, Any]:
        """The settings as JSON values, without those of this machine alone."""
        settings = {key: value for key, value in self.get_params(deep=False).items() if key not in _HERE}
        settings["dtype"] = str(self._compute().torch_dtype).removeprefix("torch.")
        return {key: _plain(value) for key, value in settings.items()}

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """What the validation part said, where there was one."""

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags

    def _compute(self) -> Compute:
        return Compute(self.device, self.dtype, self.progress)

    def _held(self, val: Any, labels: Any, patients: np.ndarray | None) -> tuple[list[Any], Any]:
        """Photos and checked labels of the validation part that was given."""
        photos = photo_list(val[0])
        if len(val) > 2 and val[2] is not None and patients is not None:
            refuse_shared_patients(patients, check_groups(val[2], len(photos)))
        return photos, self._checked(val[1], photos, labels)

    @abstractmethod
    def _checked(self, y: Any, photos: list[Any], known: Any = None) -> Any:
        """Labels of photos, validated here and nowhere below; ``known`` are those of the training part."""

    def _sets(self, labels: Any) -> list[tuple[str, np.ndarray]]:
        """Of which sets ``shots`` examples each are drawn: what each is called, and its positions."""
        return [("the set", np.arange(len(labels)))]

    @abstractmethod
    def _learn(
        self, photos: list[Any], labels: Any, patients: np.ndarray | None, held: tuple[list[Any], Any] | None
    ) -> None:
        """Fit on the photos drawn; ``patients`` are None where none were given."""


def rows_of(labels: Any, positions: Any) -> Any:
    """Some examples' labels."""
    return [labels[p] for p in positions] if isinstance(labels, list) else labels[positions]


def part_of(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """Take out the arrays whose names begin so, under the rest of their names."""
    return {key.removeprefix(prefix): arrays.pop(key) for key in list(arrays) if key.startswith(prefix)}


def _same(value: Any, usual: Any) -> bool:
    """Whether a setting is the usual one; arrays and lists of classes are not."""
    return value is usual or (isinstance(value, str | int | float) and bool(value == usual))


def _plain(value: Any) -> Any:
    if isinstance(value, np.ndarray):
        return value.tolist()
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    value = by_name(value)
    return value.name if hasattr(value, "weights_sha256") else value
