"""What a caller searches for, as embeddings: stored ones where the picture is known, encoded ones else."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes.models import LazyEmbedder
from retina_fm.indexes.rows import stored_path
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.indexes.space import check_embeddings
from retina_fm.pictures import describe, expand, is_single
from retina_fm.pictures.arrays import is_tensor


@dataclass(frozen=True)
class Queries:
    """Queries that are ready.

    Attributes:
        embeddings: ``(Q, D)``.
        names: of each, for people.
        positions: of each in the index, -1 where it is not there.
        single: whether the caller asked for one.
    """

    embeddings: NDArray[np.float32]
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


def prepare(
    query: Any, snapshot: Snapshot, folder: Path, embedder: LazyEmbedder | None, dimension: int
) -> Queries:
    """Embeddings of whatever is asked for.

    Raises:
        ConfigError: embeddings of another length, or not finite.
        IndexMismatchError: a picture, where the index holds plain embeddings.
        PictureError: a picture that cannot be read.
    """
    if are_embeddings(query):
        matrix, single = as_matrix(query, dimension)
        names = [f"vector {number}" for number in range(len(matrix))]
        return Queries(matrix, names, np.full(len(matrix), -1, np.int64), single)
    if embedder is None:
        raise IndexMismatchError(
            f"{describe(query)}: this index holds plain embeddings and knows no model; search it with "
            "embeddings of the same kind."
        )
    single = is_single(query)
    photos = [query] if single else list(expand(query))
    positions = positions_of(photos, snapshot, folder)
    known = _unchanged(photos, positions, snapshot)
    embeddings = np.empty((len(photos), dimension), np.float32)
    embeddings[known] = snapshot.take(positions[known])
    if not known.all():
        from retina_fm.encoding import encode

        missing = [photo for photo, there in zip(photos, known, strict=True) if not there]
        found = encode(missing, embedder.encoder(), progress=None)
        embeddings[~known] = check_embeddings(found, dimension)
    return Queries(embeddings, [_name(photo) for photo in photos], positions, single)


def positions_of(photos: list[Any], snapshot: Snapshot, folder: Path) -> NDArray[np.int64]:
    """Where files lie in the index, -1 for what is not there."""
    return snapshot.find([_stored(photo, folder) for photo in photos])


def _stored(photo: Any, folder: Path) -> str:
    """A file's path as the index holds it; nothing for what is no file."""
    if not isinstance(photo, str | os.PathLike):
        return ""
    try:
        return stored_path(photo, folder)
    except ConfigError:
        return ""


def _unchanged(photos: list[Any], positions: NDArray[np.int64], snapshot: Snapshot) -> NDArray[np.bool_]:
    """Files whose size and time are those of their row: nothing needs to be encoded."""
    same = np.zeros(len(photos), np.bool_)
    there = np.flatnonzero(positions >= 0)
    table = (
        snapshot.rows.select(["size", "mtime_ns"]).take(pa.array(positions[there])) if len(there) else None
    )
    for line, number in enumerate(there):
        assert table is not None
        row = (table.column(0)[line].as_py(), table.column(1)[line].as_py())
        same[number] = row == _size_and_time(photos[number])
    return same


def _size_and_time(path: Any) -> tuple[int, int] | None:
    try:
        status = os.stat(path)  # noqa: PTH116
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _name(photo: Any) -> str:
    return os.fspath(photo) if isinstance(photo, str | os.PathLike) else describe(photo)
