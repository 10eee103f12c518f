"""What an encoder returns, and what it says about its maps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor

from retina_fm._notebook import fact_table, in_a_line


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

    def __repr__(self) -> str:
        return in_a_line("Features", self._facts())

    def _repr_html_(self) -> str:
        """Shapes, as notebooks show them."""
        return fact_table("Features", self._facts())

    def _facts(self) -> list[tuple[str, str | None]]:
        maps = ", ".join(_shape(one) for one in self.maps)
        lesions = None if self.lesions is None else _shape(self.lesions)
        return [("pooled", _shape(self.pooled)), ("maps", f"[{maps}]"), ("lesions", lesions)]


def _shape(tensor: Any) -> str:
    """``(2, 512) float32``; what stands in for a tensor while a model is traced has its own words."""
    if not isinstance(tensor, Tensor):
        return repr(tensor)
    return f"({', '.join(map(str, tensor.shape))}) {str(tensor.dtype).removeprefix('torch.')}"


class FeatureInfo(list[dict[str, Any]]):
    """Channels, strides and modules of an encoder's maps, with the accessors of timm's class.

    It is also the plain list of dictionaries that timm's own models have, so that timm's feature extractors
    take it.
    """

    def __init__(
        self, channels: Sequence[int], reductions: Sequence[int], modules: Sequence[str] | None = None
    ) -> None:
        names = modules or [f"maps.{index}" for index in range(len(channels))]
        super().__init__(
            {"num_chs": count, "reduction": stride, "module": name, "index": index}
            for index, (count, stride, name) in enumerate(zip(channels, reductions, names, strict=True))
        )

    @property
    def info(self) -> list[dict[str, Any]]:
        """The list itself, under the name that timm's class gives it."""
        return self

    @property
    def out_indices(self) -> tuple[int, ...]:
        """Every map is given out."""
        return tuple(range(len(self)))

    def get(self, key: str, idx: int | Sequence[int] | None = None) -> Any:
        """One entry of one map, of several, or of all."""
        if isinstance(idx, int):
            return self[idx][key]
        return [self[i][key] for i in (self.out_indices if idx is None else idx)]

    def get_dicts(self, keys: Sequence[str] | None = None, idx: int | Sequence[int] | None = None) -> Any:
        """The entries named in ``keys``, or all, of one map, of several, or of all."""
        if isinstance(idx, int):
            return dict(self[idx]) if keys is None else {key: self[idx][key] for key in keys}
        return [self.get_dicts(keys, i) for i in (self.out_indices if idx is None else idx)]

    def channels(self, idx: int | Sequence[int] | None = None) -> Any:
        """Channels of one map, of several, or of all."""
        return self.get("num_chs", idx)

    def reduction(self, idx: int | Sequence[int] | None = None) -> Any:
        """Stride of one map, of several, or of all."""
        return self.get("reduction", idx)

    def module_name(self, idx: int | Sequence[int] | None = None) -> Any:
        """Name of the module that gives one map, several, or all."""
        return self.get("module", idx)
