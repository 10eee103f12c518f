"""The model behind an index: told apart without loading it, loaded only when a photo must be encoded."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import IndexMismatchError, LicenceNotice
from retina_fm.indexes.state import ModelIdentity
from retina_fm.models import (
    Model,
    RetinalEncoder,
    Whitening,
    by_name,
    load,
    read_config,
    read_signature_basis,
    read_whitening,
    resolve,
)
from retina_fm.models.fundus2video import KIND
from retina_fm.models.places import Remembered
from retina_fm.signatures import SignatureBasis

TIMM = "timm/"


def basis_of(model: Model) -> SignatureBasis | None:
    """The basis of the signatures that a model reads, None where it reads none; weights are not loaded."""
    model = by_name(model)
    if not isinstance(model, str):
        return getattr(model, "signature_basis", None)
    if model.startswith(TIMM) or not read_config(folder := resolve(model)).kind.startswith(KIND):
        return None
    return read_signature_basis(folder)


def identity_of(model: Model) -> tuple[ModelIdentity, Whitening | None]:
    """What makes a model's embeddings the ones they are, and its whitening.

    Only the configuration of a weights folder is read; ``timm/NAME`` has to be loaded.
    """
    model = by_name(model)
    if isinstance(model, str) and not model.startswith(TIMM):
        folder = resolve(model)
        config = read_config(folder)
        reference = str(folder.resolve()) if Path(model) == folder and os.path.isdir(model) else model  # noqa: PTH112
        identity = ModelIdentity(reference, config.name, config.sha256, config.transform.hash)
        return identity, read_whitening(folder)
    encoder: Any = load(model) if isinstance(model, str) else model
    reference = model if isinstance(model, str) else encoder.name
    identity = ModelIdentity(reference, encoder.name, encoder.weights_sha256, encoder.transform.hash)
    return identity, getattr(encoder, "whitening", None)


def whitening_of(identity: ModelIdentity) -> Whitening | None:
    """The whitening that ships with a model which a file names, None where it ships none.

    Raises:
        RetinaError: the model is not on this machine, or has other weights or another transform.
    """
    if identity.reference.startswith(TIMM):
        return None
    found, whitening = identity_of(Remembered(identity.reference))
    require_same(identity, found)
    return whitening


class LazyEmbedder:
    """An encoder that is loaded when the first photo needs it, and checked against the index.

    Attributes:
        expected: what the index was made with.
    """

    def __init__(self, expected: ModelIdentity, model: Model | None, **settings: Any) -> None:
        self.expected = expected
        self.model = model if model is not None else Remembered(expected.reference)
        self.settings = {"device": None, "dtype": "auto", **settings}
        self._embedder: Any = None

    def encoder(self) -> RetinalEncoder:
        """The loaded encoder, on its device and in its number type.

        Raises:
            IndexMismatchError: its weights or transform are not those of the index.
        """
        if self._embedder is None:
            from retina_fm.encoding.embedder import Embedder

            with warnings.catch_warnings():
                warnings.simplefilter("ignore", LicenceNotice)  # it was shown when the index was built
                embedder = Embedder(self.model, **self.settings)
            found = embedder.encoder
            identity = ModelIdentity(str(self.model), found.name, found.weights_sha256, found.transform.hash)
            require_same(self.expected, identity)
            self._embedder = embedder
        encoder: RetinalEncoder = self._embedder.encoder
        return encoder

    def both(
        self, photos: list[Any], basis: SignatureBasis
    ) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Embeddings ``(N, D)`` and signatures ``(N, K)`` of photos, these in the index's own basis.

        Raises:
            PictureError: one cannot be read.
        """
        from retina_fm.encoding.work import decode

        transform, found = self.encoder().transform, []
        for start in range(0, len(photos), self._embedder.batch_size):
            some = photos[start : start + self._embedder.batch_size]
            items = [decode(number, photo, transform) for number, photo in enumerate(some)]
            for item in items:
                if item.error is not None:
                    raise item.error
            found.append(self._embedder.both(items, basis))
        embeddings, signatures = zip(*found, strict=True)
        return np.concatenate(embeddings), np.concatenate(signatures)


def require_same(expected: ModelIdentity | None, found: ModelIdentity | None) -> None:
    """Refuse a model that the index was not made with.

    Raises:
        IndexMismatchError: they differ; the message says in what.
    """
    if expected is None and found is None:
        return
    if expected is None or found is None:
        raise IndexMismatchError(
            "This index holds " + ("embeddings of the caller's own" if expected is None else "photos")
            + "; photos and plain embeddings do not go into one index."
        )  # fmt: skip
    difference = expected.difference(found)
    if difference:
        raise IndexMismatchError(
            f"The index was made with {difference}. Use the model it was made with, or another store."
        )


def check_model(expected: ModelIdentity | None, model: Model) -> None:
    """Refuse a model that an index was not made with.

    Raises:
        IndexMismatchError: they differ.
    """
    require_same(expected, identity_of(model)[0])
