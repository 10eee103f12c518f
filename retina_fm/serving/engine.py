"""What the model's thread computes, and what is read off it: embeddings, maps, measurements, neighbours."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from retina_fm.adapters.extraction import Compute, encoder_of
from retina_fm.adapters.factory import load as load_adapter
from retina_fm.adapters.zero_shot import ANATOMY_TARGETS, VESSELS, lesion_names
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.work import Decoded, views_of
from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes import ImageIndex
from retina_fm.indexes.opening import find_store
from retina_fm.indexes.state import EMBEDDING, SIGNATURE, stored_path
from retina_fm.measuring.reading import VESSEL_FROM, Reading
from retina_fm.measuring.row import measured
from retina_fm.measuring.table import refuse_blind
from retina_fm.models.reliability import fault_of, threshold_in
from retina_fm.pictures.tags import given_tags, merged
from retina_fm.vessels.kinds import artery_share

EMBED, SIGN, MAPS, PREDICT = "embed", "sign", "maps", "predict"
DEFAULT_MODEL = "fundus2video-half"
_KIND_FROM = 0.25
"""Of an artery or a vein: one half of a vessel's one half, as zero-shot adapters take it."""

Maps = Mapping[str, NDArray[np.float32]]


class Neighbour(NamedTuple):
    """One picture of the index that was found."""

    rank: int
    score: float
    path: str
    row: int | None
    why: str
    false_accept: float | None
    metadata: dict[str, str | int | float | bool | None]


class Engine:
    """A model, and perhaps an index and an adapter, ready for photos that were decoded elsewhere.

    Only :meth:`run` uses the network; it is meant for one thread. The other methods read off its results, and
    are meant for one thread, too.

    Args:
        model: encoder by name or folder; with an index, where the index's model lies now.
        index: folder of an index of photos, for searches.
        adapter: folder of a fitted adapter, for predictions.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.
        batch_size: photos a forward pass; chosen for the device without it.
        allow_unreliable: maps and numbers too whose stated reliability is not enough.

    Attributes:
        embedder: the encoder with its number type.
        index: or None.
        adapter: or None.
        targets: what :meth:`mask` can draw.
        measures: whether the model maps what measurements need.

    Raises:
        RetinaError: the model, the index or the adapter cannot be had, or do not fit each other.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        index: str | Path | None = None,
        adapter: str | Path | None = None,
        device: str | None = None,
        dtype: str = "auto",
        batch_size: int | None = None,
        allow_unreliable: bool = False,
    ) -> None:
        self.allow_unreliable = allow_unreliable
        self.index = None if index is None else _opened(index, model, device, dtype)
        lazy = None if self.index is None else self.index.embedder()
        if lazy is not None:
            self.embedder = Embedder(lazy.encoder(), batch_size=batch_size)
        else:
            self.embedder = Embedder(
                model or DEFAULT_MODEL, device=device, dtype=dtype, batch_size=batch_size, compile=False
            )
        self.encoder = self.embedder.encoder
        self.reliability = getattr(self.encoder, "reliability", {})
        self.measures = _measures(self.encoder)
        self.targets = self._targets()
        self.adapter: Any = None if adapter is None else _fitted(adapter, device)

    @property
    def spaces(self) -> tuple[str, ...]:
        """What searches can compare."""
        if self.index is None:
            return ()
        signed = self.index.state.signatures is not None
        return (EMBEDDING, SIGNATURE, "retrieval") if signed else (EMBEDDING,)

    @property
    def on_gpu(self) -> bool:
        """Whether a GPU computes the features."""
        return bool(self.embedder.device.type == "cuda")

    @torch.inference_mode()
    def run(self, kind: str, items: list[Any]) -> Sequence[Any]:
        """A result each of items of one kind.

        Args:
            kind: ``EMBED`` and ``SIGN`` give rows float32, these with the signature after the embedding;
                ``MAPS`` probabilities (S, S) by name; ``PREDICT`` what the adapter says.
            items: decoded photos, or their bytes for ``PREDICT``.
        """
        if kind == PREDICT:
            return self._predicted(items)
        if kind == EMBED:
            return list(self.embedder(views_of(items)))
        if kind == SIGN:
            assert self.index is not None
            return list(np.concatenate(self.embedder.both(items, self.index.state.basis), axis=1))
        layers = self.encoder.dense_maps(self.encoder.maps(self.embedder.prepared(views_of(items))))
        found = {name: layer.float().cpu().numpy() for name, layer in layers.items()}
        return [self._inside(item, {name: found[name][n] for name in found}) for n, item in enumerate(items)]

    def measurements(self, item: Decoded, maps: Maps, eye: str | None) -> dict[str, Any]:
        """Numbers of a photo, as :func:`retina_fm.measure` defines them."""
        assert item.geometry is not None
        tags = merged(given_tags({"eye": eye}), item.tags._replace(patient_id=None, acquired=None))
        return measured(
            self.reading(item, maps), item.geometry, None, tags, self.reliability, self.allow_unreliable
        )

    def reading(self, item: Decoded, maps: Maps) -> Reading:
        """A photo's view with its maps."""
        assert item.view is not None and item.geometry is not None
        inside = item.geometry.mask_in_view()
        return Reading(item.view, inside, item.geometry.radius / item.geometry.scale, maps)

    def mask(self, item: Decoded, maps: Maps, target: str, probability: bool) -> NDArray[np.uint8]:
        """One target in the photo's own pixels, uint8 (H, W): 0 and 255, or probabilities times 255.

        Raises:
            ConfigError: the model does not map it, or states that it cannot be relied on.
        """
        assert item.geometry is not None
        self.refuse(target)
        score, threshold = self._score(maps, target)
        found = item.geometry.picture_of(score, "bilinear")
        found = np.where(item.geometry.mask_in_picture(), found, 0)
        return np.asarray(np.rint(found * 255) if probability else (found >= threshold) * 255, np.uint8)

    def refuse(self, target: str) -> None:
        """Raises ConfigError where a target is not mapped or is not to be relied on."""
        if target not in self.targets:
            raise ConfigError(f"target {target!r} is not mapped; known: {', '.join(self.targets)}.")
        why = self.targets[target]
        if why is not None and not self.allow_unreliable:
            raise ConfigError(f"The map of {target} is not to be relied on: {why}.")

    def neighbours(self, row: NDArray[np.float32], k: int, where: str | None, space: str) -> list[Neighbour]:
        """The pictures of the index nearest to a row that :meth:`run` gave.

        Raises:
            ConfigError: a condition that cannot be read.
        """
        assert self.index is not None
        hits = self.index.search(row, k, where=where or None, space=space)
        rows = self._rows([hit.path for hit in hits])
        return [
            Neighbour(
                hit.rank, float(hit.score), hit.path if place is None else self._stored(place), place,
                hit.why, hit.false_accept, {name: _plain(value) for name, value in hit.metadata.items()},
            )
            for hit, place in zip(hits, rows, strict=True)
        ]  # fmt: skip

    def picture_path(self, row: int) -> str | None:
        """The file of a row of the index; None where there is no such row."""
        if self.index is None or not 0 <= row < self.index.state.total:
            return None
        stored = self._stored(row)
        return self.index.state.usable(stored) if stored else None

    def _stored(self, row: int) -> str:
        assert self.index is not None
        found = self.index.state.among("_path", "_place", [row])
        return str(found[0][0]) if found else ""

    def _rows(self, paths: list[str]) -> list[int | None]:
        assert self.index is not None and self.index.folder is not None
        folder = self.index.folder
        stored = [path if path.startswith("sha256:") else stored_path(path, folder) for path in paths]
        return [place if place >= 0 else None for place in self.index.state.find(stored).tolist()]

    def _targets(self) -> dict[str, str | None]:
        """What can be drawn, each with the reason why it is not to be relied on."""
        if not self.measures:
            return {}
        named = {VESSELS: "vessel", **ANATOMY_TARGETS, **{name: name for name in lesion_names(self.encoder)}}
        return {target: fault_of(self.reliability, name) for target, name in named.items()}

    def _score(self, maps: Maps, target: str) -> tuple[NDArray[np.float32], float]:
        """A target's map in the view, and from which value it counts."""
        if target == VESSELS:
            return maps["vessel"], VESSEL_FROM
        if target in ("arteries", "veins"):
            share = artery_share(maps["artery"], maps["vein"], maps["vessel"])
            return maps["vessel"] * (share if target == "arteries" else 1 - share), _KIND_FROM
        return maps[target], threshold_in(self.reliability, target)

    def _inside(self, item: Decoded, layers: Maps) -> Maps:
        assert item.geometry is not None
        inside = item.geometry.mask_in_view()
        return {name: np.where(inside, layer, np.float32(0)) for name, layer in layers.items()}

    def _predicted(self, photos: list[bytes]) -> Sequence[Any]:
        assert self.adapter is not None
        if self.adapter.task == "regression":
            return list(self.adapter.predict(photos))
        found = self.adapter.predict_proba(photos)
        if self.adapter.task == "segmentation":
            return [self.adapter.label(one) for one in found]
        return list(found)


def _opened(index: str | Path, model: str | None, device: str | None, dtype: str) -> ImageIndex:
    found = ImageIndex.open(find_store(index), model=model, device=device, dtype=dtype)
    if found.manifest.model is None:
        raise IndexMismatchError(
            f"{index} holds plain embeddings and knows no model, so that no photo can be looked up in it. "
            "Serve an index that was made of photos."
        )
    return found


def _fitted(adapter: str | Path, device: str | None) -> Any:
    """An adapter with its encoders loaded: embeddings of named ones would be kept in memory."""
    found = load_adapter(adapter, device=device)
    compute = Compute(device, found.dtype)
    loaded = [encoder_of(model, compute) for model in found.models()]
    others = {"fuse_with": loaded[1:]} if loaded[1:] else {}
    return found.set_params(model=loaded[0], progress=False, **others)


def _measures(encoder: Any) -> bool:
    try:
        refuse_blind(encoder)
    except ConfigError:
        return False
    return True


def _plain(value: Any) -> str | int | float | bool | None:
    """A value of metadata as JSON has it."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
