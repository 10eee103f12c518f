"""``encode_to``: any number of photos into a Parquet table, in parts, so that a kill loses nothing."""

from __future__ import annotations

import hashlib
import itertools
import logging
import re
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path, PurePath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import retina_fm
from retina_fm._io.files import canonical_json, written_beside
from retina_fm._io.folders import contents, refuse_link, remove_owned
from retina_fm._io.locks import locked
from retina_fm._io.parquet_seals import seal_parquet
from retina_fm._io.progress import progress_bar
from retina_fm._io.scratch import hidden_name, sweep
from retina_fm._notebook import fact_table, in_a_line
from retina_fm.encoding.decoding import decoded, default_workers
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.formats import check_out, rewrite
from retina_fm.encoding.in_memory import batches, split_failures
from retina_fm.encoding.rows import (
    ROW_GROUP,
    Encoded,
    Key,
    RowReader,
    key_decoded,
    key_of,
    keys_in,
    schema,
    write_part,
)
from retina_fm.encoding.work import Decoded, views_of
from retina_fm.errors import ConfigError, OutputError, SkippedPictures
from retina_fm.models import RetinalEncoder
from retina_fm.pictures import count, describe, expand, is_single

logger = logging.getLogger("retina_fm")

_PART = re.compile(r"\d{12}\.parquet")
_WRITE_EVERY = 1.0
"""Seconds of work that a kill may cost; on a slow device every batch is written at once."""


@dataclass(frozen=True, repr=False)
class EncodeReport:
    """What ``encode_to`` did.

    Attributes:
        path: of the table.
        rows: in the table.
        reused: rows that were there already, from an earlier table or an interrupted run.
        skipped: photos left out, each with its reason.
        seconds: from call to return.
        precision: number type and why it was chosen.
    """

    path: Path
    rows: int
    reused: int
    skipped: tuple[tuple[str, str], ...]
    seconds: float
    precision: str

    def __repr__(self) -> str:
        return in_a_line("EncodeReport", self._facts())

    def _repr_html_(self) -> str:
        """What was done, as notebooks show it."""
        return fact_table("Encoded", [*self._facts(), *self.skipped])

    def _facts(self) -> list[tuple[str, object]]:
        return [
            ("path", self.path), ("rows", self.rows), ("reused", self.reused), ("skipped", len(self.skipped)),
            ("seconds", round(self.seconds, 1)), ("precision", self.precision),
        ]  # fmt: skip


def encode_to(
    photos: Any,
    out: str | Path,
    model: str | RetinalEncoder = "fundus2video",
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    compile: bool | None = None,  # noqa: A002  the word that torch and its users know
    overwrite: bool = False,
    signature: bool = False,
    columns: Mapping[str, Sequence[str]] | None = None,
) -> EncodeReport:
    """Embeddings of any number of photos into a table, in bounded memory.

    Finished batches are kept in a hidden folder beside ``out`` until the table is complete; after a kill the
    same call continues there and ends in the same bytes. A table that is there already is brought up to
    date: rows whose file has the same path, size and time are reused.

    Args:
        photos: see :func:`retina_fm.encode`.
        out: the table; ``path`` in it is relative to its folder. ``.csv`` and ``.npz`` are written as what
            they say, from a hidden Parquet file that goes when they are whole; with a column ``name``, that
            of the photo's file.
        model: see :func:`retina_fm.encode`.
        batch_size: see :func:`retina_fm.encode`.
        workers: see :func:`retina_fm.encode`.
        device: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`.
        on_error: see :func:`retina_fm.encode`; the report lists what was skipped.
        progress: see :func:`retina_fm.encode`.
        compile: see :func:`retina_fm.encode`.
        overwrite: replace a table made with other weights or another transform instead of refusing.
        signature: add the column ``signature``, the pattern of vessels (see ``Encoder.signature``). It
            recognises a person: whoever has the table can tell whose eyes are in it.
        columns: to carry along, a value a photo, by name; then ``out`` is written anew from the hidden file
            too, and ``name`` may be among them.

    Returns:
        Counts, skipped photos, seconds.

    Raises:
        OutputError: ``out`` is something else, was made by another model, is being written by another
            process, or the disk is full (what was finished stays).
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished stays.
    """
    started = time.monotonic()
    if on_error not in ("raise", "skip"):
        raise ConfigError(f"on_error is {on_error!r}; use 'raise' or 'skip'.")
    table = Path(out)
    plain = check_out(table, overwrite)
    if table.is_dir() or (table.parent.exists() and not table.parent.is_dir()):
        raise OutputError(f"{table} is a folder or lies in a file; name the Parquet file to write.")
    if not plain or columns is not None:
        return _with_columns(
            photos, table, columns, overwrite, started,
            {"model": model, "batch_size": batch_size, "workers": workers, "device": device, "dtype": dtype,
             "on_error": on_error, "progress": progress, "compile": compile, "signature": signature},
        )  # fmt: skip
    return _encode_to(
        photos,
        table,
        started,
        model,
        batch_size=batch_size,
        workers=workers,
        device=device,
        dtype=dtype,
        on_error=on_error,
        progress=progress,
        compile=compile,
        overwrite=overwrite,
        signature=signature,
    )[0]


def _with_columns(
    photos: Any,
    table: Path,
    columns: Mapping[str, Sequence[str]] | None,
    overwrite: bool,
    started: float,
    settings: dict[str, Any],
) -> EncodeReport:
    """The table in another form or with further columns, made of a hidden one of the usual form."""
    inner = table.parent / hidden_name(table.name, ".parquet")
    if table.exists() and not overwrite:
        raise OutputError(
            f"{table} is there already; with columns of one's own it is written anew. Remove it, name "
            "another file, or pass overwrite=True (--overwrite)."
        )
    refuse_link(inner)
    report, kept = _encode_to(photos, inner, started, overwrite=True, **settings)
    found = {name: [values[position] for position in kept] for name, values in (columns or {}).items()}
    if "name" not in found:
        paths = pq.read_table(inner, columns=["path"]).column("path").to_pylist()
        found = {"name": [PurePath(path).name for path in paths], **found}
    try:
        rewrite(inner, table, found)
    except OSError as error:
        raise OutputError(
            f"{table} cannot be written ({error.strerror}). Make room and run it again."
        ) from error
    inner.unlink()
    return replace(report, path=table)


def _encode_to(
    photos: Any,
    table: Path,
    started: float,
    model: str | RetinalEncoder,
    *,
    batch_size: int | None,
    workers: int | None,
    device: str | torch.device | None,
    dtype: str | torch.dtype,
    on_error: Literal["raise", "skip"],
    progress: bool | None,
    compile: bool | None,  # noqa: A002
    overwrite: bool,
    signature: bool,
) -> tuple[EncodeReport, list[int]]:
    """The report, and the positions of the photos that have a row."""
    total = 1 if is_single(photos) else count(photos)
    embedder = Embedder(
        model, device=device, dtype=dtype, batch_size=batch_size, photos=total, compile=compile
    )
    if workers is None:
        workers = default_workers(total, embedder.device.type == "cuda")
    if signature:
        embedder.check_signs()
    store = _Store(table, embedder, overwrite, signature)
    with store.locked():
        store.collect_finished()
        bar = progress_bar(progress, total, f"encode, {embedder.precision.dtype}")
        with bar:
            _encode_missing(photos, embedder, store, workers, on_error, bar)
        _write_table(store)
        store.clean()
    if store.skipped:
        names, reasons = [name for name, _ in store.skipped], [reason for _, reason in store.skipped]
        positions = [store.positions[name] for name in names]
        warnings.warn(SkippedPictures(positions, reasons), stacklevel=3)
    report = EncodeReport(
        path=table,
        rows=len(store.order),
        reused=store.reused,
        skipped=tuple(store.skipped),
        seconds=time.monotonic() - started,
        precision=str(embedder.precision),
    )
    return report, store.kept


class _Store:
    """The table, its parts, and which row lies where."""

    def __init__(self, table: Path, embedder: Embedder, overwrite: bool, signature: bool = False) -> None:
        encoder = embedder.encoder
        basis = encoder.signature_basis if signature else None
        identity = {
            "weights_sha256": encoder.weights_sha256,
            "transform_hash": encoder.transform.hash,
            "dimension": str(encoder.num_features),
        }
        metadata = {
            "model": encoder.name,
            "weights_sha256": identity["weights_sha256"],
            "transform_hash": identity["transform_hash"],
            "licence": encoder.card.licence,
            "retina_fm_version": retina_fm.__version__,
        }
        if basis is not None:
            identity["signature_basis"] = metadata["signature_basis"] = basis.hash
        self.signs = signature
        digest = hashlib.sha256(canonical_json(identity)).hexdigest()[:8]
        self.table = table
        self.schema = schema(encoder.num_features, metadata, 0 if basis is None else basis.length)
        self.parts = table.parent / hidden_name(table.name, f".{digest}.parts")
        self.where: dict[Key, tuple[Path, int]] = {}
        self.order: list[Key] = []
        self.changed: dict[Key, Key] = {}
        self.reused = 0
        self.skipped: list[tuple[str, str]] = []
        self.positions: dict[str, int] = {}
        self.kept: list[int] = []
        self._keep_old = self._compatible(overwrite)

    def locked(self) -> AbstractContextManager[None]:
        """One writer a table."""
        busy = f"{self.table} is being written by another process; wait for it or name another file."
        return locked(self.table.parent / hidden_name(self.table.name, ".lock"), busy)

    def collect_finished(self) -> None:
        """Learn which rows an earlier table or an interrupted run holds."""
        refuse_link(self.parts)
        files = sorted(self.parts / name for name in self._finished())
        if self._keep_old:
            files.append(self.table)
        for path in files:
            try:
                keys = keys_in(path)
            except (OSError, ValueError, KeyError) as error:
                raise OutputError(f"{path} cannot be read ({error}); remove it and run again.") from None
            self.where.update({key: (path, index) for index, key in enumerate(keys)})

    def write(self, first: int, rows: list[Encoded]) -> None:
        """Make finished rows durable."""
        path = self.parts / f"{first:012d}.parquet"
        try:
            write_part(path, rows, self.schema)
        except OSError as error:
            raise OutputError(
                f"{path} cannot be written ({error.strerror}); what was finished before it is kept. "
                "Make room and run the same command again."
            ) from error
        self.where.update({row.key: (path, index) for index, row in enumerate(rows)})

    def clean(self) -> None:
        """Remove the parts, now that the table holds them."""
        with suppress(OSError):  # what is not ours stays, and its folder with it
            remove_owned(self.parts, self._finished())
            sweep(self.parts)
            self.parts.rmdir()

    def _finished(self) -> list[str]:
        """Names of the parts."""
        return [name for name in contents(self.parts) if _PART.fullmatch(name)]

    def _compatible(self, overwrite: bool) -> bool:
        if not self.table.exists():
            return False
        try:
            schema = pq.read_schema(self.table)
            found, names = schema.metadata or {}, schema.names
        except (OSError, pa.ArrowInvalid) as error:
            if overwrite:
                return False
            raise OutputError(
                f"{self.table} exists and is no Parquet table ({error}); remove it or name another file."
            ) from None
        ours, there = (
            set(some) - {"signature"} for some in (self.schema.names, names)
        )  # see its basis below
        added = sorted(there - ours)
        if added and not overwrite:
            raise OutputError(
                f"{self.table} has columns that encode does not write ({', '.join(added[:5])}) and would "
                "lose. Name another file, or pass overwrite=True (--overwrite)."
            )
        if there != ours:
            return False
        wanted = self.schema.metadata
        for field in (b"weights_sha256", b"transform_hash", b"signature_basis"):
            if found.get(field) != wanted.get(field):
                if overwrite:
                    return False
                if field == b"signature_basis":
                    have = "signatures of another basis" if field in found else "no signatures"
                    have = have if field in wanted else "signatures, which were not asked for"
                    raise OutputError(
                        f"{self.table} holds {have}; remove it, name another file, or pass overwrite=True "
                        "(--overwrite)."
                    )
                made_by = found.get(b"model", b"something else").decode()
                raise OutputError(
                    f"{self.table} holds embeddings of {made_by} with another {field.decode()}; remove it, "
                    "name another file, or pass overwrite=True (--overwrite)."
                )
        return True


def _encode_missing(
    photos: Any, embedder: Embedder, store: _Store, workers: int, on_error: str, bar: Any
) -> None:
    keys: dict[int, tuple[Key, Any]] = {}
    names: dict[int, str] = {}
    scheduled: set[Key] = set()

    def missing() -> Iterator[tuple[int, Any]]:
        for position, photo in enumerate([photos] if is_single(photos) else expand(photos)):
            key = key_of(photo, store.table.parent, position)
            store.order.append(key)
            if key in store.where:
                store.reused += 1
                bar.update(1)
            elif key in scheduled:
                bar.update(1)
            else:
                scheduled.add(key)
                keys[position], names[position] = (key, photo), describe(photo)
                yield position, photo

    def decoded_key(item: Decoded) -> Key:
        key, photo = keys.pop(item.position)
        actual = key_decoded(key, photo, store.table.parent, item.stamp)
        if actual != key:
            store.changed[key] = actual
        return actual

    ahead = 2 * embedder.batch_size + 2 * workers
    stream = decoded(missing(), embedder.encoder.transform, workers=workers, ahead=ahead)
    waiting: list[Encoded] = []
    first = 0
    written = time.monotonic()
    failures: list[Decoded] = []
    try:
        for batch in batches(stream, embedder.batch_size):
            good = split_failures(batch, failures, on_error)
            if good:
                signatures: Any = itertools.repeat(None)
                if store.signs:
                    vectors, signatures = embedder.both(good)
                else:
                    vectors = embedder(views_of(good))
                first = first if waiting else good[0].position
                waiting += [
                    Encoded(decoded_key(item), vector, item.geometry, one)
                    for item, vector, one in zip(good, vectors, signatures, strict=False)
                    if item.geometry is not None
                ]
            bar.update(len(batch))
            if waiting and time.monotonic() - written > _WRITE_EVERY:
                store.write(first, waiting)
                waiting, written = [], time.monotonic()
    finally:
        if waiting:
            store.write(first, waiting)
    for item in failures:
        name = names[item.position]
        store.skipped.append((name, str(item.error)))
        store.positions[name] = item.position


def _write_table(store: _Store) -> None:
    """All rows in the photos' order, in row groups of fixed size, so that interruptions leave no trace."""
    reader = RowReader()
    order = [store.changed.get(key, key) for key in store.order]
    store.kept = [position for position, key in enumerate(order) if key in store.where]
    store.order = [order[position] for position in store.kept]
    keys = iter(store.order)
    try:
        with written_beside(store.table) as scratch:
            with pq.ParquetWriter(scratch, store.schema, compression="none") as writer:
                while group := list(itertools.islice(keys, ROW_GROUP)):
                    rows = [reader.row(*store.where[key]) for key in group]
                    tables = pa.concat_tables([row.replace_schema_metadata(None) for row in rows])
                    writer.write_table(
                        tables.combine_chunks().cast(store.schema.remove_metadata()), row_group_size=ROW_GROUP
                    )
            seal_parquet(scratch)
            reader.close()
    except OSError as error:
        raise OutputError(
            f"{store.table} cannot be written ({error.strerror}); the finished parts are kept. "
            "Make room and run the same command again."
        ) from error
    finally:
        reader.close()
