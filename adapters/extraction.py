"""Photos to embeddings of one encoder or several, each computed once in a process."""

from __future__ import annotations

import hashlib
import os
from collections import OrderedDict
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from retina_fm.configuration import Configuration
from retina_fm.encoding import encode, fastest_precision
from retina_fm.encoding.embedder import load_fast
from retina_fm.encoding.precision import choose_device, choose_precision
from retina_fm.errors import ConfigError, PictureError
from retina_fm.models import Model, RetinalEncoder, by_name
from retina_fm.pictures import describe, expand, is_single, read_picture
from retina_fm.pictures.pages import which_picture

_MOST_ROWS = 50_000
_MOST_ENCODERS = 3
_rows: OrderedDict[Hashable, np.ndarray] = OrderedDict()
_encoders: OrderedDict[Hashable, Any] = OrderedDict()


@dataclass(frozen=True)
class Compute:
    """Where and in which number type features are computed.

    Attributes:
        device: the first GPU or the CPU without it.
        dtype: ``"auto"``, ``"float32"`` or ``"bfloat16"``.
        progress: a bar; None shows it on a terminal.
    """

    device: str | None = None
    dtype: str = "auto"
    progress: bool | None = None

    @property
    def torch_device(self) -> torch.device:
        """The device that is meant."""
        return choose_device(self.device)

    @property
    def torch_dtype(self) -> torch.dtype:
        """The number type that is meant."""
        if self.dtype == "auto":
            return fastest_precision(self.torch_device).dtype
        return choose_precision(self.dtype, self.torch_device).dtype


class Identity(Configuration):
    """What an adapter remembers of an encoder: another one must not take its place.

    Attributes:
        name: under which it was loaded.
        weights_sha256: hash of what determines its features.
        transform_hash: of its transform.
        transform: its fields.
        card: licence, training data, intended use.
        features: length of an embedding.
    """

    name: str
    weights_sha256: str
    transform_hash: str
    transform: dict[str, Any]
    card: dict[str, str]
    features: int = 0


def identity_of(encoder: RetinalEncoder) -> Identity:
    """The identity of a loaded encoder."""
    return Identity(
        name=encoder.name,
        weights_sha256=encoder.weights_sha256,
        transform_hash=encoder.transform.hash,
        transform=encoder.transform.as_dict(),
        card=encoder.card.model_dump(),
        features=encoder.num_features,
    )


def photo_list(photos: Any) -> list[Any]:
    """Many photos as a list; folders and globs in natural order.

    Raises:
        PictureError: it is one photo, or there are none.
    """
    if is_single(photos):
        raise PictureError(f"{photos!r:.80}: one photo, where a list is needed; pass [photo].")
    found = list(expand(photos))
    if not found:
        raise PictureError("There are no photos (0 samples); pass at least one.")
    return found


def photo_name(photo: Any, position: int) -> str:
    """What a photo is called: its path, or its position."""
    return describe(photo) if isinstance(photo, str) or hasattr(photo, "__fspath__") else f"#{position}"


def encoder_of(model: Model, compute: Compute) -> Any:
    """The encoder behind a name, loaded once; a loaded encoder is returned as it is."""
    model = by_name(model)
    if not isinstance(model, str):
        return model
    key = (model, model_stamp(model), str(compute.torch_device), compute.torch_dtype)
    if key not in _encoders:
        encoder, _ = load_fast(model, device=compute.torch_device, dtype=compute.torch_dtype)
        _encoders[key] = encoder.requires_grad_(False)
    return _remember(_encoders, key, _MOST_ENCODERS)


def device_of(encoder: Any) -> torch.device:
    """Where an encoder lies: one that the caller loaded stays where it is."""
    return next(encoder.parameters()).device  # type: ignore[no-any-return]


def embeddings_of(photos: Sequence[Any], models: Sequence[Model], compute: Compute) -> np.ndarray:
    """Embeddings of all encoders side by side, ``float64 (N, D1 + D2 + ...)``."""
    return np.concatenate([_one_encoder(photos, model, compute) for model in models], axis=1)


def models_of(model: Model, fuse_with: Any) -> list[Model]:
    """The encoders of an adapter, the first one leading.

    Raises:
        ConfigError: the same one twice.
    """
    others = [] if fuse_with is None else fuse_with
    if not isinstance(others, list | tuple):
        others = [others]
    models: list[Model] = [by_name(one) for one in (model, *others)]
    names = [one for one in models if isinstance(one, str)]
    if len(set(names)) < len(names):
        raise ConfigError(f"fuse_with repeats an encoder: {names}. Fuse different ones.")
    return models


def _one_encoder(photos: Sequence[Any], model: Model, compute: Compute) -> np.ndarray:
    encoder = encoder_of(model, compute)
    base = (encoder.weights_sha256, encoder.transform.hash, encoder.dtype)
    # a caller's own module may have been trained since: its hash says nothing about that
    keys = [None if not isinstance(model, str) else photo_key(photo, base) for photo in photos]
    missing: dict[Hashable, int] = {}
    for position, key in enumerate(keys):
        if key is None or key not in _rows:
            missing.setdefault(position if key is None else key, position)
    fresh: dict[Hashable, np.ndarray] = {}
    if missing:
        rows = encode([photos[p] for p in missing.values()], encoder, progress=compute.progress)
        fresh = dict(zip(missing, rows, strict=True))
    found = [
        fresh[key if key is not None else p] if (key if key is not None else p) in fresh else _rows[key]
        for p, key in enumerate(keys)
    ]
    for key, row in fresh.items():
        if not isinstance(key, int):
            _rows[key] = row
            _remember(_rows, key, _MOST_ROWS)
    return np.stack(found).astype(np.float64)


def photo_key(photo: Any, base: tuple[Any, ...] = ()) -> Hashable | None:
    """What tells photos apart: path, size and time of a file with frame and crop, the hash of anything else.

    None where a photo cannot be looked at: its error belongs to whoever decodes it.
    """
    path = photo.get("path") if isinstance(photo, dict) and not photo.get("bytes") else photo
    if isinstance(path, str | Path):
        try:
            status = os.stat(path)  # noqa: PTH116  called once a photo
        except (OSError, ValueError):
            return None
        file = str(Path(path).resolve()), status.st_size, status.st_mtime_ns
        return (*base, *file, which_picture(photo))
    try:
        picture = np.empty(0) if isinstance(photo, bytes) else read_picture(photo)
    except PictureError:
        return None
    data = photo if isinstance(photo, bytes) else picture.tobytes()
    return (*base, hashlib.sha256(data).hexdigest(), picture.shape, which_picture(photo))


def model_stamp(model: str) -> int:
    """Changes when a folder's weights are written anew; 0 for names."""
    config = Path(model) / "config.json"
    return config.stat().st_mtime_ns if config.is_file() else 0


def _remember(store: OrderedDict[Hashable, Any], key: Hashable, most: int) -> Any:
    store.move_to_end(key)
    while len(store) > most:
        store.popitem(last=False)
    return store[key]
