"""Photos to embeddings as a scikit-learn transformer."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.validation import check_is_fitted

from retina_fm._io.files import canonical_json, write_bytes
from retina_fm._io.seals import npy_bytes, read_npy
from retina_fm.encoding.embedder import load_fast
from retina_fm.encoding.in_memory import encode
from retina_fm.errors import ConfigError
from retina_fm.models import Model, by_name
from retina_fm.pictures import expand
from retina_fm.pictures.pages import which_picture

if TYPE_CHECKING:
    from typing_extensions import Self


class Embedder(TransformerMixin, BaseEstimator):  # type: ignore[misc]
    """Embeddings of photos, to stand before any estimator of scikit-learn.

    It learns nothing: ``fit`` loads the model and notes how long its embeddings are.

    Args:
        model: a name that :func:`retina_fm.load` takes, or a loaded encoder (which is then copied and pickled
            with the transformer).
        batch_size: views a forward pass; chosen for the device without it.
        workers: decoding processes; chosen without it, 0 decodes in this process.
        device: the first GPU or the CPU without it.
        dtype: number type, ``"auto"`` as for :func:`retina_fm.encode`.
        cache: a folder that keeps each photo's embedding under what determines it (the photo's content, the
            weights, the transform, the number type); None keeps none. It may be shared and removed at will.

    Attributes:
        n_features_out_: length D of an embedding.
        weights_sha256_: of the model fitted with; another one under the same name is refused.

    Example:
        >>> from sklearn.linear_model import LogisticRegression
        >>> from sklearn.pipeline import make_pipeline
        >>> pipeline = make_pipeline(Embedder(cache="cache/"), LogisticRegression())  # doctest: +SKIP
        >>> pipeline.fit(photos, grades).predict(more_photos)  # doctest: +SKIP

    See Also:
        retina_fm.encode: the same as a function.
        retina_fm.adapt: heads, fusion, few shots and patients kept apart.
    """

    n_features_out_: int
    weights_sha256_: str

    def __init__(
        self,
        model: Model = "fundus2video",
        *,
        batch_size: int | None = None,
        workers: int | None = None,
        device: str | None = None,
        dtype: str = "auto",
        cache: str | Path | None = None,
    ) -> None:
        self.model = model
        self.batch_size = batch_size
        self.workers = workers
        self.device = device
        self.dtype = dtype
        self.cache = cache

    def fit(self, photos: Any = None, y: Any = None) -> Self:  # noqa: ARG002
        """Load the model; photos and labels are not looked at.

        Raises:
            UnknownModelError, WeightsNotFoundError, WeightsError: the model cannot be loaded.
        """
        encoder = self._loaded()
        self.n_features_out_ = int(encoder.num_features)
        self.weights_sha256_ = encoder.weights_sha256
        return self

    def transform(self, photos: Any) -> np.ndarray:
        """Embeddings ``(N, D)`` float32 of many photos, or ``(1, D)`` of one, in input order.

        Args:
            photos: as :func:`retina_fm.encode` takes them.

        Raises:
            NotFittedError: before ``fit``.
            PictureError: a photo cannot be read.
            ConfigError: the model has other weights than the one fitted with.
        """
        check_is_fitted(self)
        encoder = self._loaded()
        if encoder.weights_sha256 != self.weights_sha256_:
            raise ConfigError(
                f"{encoder.name} has weights {encoder.weights_sha256[:12]}..., the embedder was fitted with "
                f"{self.weights_sha256_[:12]}...: what follows it expects those. Fit again."
            )
        found = list(expand(photos))
        rows = np.empty((len(found), self.n_features_out_), np.float32)
        places = [self._place(photo, encoder) for photo in found]
        missing = []
        for number, place in enumerate(places):
            kept = None if place is None else _read(place, self.n_features_out_)
            if kept is None:
                missing.append(number)
            else:
                rows[number] = kept
        if missing:
            rows[missing] = encode(
                [found[number] for number in missing],
                encoder,
                batch_size=self.batch_size,
                workers=self.workers,
                progress=False,
            )
        for number in missing:
            place = places[number]
            if place is not None:
                write_bytes(place, npy_bytes(rows[number]))
        return rows

    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:  # noqa: ARG002
        """``embedder0``, ``embedder1`` and so on, one a dimension; a photo has no features to name."""
        check_is_fitted(self)
        return np.array([f"embedder{number}" for number in range(self.n_features_out_)], dtype=object)

    def _loaded(self) -> Any:
        model = by_name(self.model)
        if not isinstance(model, str):
            return model
        wanted = (model, self.device, self.dtype)
        if getattr(self, "_loaded_as", None) != wanted:
            self._encoder, _ = load_fast(model, device=self.device, dtype=self.dtype)
            self._loaded_as = wanted
        return self._encoder

    def _place(self, photo: Any, encoder: Any) -> Path | None:
        """Where a photo's embedding is kept, or None where it is not to be."""
        content = None if self.cache is None else _content(photo)
        if content is None or self.cache is None:
            return None
        identity = {
            "photo": hashlib.sha256(content + which_picture(photo).encode()).hexdigest(),
            "weights": encoder.weights_sha256,
            "transform": encoder.transform.hash,
            "dtype": str(encoder.dtype),
        }
        key = hashlib.sha256(canonical_json(identity)).hexdigest()
        return Path(self.cache) / key[:2] / f"{key}.npy"

    def __getstate__(self) -> dict[str, Any]:
        # a name is loaded again wherever the copy wakes up, in the device's own number type
        state = dict(super().__getstate__())
        return {key: value for key, value in state.items() if key not in ("_encoder", "_loaded_as")}

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.no_validation = True
        return tags


def _content(photo: Any) -> bytes | None:
    """Bytes that determine what a photo shows, or None for a form that would have to be read twice."""
    if isinstance(photo, dict):
        photo = photo.get("bytes") or photo.get("path")
    if isinstance(photo, str | os.PathLike):
        try:
            return Path(photo).read_bytes()
        except OSError:
            return None  # the reader says what is wrong with it
    if isinstance(photo, bytes | bytearray | memoryview):
        return bytes(photo)
    if isinstance(photo, Image.Image):
        shape = f"{photo.mode}{photo.size}{photo.getexif().get(0x0112)}".encode()
        return shape + photo.tobytes()
    if isinstance(photo, torch.Tensor):
        photo = photo.detach().cpu().numpy()
        return b"tensor" + f"{photo.dtype}{photo.shape}".encode() + bytes(photo.tobytes())
    if isinstance(photo, np.ndarray) and photo.dtype != object:
        return f"{photo.dtype}{photo.shape}".encode() + photo.tobytes()
    return None


def _read(place: Path, length: int) -> np.ndarray | None:
    try:
        found = read_npy(place)
    except (OSError, ValueError):
        return None  # not there, or damaged: it is computed again
    return found if found.shape == (length,) and np.isfinite(found).all() else None
