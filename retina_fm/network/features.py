"""What an encoder returns, and what it says about its maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from torch import Tensor

from retina_fm.errors import ViewError


class Features(NamedTuple):
    """Output of every encoder.

    Attributes:
        pooled: embeddings ``(N, D)`` float32.
        maps: feature maps from fine to coarse; for Fundus2Video five, with 64 to 1024 channels at strides
            1, 2, 4, 8, 16 (``encoder.feature_info`` tells for any model).
        lesions: probabilities ``(N, L, H / 4, W / 4)`` of the lesion types named in the architecture,
            ``(N, L, H, W)`` with a lesion decoder, or None where the model predicts none.
    """

    pooled: Tensor
    maps: tuple[Tensor, ...]
    lesions: Tensor | None


class TwoStepForward:
    """timm's forward in two steps, for encoders that have ``features``; a base class beside ``nn.Module``."""

    if TYPE_CHECKING:

        def features(self, view: Tensor) -> Features:
            """Given by the encoder."""
            ...

    def forward_features(self, view: Tensor) -> Features:
        """First step; the spatial maps are in ``.maps``."""
        return self.features(view)

    def forward_head(self, features: Features, pre_logits: bool = True) -> Tensor:
        """Second step: the embeddings ``(N, D)``; there is no classifier.

        Raises:
            ViewError: logits were asked for.
        """
        if not pre_logits:
            raise ViewError("The encoder has no classifier: call forward_head(features, pre_logits=True).")
        return features.pooled


class FeatureInfo:
    """Channels and strides of an encoder's maps, with the accessors of timm's class of that name."""

    def __init__(self, channels: Sequence[int], reductions: Sequence[int]) -> None:
        self.info = [
            {"num_chs": count, "reduction": stride, "module": f"maps.{index}", "index": index}
            for index, (count, stride) in enumerate(zip(channels, reductions, strict=True))
        ]

    def channels(self, idx: int | Sequence[int] | None = None) -> int | list[int]:
        """Channels of one map, of several, or of all."""
        return self._get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> int | list[int]:
        """Stride of one map, of several, or of all."""
        return self._get("reduction", idx)

    def __len__(self) -> int:
        return len(self.info)

    def _get(self, key: str, idx: int | Sequence[int] | None) -> int | list[int]:
        values = [int(entry[key]) for entry in self.info]  # type: ignore[call-overload]
        if idx is None:
            return values
        return values[idx] if isinstance(idx, int) else [values[i] for i in idx]
