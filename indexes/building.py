"""Which photos an index lacks, and their rows: encoded, or copied where the content is known already."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of
from retina_fm.encoding import encode_to
from retina_fm.encoding.rows import key_of
from retina_fm.errors import ConfigError
from retina_fm.indexes.models import LazyEmbedder
from retina_fm.indexes.rows import Rows, stored_path, usable_path
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.pictures import expand

CHUNK = 10_000
"""Photos between two commits."""
SCRATCH = ".encoding.parquet"


@dataclass
class Changes:
    """What bringing an index up to date comes to.

    Attributes:
        kept: rows whose file has the same size and time.
        encode: new photos, and changed ones.
        copied: (stored path, size, mtime, hash, position) of files whose content the index knows: touched,
            renamed or copied ones.
        outdated: positions of rows that the new ones replace.
        gone: positions of rows whose file is no more.
        hashes: of the files to be encoded, by stored path.
        given: stored paths in the order of the photos.
    """

    kept: int = 0
    encode: list[Any] = field(default_factory=list)
    copied: list[tuple[str, int, int, str, int]] = field(default_factory=list)
    outdated: list[int] = field(default_factory=list)
    gone: list[int] = field(default_factory=list)
    hashes: dict[str, str] = field(default_factory=dict)
    given: list[str] = field(default_factory=list)


def compare(photos: Any, snapshot: Snapshot, folder: Path, *, drop_missing: bool) -> Changes:
    """Compare photos with an index: by size and time, then by content.

    Args:
        photos: as :func:`retina_fm.encode` takes them.
        snapshot: the index.
        folder: that stored paths are relative to.
        drop_missing: whether rows go whose file is neither among the photos nor on the disk any more.
    """
    changes = Changes()
    live = snapshot.live_positions
    known = _known_rows(snapshot)
    by_hash: dict[str | None, int] = {row[2]: position for position, row in known.values() if row[2]}
    seen: set[str] = set()
    for number, photo in enumerate(expand(photos)):
        if not isinstance(photo, str | Path):
            key = key_of(photo, folder, number)
            if key.path not in seen:
                seen.add(key.path)
                changes.given.append(key.path)
                if key.path in known:
                    changes.kept += 1
                else:
                    changes.encode.append(photo)
            continue
        path = stored_path(photo, folder)
        if path in seen:
            continue
        seen.add(path)
        changes.given.append(path)
        _compare_file(photo, path, known, by_hash, changes)
    if drop_missing:
        for path, (position, row) in known.items():
            is_file = row[1] > 0 or row[0] > 0
            if path not in seen and is_file and not os.path.exists(usable_path(path, folder)):  # noqa: PTH110
                changes.gone.append(position)
    assert len(known) == len(live)
    return changes


def _known_rows(snapshot: Snapshot) -> dict[str, tuple[int, tuple[int, int, str | None]]]:
    """Position, size, mtime and hash of the live rows, by stored path."""
    places = snapshot.live_positions
    table = snapshot.rows.take(pa.array(places))
    columns = [table.column(name).to_pylist() for name in ("path", "size", "mtime_ns", "sha256")]
    return {
        path: (int(place), (size, mtime, digest))
        for place, path, size, mtime, digest in zip(places, *columns, strict=True)
    }


def _compare_file(
    photo: str | Path,
    path: str,
    known: dict[str, tuple[int, tuple[int, int, str | None]]],
    by_hash: dict[str | None, int],
    changes: Changes,
) -> None:
    try:
        status = os.stat(photo)  # noqa: PTH116
        position, row = known.get(path, (-1, (-1, -1, None)))
        if row[:2] == (status.st_size, status.st_mtime_ns):
            changes.kept += 1
            return
        digest = sha256_of(Path(photo))
    except (OSError, ValueError):  # encoding says what is wrong with it
        changes.encode.append(photo)
        return
    if position >= 0:
        changes.outdated.append(position)
    source = position if position >= 0 and row[2] == digest else by_hash.get(digest, -1)
    if source >= 0:
        changes.copied.append((path, status.st_size, status.st_mtime_ns, digest, source))
    else:
        changes.hashes[path] = digest
        changes.encode.append(photo)


def copied_rows(changes: Changes, snapshot: Snapshot) -> Rows:
    """Rows for files whose content has an embedding already."""
    paths, sizes, mtimes, hashes, sources = zip(*changes.copied, strict=True)
    embeddings = snapshot.take(np.array(sources, np.int64))
    return Rows(list(paths), list(sizes), list(mtimes), list(hashes), embeddings)


def encoded_rows(
    changes: Changes,
    embedder: LazyEmbedder,
    folder: Path,
    *,
    on_error: Literal["raise", "skip"],
    skipped: list[tuple[str, str]],
    **settings: Any,
) -> Iterator[Rows]:
    """Encode what has to be, in chunks; a kill loses a second of work, since ``encode_to`` continues.

    Args:
        changes: see :func:`compare`.
        embedder: loaded when the first photo needs it.
        folder: where the unfinished table is kept.
        on_error: see :func:`retina_fm.encode`.
        skipped: photos that could not be read are added to it, each with the reason.
        **settings: of :func:`retina_fm.encode_to`.
    """
    scratch = folder / SCRATCH
    for start in range(0, len(changes.encode), CHUNK):
        some = changes.encode[start : start + CHUNK]
        report = encode_to(some, scratch, embedder.encoder(), on_error=on_error, overwrite=True, **settings)
        skipped += report.skipped
        yield rows_of_table(scratch, changes.hashes)
        clear_scratch(folder)


def rows_of_table(path: Path, hashes: dict[str, str]) -> Rows:
    """The rows of a table that ``encode_to`` wrote."""
    table = pq.read_table(path, columns=["path", "file_size", "file_mtime_ns", "embedding"])
    table = table.combine_chunks()
    names = table.column("path").to_pylist()
    column = table.column("embedding")
    vectors: NDArray[np.float32] = np.empty((0, column.type.list_size), np.float32)
    if table.num_rows:
        vectors = column.chunk(0).flatten().to_numpy().reshape(table.num_rows, -1)
    first: dict[str, int] = {}
    for number, name in enumerate(names):
        first.setdefault(name, number)  # a photo that was given twice is one row
    kept = list(first.values())
    sizes, mtimes = table.column("file_size").to_pylist(), table.column("file_mtime_ns").to_pylist()
    return Rows(
        [names[i] for i in kept],
        [sizes[i] for i in kept],
        [mtimes[i] for i in kept],
        [hashes.get(names[i]) for i in kept],
        vectors[kept],
    )


def clear_scratch(folder: Path) -> None:
    """Remove the table of a chunk that was committed."""
    for path in (folder / SCRATCH, folder / f".{SCRATCH}.lock"):
        path.unlink(missing_ok=True)


def named_rows(embeddings: NDArray[np.floating], paths: Iterable[str] | None, first: int) -> Rows:
    """Rows of plain embeddings; without paths they are called by their number.

    Raises:
        ConfigError: paths that repeat, or not one for each.
    """
    if paths is None:
        return Rows.named([str(first + number) for number in range(len(embeddings))], embeddings)
    names = [str(path) for path in paths]
    if len(names) != len(embeddings):
        raise ConfigError(f"{len(names)} paths for {len(embeddings)} embeddings; one each is needed.")
    if len(set(names)) < len(names):
        twice = next(name for number, name in enumerate(names) if name in names[:number])
        raise ConfigError(f"The path {twice!r} is given twice; each names one embedding.")
    return Rows.named(names, embeddings)
