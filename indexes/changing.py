"""Changes to an index: brought up to date, added to, removed from, moved to disk. Each ends in commits."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from retina_fm.encoding.rows import key_of
from retina_fm.errors import ConfigError, OutputError, SkippedPictures
from retina_fm.indexes import building
from retina_fm.indexes.cache import build_cache, is_stale, load_cache, save_cache
from retina_fm.indexes.compaction import compact, compact_if_due
from retina_fm.indexes.filters import Where, rows_where
from retina_fm.indexes.manifest import Manifest
from retina_fm.indexes.memory import extended, with_metadata
from retina_fm.indexes.metadata import merged_metadata
from retina_fm.indexes.models import identity_of, require_same
from retina_fm.indexes.queries import are_embeddings, as_matrix
from retina_fm.indexes.rows import Rows, stored_path
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.indexes.store import PART_ROWS, Writer, reporting, writing
from retina_fm.models import RetinalEncoder

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex

logger = logging.getLogger("retina_fm")


@dataclass(frozen=True)
class UpdateReport:
    """What a change came to.

    Attributes:
        total: pictures in the index.
        unchanged: files with the same size and time.
        encoded: pictures that went through the model.
        copied: files whose content the index knew: touched, renamed or copied ones.
        replaced: of the encoded and copied ones, those whose path was in the index before.
        removed: pictures that left the index.
        skipped: photos that could not be read, with the reason.
    """

    total: int = 0
    unchanged: int = 0
    encoded: int = 0
    copied: int = 0
    replaced: int = 0
    removed: int = 0
    skipped: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True)
class Request:
    """What :meth:`ImageIndex.add` and :func:`retina_fm.index` were asked for."""

    photos: Any
    paths: Sequence[str] | None = None
    metadata: Any = None
    on_error: Literal["raise", "skip"] = "raise"
    build: bool = True
    wait: float = 0.0
    drop_missing: bool = False
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass
class _Tally:
    unchanged: int = 0
    encoded: int = 0
    copied: int = 0
    replaced: int = 0
    removed: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


def check_model(manifest: Manifest, model: str | RetinalEncoder) -> None:
    """Refuse a model that an index was not made with.

    Raises:
        IndexMismatchError: they differ.
    """
    require_same(manifest.model, identity_of(model)[0])


def update(index: ImageIndex, request: Request) -> None:
    """Add what is new, replace what changed, and, where it is asked for, drop what is gone.

    Raises:
        OutputError: another process writes, or the disk is full; what was committed stays.
        PictureError: a photo cannot be read (``on_error="raise"``); what was committed stays.
    """
    tally = _Tally()
    if index.folder is None:
        state = _Memory(index)
        _apply(index, state, request, tally)
    else:
        with writing(index.folder, request.wait) as writer:
            if writer.exists:
                index.reload()  # another writer may have been here since it was opened
            disk = _Disk(index, writer)
            _apply(index, disk, request, tally)
            building.clear_scratch(index.folder)
            if compact_if_due(writer, index.snapshot.ids[~index.snapshot.live]):
                index.reload()
            if request.build:
                refresh_cache(index, writer)
    if tally.skipped:
        names, reasons = zip(*tally.skipped, strict=True)
        warnings.warn(SkippedPictures(list(range(len(names))), list(reasons)), stacklevel=4)
    index.report = UpdateReport(len(index), **{**tally.__dict__, "skipped": tuple(tally.skipped)})


def refresh_cache(index: ImageIndex, writer: Writer, force: bool = False) -> bool:
    """Make ``index.faiss`` again where it is missing, unfit or too far behind.

    Returns:
        Whether it was made.
    """
    assert index.folder is not None
    snapshot = index.snapshot
    if not snapshot.total or index.space_is_not_stored:
        return False
    found = None if force else load_cache(index.folder, snapshot, index.space)
    if not is_stale(found, snapshot):
        return False
    cache = build_cache(snapshot, index.space)
    with reporting(index.folder):
        about = save_cache(index.folder, cache)
    recall = None
    if about.setting is not None:
        recall = {"k": 10, **about.setting.__dict__, "rows": about.count, "factory": about.factory}
    if recall != writer.manifest.recall:
        writer.manifest = writer.manifest.with_changes(recall=recall)
        writer.commit()
    index.reload()
    return True


def remove(
    index: ImageIndex, paths: str | Path | Sequence[str | Path] | None, where: Where | None, wait: float
) -> int:
    """See :meth:`ImageIndex.remove`."""
    if (paths is None) == (where is None):
        raise ConfigError("Say what to remove: either paths or where=.")
    if index.folder is None:
        places = _named(index, paths, where)
        nothing = Rows.named([], np.empty((0, index.snapshot.dimension), np.float32))
        _Memory(index).append(nothing, places)
    else:
        with writing(index.folder, wait) as writer:
            index.reload()
            places = _named(index, paths, where)
            _Disk(index, writer).append(None, places)
            if compact_if_due(writer, index.snapshot.ids[~index.snapshot.live]):
                index.reload()
    index.report = UpdateReport(len(index), removed=len(places))
    return len(places)


def compact_now(index: ImageIndex, wait: float) -> None:
    """See :meth:`ImageIndex.compact`."""
    if index.folder is None:
        places = index.snapshot.live_positions
        rows = _rows_at(index.snapshot, places)
        index._adopt(index.manifest, _fresh(rows, index), None)
        return
    with writing(index.folder, wait) as writer:
        index.reload()
        snapshot = index.snapshot
        compact(writer, snapshot.ids[~snapshot.live])
        index.reload()
        refresh_cache(index, writer)


def save(index: ImageIndex, store: Path) -> ImageIndex:
    """See :meth:`ImageIndex.save`."""
    from retina_fm.indexes.image_index import ImageIndex

    snapshot = index.snapshot
    with writing(store) as writer:
        if writer.exists:
            raise OutputError(f"{store} holds an index already; name another folder, or remove it first.")
        keep = ("metric", "dimension", "dtype", "model", "whiten")
        writer.manifest = Manifest(**{name: getattr(index.manifest, name) for name in keep})
        for start in range(0, len(snapshot), PART_ROWS):
            some = _rows_at(snapshot, snapshot.live_positions[start : start + PART_ROWS])
            writer.append(_moved(some, index.folder, store) if index.manifest.model else some)
        if index._whitening is not None:
            writer.set_whitening(index._whitening)
        writer.commit()
        saved = ImageIndex.open(store, model=index._model, **index._settings)
        if snapshot.metadata is not None:
            table = snapshot.metadata
            names = table.column("path").to_pylist()
            if index.manifest.model:
                names = [_elsewhere(name, index.folder, store) for name in names]
            place = table.column_names.index("path")
            writer.set_metadata(table.set_column(place, "path", [names]))
            writer.commit()
            saved.reload()
        refresh_cache(saved, writer)
    return saved


class _Memory:
    """Commits to an index in memory."""

    def __init__(self, index: ImageIndex) -> None:
        self.index = index

    def append(self, rows: Rows | None, outdated: NDArray[np.int64]) -> None:
        index = self.index
        dtype = index.manifest.dtype
        rows = rows or Rows.named([], np.empty((0, index.snapshot.dimension), dtype))
        snapshot = extended(index.snapshot, rows, outdated, dtype)
        manifest = index.manifest.with_changes(dimension=snapshot.dimension, count=len(snapshot))
        index._adopt(manifest, snapshot, None)

    def describe(self, metadata: Any) -> None:
        self.index._adopt(self.index.manifest, with_metadata(self.index.snapshot, metadata), None)


class _Disk:
    """Commits to an index on disk."""

    def __init__(self, index: ImageIndex, writer: Writer) -> None:
        self.index = index
        self.writer = writer

    def append(self, rows: Rows | None, outdated: NDArray[np.int64]) -> None:
        index, writer = self.index, self.writer
        if not writer.exists:
            first = index.manifest
            if rows is not None:
                first = first.with_changes(dimension=rows.embeddings.shape[1])
            writer.manifest = first
            if index._whitening is not None:
                writer.set_whitening(index._whitening)
        if rows is not None:
            writer.append(rows)
        if len(outdated):
            snapshot = index.snapshot
            writer.remove(snapshot.ids[outdated], snapshot.ids[~snapshot.live])
        writer.commit()
        index.reload()

    def describe(self, metadata: Any) -> None:
        self.writer.set_metadata(metadata)
        self.writer.commit()
        self.index.reload()


def _apply(index: ImageIndex, state: _Memory | _Disk, request: Request, tally: _Tally) -> None:
    given: list[str] | None
    if request.photos is None:
        given = []
    elif are_embeddings(request.photos):
        given = _apply_embeddings(index, state, request, tally)
    else:
        given = _apply_photos(index, state, request, tally)
    if request.metadata is not None:
        snapshot = index.snapshot
        if given is None:
            given_places = snapshot.live_positions[-len(request.photos) :]
        else:
            given_places = snapshot.find(given)
            given_places = given_places[given_places >= 0]
        base = index.folder or Path()
        table = merged_metadata(
            snapshot.metadata,
            request.metadata,
            snapshot,
            given_places,
            lambda path, folder: _spellings(path, folder, request.photos, base, index.manifest.model is None),
        )
        state.describe(table)


def _apply_photos(index: ImageIndex, state: _Memory | _Disk, request: Request, tally: _Tally) -> list[str]:
    folder = index.folder or Path()
    embedder = index._embedder()
    if embedder is None:
        raise ConfigError("This index holds plain embeddings; add embeddings of the same kind, not photos.")
    changes = building.compare(request.photos, index.snapshot, folder, drop_missing=request.drop_missing)
    before = index.snapshot.total
    tally.unchanged = changes.kept
    if changes.copied:
        _commit(index, state, building.copied_rows(changes, index.snapshot), tally)
        tally.copied = len(changes.copied)
    chunks = (
        building.encoded_rows(
            changes, embedder, index.folder, on_error=request.on_error, skipped=tally.skipped,
            **request.settings,
        )
        if index.folder is not None
        else _encoded_in_memory(changes, index, request, tally)
    )  # fmt: skip
    for rows in chunks:
        if len(rows):
            _commit(index, state, rows, tally)
            tally.encoded += len(rows)
    # rows whose file changed into something that cannot be read, and rows whose file is gone
    left = np.array(sorted({*changes.gone, *changes.outdated}), np.int64)
    assert index.snapshot.total >= before
    left = left[index.snapshot.live[left]]
    if len(left):
        state.append(None, left)
        tally.removed += len(left)
    return changes.given


def _apply_embeddings(
    index: ImageIndex, state: _Memory | _Disk, request: Request, tally: _Tally
) -> list[str] | None:
    dimension = index.snapshot.dimension or None
    values = request.photos
    numbered = request.paths is None
    first = int(index.snapshot.ids[-1]) + 1 if index.snapshot.total else 0
    if request.drop_missing:
        first = 0  # the whole of it is given again
    names = None if numbered else list(request.paths or [])
    for start in range(0, len(values), PART_ROWS):
        matrix = as_matrix(values[start : start + PART_ROWS], dimension)[0]
        if names is not None and start == 0:
            building.named_rows(np.empty((len(values), 0), np.float32), names, 0)  # checks all of them
        some = None if names is None else names[start : start + PART_ROWS]
        rows = building.named_rows(matrix, some, first + start)
        if index.snapshot.total and (names is not None or request.drop_missing):
            rows = _differing(rows, index, tally)
        if len(rows):
            _commit(index, state, rows, tally, look=names is not None or request.drop_missing)
            tally.encoded += len(rows)
    if not request.drop_missing:
        return None if numbered else names
    given = names if names is not None else [str(number) for number in range(len(values))]
    live = index.snapshot.live_positions
    keep = set(given)
    paths = index.snapshot.paths.take(live).to_pylist() if len(live) else []
    gone = np.array([place for place, path in zip(live, paths, strict=True) if path not in keep], np.int64)
    if len(gone):
        state.append(None, gone)
        tally.removed += len(gone)
    return given


def _differing(rows: Rows, index: ImageIndex, tally: _Tally) -> Rows:
    """The rows that the index lacks, or has with another embedding."""
    places = index.snapshot.find(rows.paths)
    there = np.flatnonzero(places >= 0)
    stored = index.snapshot.take(places[there])
    asked = rows.embeddings[there].astype(index.manifest.dtype).astype(np.float32)
    same = there[(stored == asked).all(axis=1)]
    tally.unchanged += len(same)
    keep = np.setdiff1d(np.arange(len(rows)), same)
    return Rows.named([rows.paths[i] for i in keep], rows.embeddings[keep])


def _encoded_in_memory(
    changes: building.Changes, index: ImageIndex, request: Request, tally: _Tally
) -> Iterator[Rows]:
    from retina_fm.encoding import encode
    from retina_fm.pictures import describe

    if not changes.encode:
        return
    embedder = index._embedder()
    assert embedder is not None
    keys = [key_of(photo, Path(), number) for number, photo in enumerate(changes.encode)]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SkippedPictures)
        embeddings = encode(
            list(changes.encode), embedder.encoder(), on_error=request.on_error, **request.settings
        )
    lost: set[int] = set()
    for item in caught:
        if isinstance(item.message, SkippedPictures):
            for number, reason in zip(item.message.indices, item.message.reasons, strict=True):
                lost.add(number)
                tally.skipped.append((describe(changes.encode[number]), reason))
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    good = [key for number, key in enumerate(keys) if number not in lost]
    yield Rows(
        [key.path for key in good],
        [key.size for key in good],
        [key.mtime_ns for key in good],
        [changes.hashes.get(key.path) for key in good],
        embeddings,
    )


def _commit(index: ImageIndex, state: _Memory | _Disk, rows: Rows, tally: _Tally, look: bool = True) -> None:
    """New rows, and in the same commit the end of the rows that they replace."""
    found = index.snapshot.find(rows.paths) if look else np.empty(0, np.int64)
    outdated = found[found >= 0]
    state.append(rows, outdated)
    tally.replaced += len(outdated)


def _named(
    index: ImageIndex, paths: str | Path | Sequence[str | Path] | None, where: Where | None
) -> NDArray[np.int64]:
    live = index.snapshot.live_positions
    if where is not None:
        return live[rows_where(index._table(live, with_path=True), where)]
    names = [paths] if isinstance(paths, str | os.PathLike) else list(paths or [])
    plain = index.manifest.model is None
    base = index.folder or Path()
    stored = [str(n) if plain or str(n).startswith("sha256:") else stored_path(n, base) for n in names]
    places = index.snapshot.find(stored)
    missing = [name for name, place in zip(names, places, strict=True) if place < 0]
    if missing:
        raise ConfigError(
            f"{len(missing)} of {len(names)} paths are not in the index, for example {str(missing[0])!r}; "
            "nothing was removed."
        )
    return np.unique(places)


def _spellings(path: str, folder: Path | None, photos: Any, base: Path, plain: bool) -> list[str]:
    """The ways in which an index may call a path of its metadata, the likeliest first."""
    if plain:
        return [path]
    places: list[Path | None] = [folder]
    if isinstance(photos, str | os.PathLike) and Path(photos).is_dir():
        places.append(Path(photos))
    places += [Path(), base]
    return [path, *(stored_path(place / path, base) for place in places if place is not None)]


def _rows_at(snapshot: Snapshot, places: NDArray[np.int64]) -> Rows:
    table = snapshot.rows.take(places)
    paths, sizes, mtimes, hashes = (
        table.column(name).to_pylist() for name in ("path", "size", "mtime_ns", "sha256")
    )
    return Rows(paths, sizes, mtimes, hashes, snapshot.take(places))


def _fresh(rows: Rows, index: ImageIndex) -> Snapshot:
    from retina_fm.indexes.snapshot import empty_snapshot

    nothing = np.empty(0, np.int64)
    fresh = extended(empty_snapshot(index.snapshot.dimension), rows, nothing, index.manifest.dtype)
    return with_metadata(fresh, index.snapshot.metadata)


def _moved(rows: Rows, old: Path | None, new: Path) -> Rows:
    paths = [_elsewhere(path, old, new) for path in rows.paths]
    return Rows(paths, rows.sizes, rows.mtimes, rows.hashes, rows.embeddings)


def _elsewhere(path: str, old: Path | None, new: Path) -> str:
    return path if path.startswith("sha256:") else stored_path((old or Path()) / path, new)
