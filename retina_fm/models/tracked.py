"""Whether a loaded encoder is still the one that was loaded: its hash follows what is trained in memory."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

_SAME = "_is_as_loaded_then"
_HEAD = "head."
"""The classifier lies over the embedding and is no part of it."""


class Tracked:
    """The hash of an encoder: what its folder states, until its parameters change; then one of what they are.

    Changes in place are counted by torch (``Tensor._version``), at no cost; those through ``.data`` are not
    seen. Moving an encoder or giving it another number type is no change.
    """

    _stated: str
    _as_loaded: dict[str, int] | None = None
    _trained: tuple[dict[str, int], str] | None = None

    def mark_as_loaded(self) -> None:
        """Take the parameters as they are now for those of the folder."""
        self._as_loaded = self._versions()

    @property
    def weights_sha256(self) -> str:
        """Hash of what determines its features."""
        versions = self._versions()
        if self._is_as_loaded(versions):
            return self._stated
        if self._trained is None or self._trained[0] != versions:
            self._trained = versions, _hash_of(self._determining())
        return self._trained[1]

    @weights_sha256.setter
    def weights_sha256(self, value: str) -> None:
        self._stated = value

    def _determining(self) -> Iterator[tuple[str, Tensor]]:
        named: Any = itertools.chain(self.named_parameters(), self.named_buffers())  # type: ignore[attr-defined]
        return ((name, tensor) for name, tensor in named if not name.startswith(_HEAD))

    def _versions(self) -> dict[str, int]:
        # tensors of inference mode count nothing, and cannot be trained
        return {name: 0 if one.is_inference() else one._version for name, one in self._determining()}

    def _is_as_loaded(self, versions: dict[str, int]) -> bool:
        """Parts that were left out determine nothing, parts that came to it do."""
        loaded = self._as_loaded
        return loaded is None or all(loaded.get(name) == version for name, version in versions.items())

    def _apply(self, *arguments: Any, **settings: Any) -> Any:
        """Moves and casts, after which torch may count anew."""
        same = self._is_as_loaded(self._versions())
        moved = super()._apply(*arguments, **settings)  # type: ignore[misc]
        if same and self._as_loaded is not None:
            self.mark_as_loaded()
        return moved

    def __getstate__(self) -> dict[str, Any]:
        same = self._as_loaded is not None and self._is_as_loaded(self._versions())
        return {**self.__dict__, "_trained": None, _SAME: same}

    def __setstate__(self, state: dict[str, Any]) -> None:
        same = state.pop(_SAME)
        super().__setstate__(state)  # type: ignore[misc]
        if same:  # a copy's tensors count from 0
            self.mark_as_loaded()
        elif self._as_loaded is not None:
            self._as_loaded = {}


def _hash_of(tensors: Iterator[tuple[str, Tensor]]) -> str:
    digest = hashlib.sha256()
    with torch.no_grad():
        for name, tensor in sorted(tensors, key=lambda item: item[0]):
            array = tensor.detach().cpu().float().contiguous().numpy()
            digest.update(f"{name}{array.shape}".encode())
            digest.update(array.tobytes())
    return digest.hexdigest()
