"""Bringing an index up to date: which photos it lacks, encoding them, and one commit with all that is new."""

from __future__ import annotations

import itertools
import logging
import os
import time
import warnings
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.pseudonyms import Pseudonyms
from retina_fm._notebook import fact_table, in_a_line
from retina_fm.encoding.rows import key_of
from retina_fm.encoding.tagging import hidden
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, SkippedPictures
from retina_fm.indexes import old_format
from retina_fm.indexes.cache import build_cache, is_stale, load_cache, save_cache
from retina_fm.indexes.database import Row
from retina_fm.indexes.exact import Positions
from retina_fm.indexes.file_tags import hidden_metadata, with_tags
from retina_fm.indexes.lance_search import refresh_search
from retina_fm.indexes.lance_store import LanceState, LanceWriter
from retina_fm.indexes.metadata import Metadata, incoming
from retina_fm.indexes.models import LazyEmbedder
from retina_fm.indexes.queries import are_embeddings, as_matrix
from retina_fm.indexes.state import state_name, stored_path
from retina_fm.indexes.store import writing
from retina_fm.indexes.writer import DEAD_SHARE, Writer, reporting
from retina_fm.pictures import describe, expand
from retina_fm.pictures.files import Stamp, read_file, stamped
from retina_fm.pictures.pages import which_picture
from retina_fm.pictures.tags import NOTHING, Tags, file_tags, given_tags, merged

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex
    from retina_fm.signatures import SignatureBasis

logger = logging.getLogger("retina_fm")

COMMIT_EVERY = 1.0
"""Seconds of encoding that a kill may cost; more where the commit itself takes long."""
BLOCK = 250_000
"""Embeddings that are read at once."""


@dataclass(repr=False)
class UpdateReport:
    """What a change came to.

    Attributes:
        total: pictures in the index.
        unchanged: files with the same size and time.
        encoded: pictures that went through the model, or embeddings that were new.
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
    skipped: list[tuple[str, str]] = field(default_factory=list)

    def __repr__(self) -> str:
        return in_a_line("UpdateReport", self._facts())

    def _repr_html_(self) -> str:
        """What changed, as notebooks show it."""
        return fact_table("Index", [*self._facts(), *self.skipped])

    def _facts(self) -> list[tuple[str, int]]:
        names = ("total", "unchanged", "encoded", "copied", "replaced", "removed")
        return [*((name, getattr(self, name)) for name in names), ("skipped", len(self.skipped))]


Batch = tuple[NDArray[np.float32], NDArray[np.float32] | None]
"""Embeddings, and signatures where the index holds them."""


@dataclass
class Table:
    """Embeddings that have names, and perhaps files.

    Attributes:
        values: ``(N, D)``; or what gives its slices and says how many rows one should have.
        names: stored paths; None for numbers.
        files: size, mtime in nanoseconds and SHA-256 of each one's file, or None.
    """

    values: Any
    names: list[str] | None = None
    files: list[tuple[int, int, str | None]] | None = None


def update(
    index: ImageIndex,
    photos: Any,
    *,
    metadata: Any = None,
    paths: Sequence[str] | None = None,
    on_error: Literal["raise", "skip"] = "raise",
    build: bool = True,
    wait: float = 0.0,
    drop_missing: bool = False,
    settings: dict[str, Any] | None = None,
    pseudonyms: Pseudonyms | None = None,
    are_hidden: bool = False,
) -> None:
    """Add what is new, replace what changed, and, where it is asked for, drop what is gone.

    Patients' ids go behind ``pseudonyms``, unless they ``are_hidden`` already.

    Raises:
        OutputError: another process writes, or the disk is full; what was committed stays.
        PictureError: a photo cannot be read (``on_error="raise"``); what was encoded is kept.
        ConfigError: patients' ids of the index are hidden by another key, or are not.
    """
    report = UpdateReport()
    if metadata is not None or not are_embeddings(photos):
        check_pseudonyms(index.manifest.pseudonyms, pseudonyms, are_hidden)
    with writing(index.place, wait, memory=index.state) as writer:
        prepared(index, writer)
        work = _Update(index, writer, report, drop_missing, photos, None if are_hidden else pseudonyms)
        if are_embeddings(photos):
            names = None if paths is None else [str(path) for path in paths]
            work.table(Table(photos, names), metadata)
        elif isinstance(photos, Table):
            work.table(photos, metadata)
        else:
            work.photos([] if photos is None else photos, metadata, on_error, settings or {})
        finished(index, writer, build)
    if work.unread:
        warnings.warn(SkippedPictures(*zip(*sorted(work.unread), strict=True)), stacklevel=4)
    report.total = len(index)
    index.report = report


def prepared(index: ImageIndex, writer: Writer) -> None:
    """Make a writer ready: a new index begins, an index of the format before this one is taken over."""
    if writer.state is None:
        writer.manifest, writer.whitening = index.state.manifest, index.whitening
        writer.basis = index.state.basis
    elif writer.upgrades:
        old_format.upgrade(writer)
    if writer.state is not None and writer.state is not index.state:
        index.adopt(writer.state)  # another writer may have been here since it was opened


def finished(index: ImageIndex, writer: Writer, build: bool = True) -> None:
    """Commit what is left, compact where much was removed, and make ``index.faiss`` ready."""
    if writer.db.in_transaction or writer.manifest.generation == 0:
        writer.commit()
    index.adopt(writer.committed())
    state = index.state
    if state.total and state.total - len(state) > DEAD_SHARE * state.total:
        compact(index, writer)
        build = True
    if (build or writer.upgraded) and index.place is not None:
        refresh_cache(index, writer)


def compact(index: ImageIndex, writer: Writer) -> None:
    """Rewrite the vectors without what was removed, so that it is gone for good."""
    writer.rewrite(index.state)
    writer.commit()
    index.adopt(writer.committed())
    writer.tidy()


def refresh_cache(index: ImageIndex, writer: Writer, force: bool = False) -> bool:
    """Make ``index.faiss``, or LanceDB's index, again where it is missing, unfit or too far behind.

    Returns:
        Whether it was made.
    """
    assert index.folder is not None
    state = index.state
    if not state.total or index.space_is_not_stored:
        return False
    if isinstance(writer, LanceWriter) and isinstance(state, LanceState):
        made = refresh_search(state, index.space, writer, force)
        if made:
            index.adopt(writer.committed())
        return made
    found = None if force else load_cache(index.folder, state, index.space)
    if not is_stale(found, state):
        return False
    cache = build_cache(state, index.space)
    with reporting(index.folder):
        save_cache(writer, cache)
    index.adopt(state)
    return True


def remove(index: ImageIndex, choose: Any, wait: float) -> int:
    """Remove the pictures at the places that ``choose`` finds once nobody else writes."""
    with writing(index.place, wait, memory=index.state) as writer:
        prepared(index, writer)
        places: Positions = choose()
        writer.remove(places.tolist())
        finished(index, writer, build=False)
    index.report = UpdateReport(len(index), removed=len(places))
    return len(places)


class _Update:
    """One update: what it was given, what was there, and the writer that takes what comes of both."""

    def __init__(
        self,
        index: ImageIndex,
        writer: Writer,
        report: UpdateReport,
        drop_missing: bool,
        source: Any,
        pseudonyms: Pseudonyms | None = None,
    ) -> None:
        self.index = index
        self.writer = writer
        self.report = report
        self.drop_missing = drop_missing
        self.source = source
        self.folder = index.folder or Path()
        self.metadata = Metadata({}, {})
        self.pseudonyms = pseudonyms
        self.said: dict[str, Tags] = {}
        self.given: dict[str, Tags] = {}
        self.unread: list[tuple[int, str]] = []  # positions of photos in the input, and why
        self._done: set[str] = set()

    @cached_property
    def known(self) -> dict[str, Row]:
        """Rows by stored path, kept up with what this update does."""
        state = self.writer.state
        return {} if state is None else {str(row[1]): row for row in state.rows()}

    # Embeddings

    def table(self, table: Table, metadata: Any) -> None:
        """Embeddings with or without names, in blocks, in one commit."""
        writer, report = self.writer, self.report
        count = len(table.values)
        first = 0 if self.drop_missing else writer.manifest.next_number
        given: Sequence[Any] = range(first, first + count) if table.names is None else table.names
        if table.names is not None:
            _check_names(table.names, count)
        if metadata is not None:
            self._read_metadata(metadata, [str(name) for name in given])
        look = writer.manifest.count > 0 and (table.names is not None or self.drop_missing)
        added = 0
        block = getattr(table.values, "rows_at_once", BLOCK)
        for start in range(0, count, block):
            matrix = as_matrix(table.values[start : start + block], writer.manifest.dimension or None)[0]
            some = given[start : start + block]
            keep = np.arange(len(some))
            if not (look and any(str(name) in self.known for name in some)) and metadata is None:
                if len(some):
                    self._append_new(writer.append(matrix), some, table, start)
            else:
                files = table.files[start : start + block] if table.files else [(0, 0, None)] * len(some)
                keep = self._differing(matrix, [self.known.get(str(name)) for name in some])
                report.unchanged += len(some) - len(keep)
                self._put([(-1, some[k], *files[k]) for k in keep.tolist()], [(matrix[keep], None)])
            report.encoded += len(keep)
            added += len(keep)
        if self.drop_missing and look:
            self._drop({str(name) for name in given}, files=writer.manifest.model is not None)
        self._describe()
        number = writer.manifest.next_number + added
        if table.names is None:
            number = max(number, first + count)
        else:
            taken = (own for own in map(state_name, table.names) if isinstance(own, int))
            number = max(number, 1 + max(taken, default=-1))
        writer.manifest = replace(writer.manifest, next_number=number)

    def _append_new(self, place: int, names: Sequence[Any], table: Table, start: int) -> None:
        """Rows of vectors that were appended, where none of their names was there before."""
        if table.names is None:
            self.writer.add_numbers(place, names[0], len(names))
            return
        files: Iterable[tuple[int, int, str | None]] = itertools.repeat((0, 0, None))
        if table.files is not None:
            files = table.files[start : start + len(names)]
        self.writer.add(
            (place + i, name, *file) for i, (name, file) in enumerate(zip(names, files, strict=False))
        )

    def _differing(self, matrix: NDArray[np.float32], old: list[Row | None]) -> NDArray[np.intp]:
        there = np.array([i for i, row in enumerate(old) if row is not None], np.intp)
        if not len(there):
            return np.arange(len(old))
        state = self.index.state
        places = np.array([row[0] for row in old if row is not None], np.int64)
        stored = state.vectors.take(places)
        asked = matrix[there].astype(self.writer.manifest.dtype).astype(np.float32)
        return np.setdiff1d(np.arange(len(old)), there[(stored == asked).all(axis=1)])

    # Photos

    def photos(
        self, photos: Any, metadata: Any, on_error: Literal["raise", "skip"], settings: dict[str, Any]
    ) -> None:
        """Photos compared by size and time, then by content; what is new is encoded."""
        embedder = self.index.embedder()
        given: dict[str, None] = {}
        missing: list[tuple[int, Any, Row]] = []  # position, photo, and its row but for the place
        repeats: dict[str, list[int]] = {}
        moved: list[Row] = []  # content that is known already
        by_hash: dict[str | None, list[Row]] = {}
        for row in self.known.values():
            by_hash.setdefault(row[4], []).append(row)
        seen: dict[str, str] = {}
        for number, photo in enumerate(expand(photos)):
            if embedder is None:
                raise ConfigError(
                    "This index holds plain embeddings; add embeddings of the same kind, not photos."
                )
            own = given_tags(photo)
            if isinstance(photo, dict) and not photo.get("bytes") and not which_picture(photo):
                photo = photo["path"] if isinstance(photo.get("path"), str | Path) else photo
            key = None
            if not isinstance(photo, str | Path):
                key = key_of(photo, self.folder, number)
            name = stored_path(photo, self.folder, seen) if key is None else key.path
            if name in given:
                repeats.setdefault(name, []).append(number)
                continue
            given[name] = None
            if own != NOTHING:
                self.given[name] = hidden(own, self.pseudonyms)
            row = self._looked_at(photo, name) if key is None else (-1, name, key.size, key.mtime_ns, None)
            if row[1:4] == self.known.get(name, ())[1:4]:
                self.report.unchanged += 1
            elif row[4] and row[4] in by_hash:
                moved.append(row)
                self._said(name, file_tags(photo))
            else:
                missing.append((number, photo, row))
        if metadata is not None:
            self._read_metadata(metadata, list(given))
        if missing and embedder is not None:
            self._encode(missing, embedder, on_error, settings, repeats)
        self._move(moved, by_hash, given)
        # a file that changed into something that cannot be read
        self._forget([self.known[str(row[1])] for _, _, row in missing
                      if str(row[1]) in self.known and str(row[1]) not in self._done])  # fmt: skip
        if self.drop_missing:
            self._drop(given, files=True)
        self._describe()

    def _looked_at(self, photo: str | Path, name: str) -> Row:
        """The row that a file should have; its content is read only where size or time are new."""
        try:
            status = os.stat(photo)  # noqa: PTH116
            known = self.known.get(name)
            if known is not None and known[2:4] == (status.st_size, status.st_mtime_ns):
                return known
            size, mtime, digest = stamped(*read_file(photo, name))
            return -1, name, size, mtime, digest
        except (OSError, ValueError):  # encoding says what is wrong with it
            return -1, name, -1, -1, None

    def _encode(
        self,
        missing: list[tuple[int, Any, Row]],
        embedder: LazyEmbedder,
        on_error: Literal["raise", "skip"],
        settings: dict[str, Any],
        repeats: dict[str, list[int]],
    ) -> None:
        """Encode, and commit what is finished every second, so that a kill loses no more."""
        waiting: list[Row] = []
        vectors: list[Batch] = []
        pause, since = COMMIT_EVERY, time.monotonic()
        failures: list[Decoded] = []
        try:
            photos = [photo for _, photo, _ in missing]
            basis = self.writer.basis
            for items, batch in encoded(photos, embedder, on_error, failures, settings, basis):
                waiting += [_of_what_was_decoded(missing[item.position][2], item.stamp) for item in items]
                for item in items:
                    self._said(str(missing[item.position][2][1]), item.tags)
                vectors.append(batch)
                if time.monotonic() - since > pause:
                    started = time.monotonic()
                    self._commit(waiting, vectors)
                    since = time.monotonic()
                    pause = max(COMMIT_EVERY, 10 * (since - started))
        except BaseException:
            self._commit(waiting, vectors)
            raise
        self._put(waiting, vectors)
        self.report.encoded += len(waiting)
        for item in failures:
            number, photo, row = missing[item.position]
            reason = str(item.error)
            self.report.skipped.append((describe(photo), reason))
            self.unread += [(at, reason) for at in (number, *repeats.get(str(row[1]), ()))]

    def _commit(self, waiting: list[Row], vectors: list[Batch]) -> None:
        if waiting and self.index.folder is not None:
            self._put(waiting, vectors)
            self.report.encoded += len(waiting)
            self._describe({str(row[1]) for row in waiting})
            self.writer.commit()
            waiting.clear()
            vectors.clear()

    def _move(self, moved: list[Row], by_hash: dict[str | None, list[Row]], given: Container[str]) -> None:
        """Rows for files whose content is known: touched, renamed, or copied ones."""
        taken: set[int] = set()
        for row in moved:
            name, sources = str(row[1]), by_hash[row[4]]
            own = next((source for source in sources if str(source[1]) == name), None)
            lost = next((s for s in sources if s[0] not in taken and self._is_gone(s, given)), None)
            self.report.copied += 1
            if own is not None:  # only its time is another
                self.writer.change([(own[0], (own[0], *row[1:]))])
                self.report.replaced += 1
            elif lost is not None and name not in self.known:  # renamed: what is known about it stays
                taken.add(lost[0])
                self.known.pop(str(lost[1]), None)
                self.known[name] = (lost[0], *row[1:])
                self.writer.change([(lost[0], self.known[name])])
                self.report.removed += 1
            else:
                place, state = np.array([sources[0][0]]), self.index.state
                signature = state.signatures.take(place) if state.signatures is not None else None
                self._put([row], [(state.vectors.take(place), signature)])

    def _is_gone(self, row: Row, given: Container[str]) -> bool:
        path = str(row[1])
        is_file = row[2] > 0 or row[3] > 0
        return is_file and path not in given and not os.path.lexists(self.index.state.usable(path))

    # Both

    def _put(self, rows: list[Row], vectors: list[Batch]) -> None:
        """New rows, in the place of those of the same name."""
        if not rows:
            return
        embeddings = np.concatenate([batch for batch, _ in vectors]) if len(vectors) > 1 else vectors[0][0]
        signatures = [found for _, found in vectors if found is not None]
        first = self.writer.append(embeddings, np.concatenate(signatures) if signatures else None)
        placed: list[Row] = [(first + i, *row[1:]) for i, row in enumerate(rows)]
        old = [self.known.get(str(row[1])) for row in placed] if self.known else [None] * len(placed)
        self.writer.add(row for row, before in zip(placed, old, strict=True) if before is None)
        changed = [(before[0], row) for row, before in zip(placed, old, strict=True) if before is not None]
        self.writer.change(changed)
        self.report.replaced += len(changed)
        names = [str(row[1]) for row in placed]
        self.known.update(zip(names, placed, strict=True))
        self._done.update(names)

    def _drop(self, given: Container[str], files: bool) -> None:
        """Rows that are not given any more; of files only those that are gone."""
        lost = [row for name, row in self.known.items()
                if name not in given and (not files or self._is_gone(row, given))]  # fmt: skip
        self._forget(lost)

    def _forget(self, rows: list[Row]) -> None:
        if rows:
            self.writer.remove(row[0] for row in rows)
            self.report.removed += len(rows)
            for row in rows:
                self.known.pop(str(row[1]), None)

    def _read_metadata(self, metadata: Any, given: Sequence[str]) -> None:
        if metadata is None:
            return
        plain = self.writer.manifest.model is None
        inside = self.source if isinstance(self.source, str | os.PathLike) else None
        seen: dict[str, str] = {}

        def spellings(path: str, folder: Path | None) -> list[str]:
            """The ways in which an index may call a path of its metadata, the likeliest first."""
            if plain:
                return [path]
            places = [folder, Path(inside) if inside is not None and Path(inside).is_dir() else None, Path(),
                      self.folder]  # fmt: skip
            return [
                path,
                *(stored_path(place / path, self.folder, seen) for place in places if place is not None),
            ]

        found = incoming(metadata, given, {*given, *self.known}, spellings)
        self.metadata = hidden_metadata(found, self.pseudonyms)

    def _describe(self, names: Container[str] | None = None) -> None:
        """Write the metadata of pictures that are there, of all or of some, and what their files say."""
        told = {*self.metadata.rows, *self.said, *self.given}
        places = {
            name: self.known[name][0]
            for name in (told if told else ())
            if name in self.known and (names is None or name in names)
        }  # fmt: skip
        said = {name: merged(self.given.get(name, NOTHING), self.said.get(name, NOTHING)) for name in places}
        for part in with_tags(self.metadata, said, places, self.writer):
            self.writer.describe(part.kinds, part.rows)

    def _said(self, name: str, tags: Tags) -> None:
        """Note what a picture's file says."""
        if (found := hidden(tags, self.pseudonyms)) != NOTHING:
            self.said[name] = found


def check_pseudonyms(held: str | None, pseudonyms: Pseudonyms | None, are_hidden: bool = False) -> None:
    """Refuse to mix ids with pseudonyms, or those of two keys.

    Args:
        held: fingerprint of the key that the index's ids are hidden by, if they are.
        pseudonyms: by the key that was given.
        are_hidden: whether what is added is known to be hidden by the index's key.

    Raises:
        ConfigError: they do not agree.
    """
    if are_hidden or held == (None if pseudonyms is None else pseudonyms.fingerprint):
        return
    if held is None:
        raise ConfigError("The index holds patients' ids as they are. Build another store with the key.")
    which = "the key file, pseudonymise=FILE (--pseudonymise)" if pseudonyms is None else "another key file"
    raise ConfigError(f"The index holds pseudonyms of patients; pass {which}, so that ids stay hidden.")


def _of_what_was_decoded(row: Row, stamp: Stamp | None) -> Row:
    """The row of a file that may have changed since it was looked at."""
    return row if stamp is None or row[4] is None else (*row[:2], *stamp)


def encoded(
    photos: list[Any],
    embedder: LazyEmbedder,
    on_error: Literal["raise", "skip"],
    failed: list[Decoded],
    settings: dict[str, Any],
    basis: SignatureBasis | None = None,
) -> Iterator[tuple[list[Decoded], Batch]]:
    """Decoded photos with their embeddings and signatures, a batch at a time.

    Args:
        photos: to be encoded.
        embedder: loaded now.
        on_error: see :func:`retina_fm.encode`.
        failed: photos that could not be read are added to it.
        settings: ``batch_size``, ``workers``, ``progress``, ``compile``.
        basis: of signatures, where these are to be read, too.
    """
    from retina_fm._io.progress import progress_bar
    from retina_fm.encoding.decoding import chosen_workers, decoded
    from retina_fm.encoding.embedder import Embedder
    from retina_fm.encoding.in_memory import batches, split_failures
    from retina_fm.encoding.work import views_of

    unknown = set(settings) - {"batch_size", "workers", "progress", "compile"}
    if unknown:
        raise ConfigError(f"Unknown settings {sorted(unknown)}; batch_size, workers, progress, compile.")
    batch_size, compiled = settings.get("batch_size"), settings.get("compile")
    one = Embedder(embedder.encoder(), batch_size=batch_size, photos=len(photos), compile=compiled)
    workers = chosen_workers(settings.get("workers"), len(photos), one.device.type == "cuda")
    ahead = 2 * one.batch_size + 2 * workers
    stream = decoded(enumerate(photos), one.encoder.transform, workers=workers, ahead=ahead)
    with progress_bar(settings.get("progress"), len(photos), f"encode, {one.precision.name}") as bar:
        for batch in batches(stream, one.batch_size):
            good = split_failures(batch, failed, on_error)
            if good:
                yield good, (one(views_of(good)), None) if basis is None else one.both(good, basis)
            bar.update(len(batch))


def _check_names(names: Sequence[str], count: int) -> None:
    if len(names) != count:
        raise ConfigError(f"{len(names)} paths for {count} embeddings; one each is needed.")
    if len(set(names)) < len(names):
        seen: set[str] = set()
        twice = next(name for name in names if name in seen or seen.add(name))  # type: ignore[func-returns-value]
        raise ConfigError(f"The path {twice!r} is given twice; each names one embedding.")
