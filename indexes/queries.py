"""What a caller searches for, as embeddings: stored ones where the picture is known, encoded ones else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.encoding.rows import key_of
from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes.models import LazyEmbedder
from retina_fm.indexes.space import check_embeddings
from retina_fm.indexes.state import State, stored_path
from retina_fm.pictures import describe, expand, is_single
from retina_fm.pictures.arrays import is_tensor


@dataclass(frozen=True)
class Queries:
    """Queries that are ready.

    Attributes:
        embeddings: ``(Q, D)``.
        signatures: ``(Q, K)`` where the index holds them and they are asked for, else None.
        photos: of each, in the form it was given; None for an embedding.
        names: of each, for people.
        positions: of each in the index, -1 where it is not there.
        single: whether the caller asked for one.
    """

    embeddings: NDArray[np.float32]
    signatures: NDArray[np.float32] | None
    photos: list[Any]
    names: list[str]
    positions: NDArray[np.int64]
    single: bool


def are_embeddings(value: Any) -> bool:
    """Whether a value is embeddings rather than pictures: a float array of rank 1 or 2."""
    if is_tensor(value):
        return bool(value.ndim in (1, 2) and value.is_floating_point())
    return isinstance(value, np.ndarray) and value.ndim in (1, 2) and value.dtype.kind == "f"


def as_matrix(value: Any, dimension: int | None) -> tuple[NDArray[np.float32], bool]:
    """Embeddings as a matrix, and whether it was a single one."""
    array = value.detach().cpu().float().numpy() if is_tensor(value) else value
    single = array.ndim == 1
    return check_embeddings(array[None] if single else array, dimension), single


def prepare(query: Any, state: State, embedder: LazyEmbedder | None, signs: bool = False) -> Queries:
    """Embeddings of whatever is asked for, and signatures where these are to be compared.

    Args:
        query: photos; or rows ``(D,)``, ``(Q, D)``, where signatures are compared also signatures ``(Q, K)``,
            or both beside each other, ``(Q, D + K)``.
        state: of the index.
        embedder: its model.
        signs: whether signatures are compared.

    Raises:
        ConfigError: embeddings of another length, or not finite.
        IndexMismatchError: a picture, where the index holds plain embeddings.
        PictureError: a picture that cannot be read.
    """
    if are_embeddings(query):
        matrix, signatures, single = _given(query, state, signs)
        names = [f"vector {number}" for number in range(len(matrix))]
        return Queries(
            matrix, signatures, [None] * len(matrix), names, np.full(len(matrix), -1, np.int64), single
        )
    if embedder is None:
        raise IndexMismatchError(
            f"{describe(query)}: this index holds plain embeddings and knows no model; search it with "
            "embeddings of the same kind."
        )
    single = is_single(query)
    photos = [query] if single else list(expand(query))
    places = state.find([_stored(photo, state.folder or Path()) for photo in photos])
    known = _unchanged(photos, places, state)
    embeddings = np.empty((len(photos), state.dimension), np.float32)
    embeddings[known] = state.vectors.take(places[known])
    signatures = None
    if signs:
        assert state.signatures is not None and state.basis is not None
        signatures = np.empty((len(photos), state.signatures.dimension), np.float32)
        signatures[known] = state.signatures.take(places[known])
    if not known.all():
        missing = [photo for photo, there in zip(photos, known, strict=True) if not there]
        if signatures is not None and state.basis is not None:
            found, signatures[~known] = embedder.both(missing, state.basis)
        else:
            from retina_fm.encoding import encode

            found = encode(missing, embedder.encoder(), progress=None)
        embeddings[~known] = check_embeddings(found, state.dimension)
    names = [os.fspath(p) if isinstance(p, str | os.PathLike) else describe(p) for p in photos]
    return Queries(embeddings, signatures, photos, names, places, single)


def _given(
    query: Any, state: State, signs: bool
) -> tuple[NDArray[np.float32], NDArray[np.float32] | None, bool]:
    """Rows that a caller has himself, as embeddings and signatures; what he lacks is zeros."""
    if not signs or state.basis is None:
        matrix, single = as_matrix(query, state.dimension)
        return matrix, None, single
    matrix, single = as_matrix(query, None)
    width, length = state.dimension, state.basis.length
    if matrix.shape[1] not in (width, length, width + length):
        raise ConfigError(
            f"Rows have length {matrix.shape[1]}; embeddings have {width}, signatures {length}, both "
            f"beside each other {width + length}."
        )
    embeddings, signatures = (
        np.zeros((len(matrix), width), np.float32),
        np.zeros((len(matrix), length), np.float32),
    )
    if matrix.shape[1] != length:
        embeddings = matrix[:, :width]
    if matrix.shape[1] != width:
        signatures = matrix[:, -length:]
    return embeddings, signatures, single


def _stored(photo: Any, folder: Path) -> str:
    """The path of a file or of one of its frames as the index holds it; nothing for what is no file."""
    path = file_of(photo)
    if path is None:
        return ""
    try:
        if isinstance(photo, dict) and photo.get("frame") is not None:
            return key_of(photo, folder, 0).path
        return stored_path(path, folder)
    except ConfigError:
        return ""


def _unchanged(photos: list[Any], places: NDArray[np.int64], state: State) -> NDArray[np.bool_]:
    """Files whose size and time are those of their row: nothing needs to be encoded."""
    rows = state.among("_place, _size, _mtime_ns", "_place", places[places >= 0].tolist())
    known = {place: (size, mtime) for place, size, mtime in rows}
    same = [place >= 0 and known[place] == _size_and_time(photo)
            for photo, place in zip(photos, places.tolist(), strict=True)]  # fmt: skip
    return np.array(same, np.bool_)


def file_of(photo: Any) -> str | os.PathLike[str] | None:
    """The file of a photo that is given as one."""
    path = photo.get("path") if isinstance(photo, dict) and not photo.get("bytes") else photo
    return path if isinstance(path, str | os.PathLike) else None


def _size_and_time(photo: Any) -> tuple[int, int] | None:
    path = file_of(photo)
    try:
        status = os.stat(path)  # type: ignore[arg-type]  # noqa: PTH116
    except (OSError, TypeError):
        return None
    return status.st_size, status.st_mtime_ns
