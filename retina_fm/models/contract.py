"""What every registered model answers to."""

from __future__ import annotations

import os
from typing import Any, ClassVar, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from retina_fm._notebook import fact_table, in_a_line
from retina_fm.configuration import Configuration
from retina_fm.network.features import FeatureInfo, Features
from retina_fm.pictures import Transform

RESEARCH_USE = "Research use. Not a medical device; not for decisions about patients."
_OPEN = ("Apache-2.0", "MIT", "BSD-3-Clause", "CC-BY-4.0", "CC0-1.0")


class ModelCard(Configuration):
    """Licence, origin and purpose of a model; part of a weights folder's ``config.json``.

    Attributes:
        licence: SPDX name where there is one.
        training_data: what the weights saw.
        intended_use: and what they are not for.
        pooling: the one named way in which maps or tokens become an embedding.
        citation: paper or repository to cite.
    """

    section: ClassVar[str] = "card"

    licence: str
    training_data: str
    intended_use: str = RESEARCH_USE
    pooling: str = "fitted"
    citation: str = ""

    @property
    def restricted(self) -> bool:
        """Whether the licence asks for more than attribution (no commercial use, for example)."""
        return self.licence not in _OPEN


class Described:
    """An encoder in a line instead of its hundred layers; ``print(encoder.model)`` shows those."""

    def __repr__(self) -> str:
        return in_a_line(type(self).__name__, _facts(self))

    def _repr_html_(self) -> str:
        """What it gives and under which licence, as notebooks show it."""
        card: ModelCard = self.card  # type: ignore[attr-defined]
        return fact_table("Encoder", [*_facts(self), ("licence", card.licence), ("use", card.intended_use)])


def _facts(encoder: Any) -> list[tuple[str, Any]]:
    channels, strides = encoder.feature_info.channels(), encoder.feature_info.reduction()
    place = next(encoder.parameters(), None)
    return [
        ("name", encoder.name),
        ("embedding", encoder.num_features),
        ("maps", ", ".join(f"{count} at stride {at}" for count, at in zip(channels, strides, strict=True))),
        ("view", f"{encoder.transform.size} x {encoder.transform.size}"),
        ("parameters", f"{sum(one.numel() for one in encoder.parameters()) / 1e6:.1f} M"),
        ("dtype", "" if place is None else str(place.dtype).removeprefix("torch.")),
        ("device", "" if place is None else place.device),
        ("weights", encoder.weights_sha256[:12]),
    ]


@runtime_checkable
class RetinalEncoder(Protocol):
    """A ``torch.nn.Module`` that turns views into features and knows how photos become views.

    Attributes:
        name: under which it was loaded.
        transform: photo to view.
        card: licence, training data, intended use.
        weights_sha256: hash of what determines its features.
        num_features: length D of an embedding.
        feature_info: channels and strides of its maps.
    """

    name: str
    transform: Transform
    card: ModelCard
    weights_sha256: str
    num_features: int
    feature_info: FeatureInfo

    @property
    def dtype(self) -> torch.dtype:
        """Number type that it computes in."""
        ...

    def features(self, view: Tensor) -> Features:
        """Views ``(N, 3, S, S)`` to pooled embeddings ``(N, D)`` float32, maps, and lesions or None."""
        ...

    def embed(self, view: Tensor) -> Tensor:
        """Embeddings alone, ``(N, D)`` float32."""
        ...


Model: TypeAlias = str | os.PathLike[str] | RetinalEncoder
"""A model as users give it: its name, the path of its folder, or loaded."""


def by_name(model: Model) -> str | RetinalEncoder:
    """A path as the text that it stands for; a name and a loaded encoder as they are."""
    return os.fspath(model) if isinstance(model, os.PathLike) else model
