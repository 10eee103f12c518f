"""What every registered model answers to."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from retina_fm.models.card import ModelCard
from retina_fm.network.features import FeatureInfo, Features
from retina_fm.pictures import Transform


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
