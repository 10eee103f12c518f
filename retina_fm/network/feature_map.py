"""The last map of an encoder as a tensor that has not forgotten its picture's embedding."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_SAME_VALUES = frozenset(
    {
        Tensor.clone,
        Tensor.contiguous,
        Tensor.cpu,
        Tensor.cuda,
        Tensor.detach,
        Tensor.requires_grad_,
        Tensor.to,
    }
)
"""What leaves every value as it is; the embedding goes along, moved in the same way."""


class FeatureMap(Tensor):
    """``(N, C, H / 16, W / 16)``, with the embeddings ``pooled`` ``(N, D)`` of the same pictures beside it.

    timm computes an embedding in two steps, features and head, and hands one tensor from the first to the
    second. Ours pools maps before their normalisation, which the last map alone does not give; so the first
    step pools, and its result travels with the map. Whatever changes the map's values gives a plain tensor.
    """

    pooled: Tensor

    @staticmethod
    def carrying(maps: Tensor, pooled: Tensor) -> FeatureMap:
        """The map with the embeddings of its pictures."""
        carried = maps.as_subclass(FeatureMap)
        carried.pooled = pooled
        return carried

    @classmethod
    def __torch_function__(
        cls,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Operations give plain tensors, but for those that leave all values as they are."""
        with torch._C.DisableTorchFunctionSubclass():
            result = func(*args, **(kwargs or {}))
            pooled = args[0].__dict__.get("pooled") if args and isinstance(args[0], FeatureMap) else None
            if func in _SAME_VALUES and pooled is not None:
                return FeatureMap.carrying(result, func(pooled, *args[1:], **(kwargs or {})))
            if isinstance(result, FeatureMap) and result is not args[0]:
                return result.as_subclass(Tensor)
            return result
