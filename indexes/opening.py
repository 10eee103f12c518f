"""``retina_fm.index``: from photos or embeddings to something that can be searched."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes import changing
from retina_fm.indexes.image_index import ImageIndex
from retina_fm.indexes.manifest import FILE, Manifest
from retina_fm.indexes.models import identity_of, require_same
from retina_fm.indexes.queries import are_embeddings
from retina_fm.indexes.snapshot import empty_snapshot
from retina_fm.indexes.space import METRICS, Space
from retina_fm.models import RetinalEncoder

DEFAULT_STORE = ".retina-fm-index"
"""Folder of the index that lies in a folder of photos."""


class _Default(str):
    """The model that nobody asked for, so that plain embeddings have none."""


DEFAULT_MODEL: str = _Default("fundus2video")


def index(
    photos: Any,
    model: str | RetinalEncoder | None = DEFAULT_MODEL,
    *,
    metric: str = "cosine",
    store: str | Path | None = None,
    metadata: Any = None,
    paths: Sequence[str] | None = None,
    whiten: bool | None = None,
    vectors: Literal["float32", "float16"] = "float32",
    on_error: Literal["raise", "skip"] = "raise",
    wait: float = 0.0,
    **settings: Any,
) -> ImageIndex:
    """Build an index, or open it and bring it up to date.

    New photos and changed ones (by size and time, then by content) are encoded; files that were only touched,
    renamed or copied are not; rows whose file is gone are dropped. A killed call continues where it was.

    Args:
        photos: as :func:`retina_fm.encode` takes many, or embeddings ``(N, D)`` (a float array of rank 2).
        model: name, weights folder or loaded encoder; for plain embeddings None, or what made them.
        metric: ``cosine`` or ``dot``.
        store: folder of the index. Without it, a folder of photos gets it in ``.retina-fm-index`` inside,
            and anything else is indexed in memory.
        metadata: CSV or Parquet file, data frame, list of dictionaries or mapping, with a column ``path``
            (relative to the file, or to the folder of photos); without it, one row a picture in order.
        paths: names of embeddings; row numbers without it.
        whiten: apply the whitening that ships with the model, with ``cosine``; None does so where there is
            one. Embeddings are kept as the model gave them either way.
        vectors: type in which embeddings are kept; ``float16`` halves the disk and rounds scores.
        on_error: ``"skip"`` leaves out photos that cannot be read; they are tried again next time.
        wait: seconds to wait for another writer.
        **settings: of :func:`retina_fm.encode_to`: ``device``, ``dtype``, ``batch_size``, ``workers``,
            ``progress``, ``compile``.

    Returns:
        The index; ``.report`` says what was done.

    Raises:
        IndexMismatchError: the store was made with another model, transform, metric or dimension.
        IndexDamagedError: files of the store are cut or missing.
        NoPicturesError: a folder without pictures.
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished is kept.
        OutputError: another process writes, or the disk is full.
        ConfigError: an argument makes no sense.
    """
    plain = are_embeddings(photos)
    if plain and isinstance(model, _Default):
        model = None
    if not plain and model is None:
        raise ConfigError("model=None goes with embeddings (N, D); photos need a model.")
    if not plain and paths is not None:
        raise ConfigError("paths= names embeddings; photos have their own paths.")
    if vectors not in ("float32", "float16"):
        raise ConfigError(f"vectors is {vectors!r}; use 'float32' or 'float16'.")
    Space(metric)  # refuses an unknown one
    if whiten and metric != "cosine":
        raise ConfigError(f"Whitening goes with metric='cosine', not with {metric!r}.")
    folder = _place(photos, store, plain)
    identity, whitening = identity_of(model) if model is not None else (None, None)
    if metric != "cosine":
        whitening = None
    if whiten and whitening is None:
        raise ConfigError("whiten=True, but the model ships no whitening.")
    if folder is not None and (folder / FILE).exists():
        found = ImageIndex.open(folder, **_model_settings(settings))
        require_same(found.manifest.model, identity)
        if found.manifest.metric != metric:
            raise IndexMismatchError(
                f"The index {folder} was made with metric={found.manifest.metric!r}, not {metric!r}; use it, "
                "or another store."
            )
        if whiten is not None and whiten != found.manifest.whiten:
            raise IndexMismatchError(
                f"The index {folder} was made with whiten={found.manifest.whiten}; "
                f"ImageIndex.open(..., whiten={whiten}) searches it the other way."
            )
        found._model = model if model is not None and not isinstance(model, str) else found._model
    else:
        manifest = Manifest(
            metric=metric,
            dtype=vectors,
            model=identity,
            whiten=whitening is not None and whiten is not False,
        )
        loaded = model if not isinstance(model, str) else None
        found = ImageIndex(
            manifest,
            empty_snapshot(),
            folder=folder,
            whitening=whitening,
            model=loaded,
            settings=_model_settings(settings),
        )
    rest = {name: value for name, value in settings.items() if name not in ("device", "dtype")}
    request = changing.Request(
        photos=photos,
        paths=paths,
        metadata=metadata,
        on_error=on_error,
        wait=wait,
        drop_missing=True,
        settings=rest,
    )
    changing.update(found, request)
    return found


def default_store(folder: str | os.PathLike[str]) -> Path:
    """Where the index of a folder of photos lies unless another place is named."""
    return Path(folder) / DEFAULT_STORE


def find_store(place: str | os.PathLike[str]) -> Path:
    """The index meant by its own folder, or by the folder of photos that it lies in."""
    inside = default_store(place)
    return inside if not (Path(place) / FILE).exists() and (inside / FILE).exists() else Path(place)


def _place(photos: Any, store: str | Path | None, plain: bool) -> Path | None:
    if store is not None:
        return Path(store)
    if not plain and isinstance(photos, str | os.PathLike) and Path(photos).is_dir():
        return default_store(photos)
    return None


def _model_settings(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: settings[name] for name in ("device", "dtype") if name in settings}


__all__ = ["METRICS", "default_store", "find_store", "index"]
