"""``encode_to``: any number of photos into a table, in parts, so that a kill loses nothing."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import torch

import retina_fm
from retina_fm._io.folders import refuse_link
from retina_fm._io.label_tables import known_name
from retina_fm._io.pseudonyms import Pseudonyms, pseudonyms_of
from retina_fm._io.scratch import hidden_name
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.formats import check_out, refuse_taken, rewrite
from retina_fm.encoding.resumable import TableReport, check_place, fill_table
from retina_fm.encoding.rows import Encoded, Key, schema, table_of
from retina_fm.encoding.shards import Shard
from retina_fm.encoding.tagging import BOUNDS, STATED, hidden
from retina_fm.encoding.work import Decoded, views_of
from retina_fm.errors import ConfigError, OutputError
from retina_fm.models import Model
from retina_fm.pictures import count, expand, is_single
from retina_fm.pictures.bounds import digest_of, with_bounds
from retina_fm.pictures.tags import COLUMNS, with_rows


class EncodeReport(TableReport):
    """What ``encode_to`` did."""


def encode_to(
    photos: Any,
    out: str | Path,
    model: Model = "fundus2video",
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
    pseudonymise: str | Path | None = None,
    bounds: str | Path | None = None,
    shard: str | tuple[int, int] | None = None,
) -> EncodeReport:
    """Embeddings of any number of photos into a table, in bounded memory.

    Finished batches are kept in a hidden folder beside ``out`` until the table is complete; after a kill the
    same call continues there and ends in the same bytes. A table that is there already is brought up to
    date: rows whose file has the same path, size and time are reused. ``eye``, ``patient_id`` and
    ``acquired`` are what the dict of a photo says, else what its file does (DICOM, a camera's own format).

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
            too, and ``name`` may be among them. Those of ``eye``, ``patient_id`` and ``acquired`` go before
            what the photo's file says.
        pseudonymise: a key file; ``patient_id`` is then the HMAC-SHA256 of the id. ``docs/camera-files.md``
            says what that protects from, and what it does not.
        bounds: crop bounds by id, as fundusprep's CSV has them, instead of our own search for the circle; an
            id is that of a photo's dict, or its file's name without the ending.
        shard: ``"3/7"`` or ``(3, 7)`` encodes the third of seven parts of a folder or pattern. Which part a
            photo belongs to is told by its name alone. :func:`retina_fm.merge` joins the tables.

    Returns:
        Counts, skipped photos, seconds.

    Raises:
        OutputError: ``out`` is something else, was made by another model, is being written by another
            process, or the disk is full (what was finished stays).
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished stays.
        ConfigError: there is no such shard, or these photos or this table have none.
    """
    table = Path(out)
    plain = check_out(table, overwrite)
    check_place(table, on_error)
    part = None if shard is None else Shard.read(shard)
    if part is not None and (not plain or columns is not None):
        raise ConfigError(
            f"{table}: a shard is a .parquet file without further columns; join those to what merge writes."
        )
    settings: dict[str, Any] = {
        "model": model, "batch_size": batch_size, "workers": workers, "device": device, "dtype": dtype,
        "on_error": on_error, "progress": progress, "compile": compile, "signature": signature,
        "pseudonyms": pseudonyms_of(pseudonymise), "bounds": bounds, "shard": part,
    }  # fmt: skip
    if not plain or columns is not None:
        return _with_columns(photos, table, columns, overwrite, settings)
    return _encode_to(photos, table, overwrite=overwrite, **settings)[0]


def _with_columns(
    photos: Any,
    table: Path,
    columns: Mapping[str, Sequence[str]] | None,
    overwrite: bool,
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
    photos = _as_many_as(columns or {}, photos)
    own = {name: values for name, values in (columns or {}).items() if name not in COLUMNS}
    if (hides := settings["pseudonyms"]) is not None:  # a patient's column under another spelling
        own |= {n: [hides.of(id_) or "" for id_ in own[n]] for n in own if known_name(n) == "patient_id"}
    taken = schema(1, {}, 1 if settings["signature"] else 0).names
    refuse_taken(own, taken)
    photos = with_rows(photos, {name: values for name, values in (columns or {}).items() if name in COLUMNS})
    report, kept = _encode_to(photos, inner, overwrite=True, **settings)
    found = {name: [values[position] for position in kept] for name, values in own.items()}
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


def _as_many_as(columns: Mapping[str, Sequence[str]], photos: Any) -> Any:
    """The photos, of which there have to be as many as values in each column: at once, or when they end.

    Raises:
        ConfigError: there are more or fewer.
    """
    if not columns:
        return photos
    name = min(columns, key=lambda one: len(columns[one]))
    longest = max(columns, key=lambda one: len(columns[one]))

    def refuse(one: str, number: str) -> ConfigError:
        return ConfigError(
            f"The column {one!r} has {len(columns[one])} values for {number} photos; one each is needed."
        )

    total = 1 if is_single(photos) else count(photos)
    if total is not None:
        for one, values in columns.items():
            if len(values) != total:
                raise refuse(one, str(total))
        return photos

    def counted() -> Iterator[Any]:
        number = 0
        for number, photo in enumerate(expand(photos), 1):
            if number > len(columns[name]):
                raise refuse(name, f"{number} and perhaps more")
            yield photo
        if number != len(columns[longest]):
            raise refuse(longest, str(number))

    return counted()


def _encode_to(
    photos: Any,
    table: Path,
    model: Model,
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
    pseudonyms: Pseudonyms | None,
    bounds: str | Path | None,
    shard: Shard | None,
) -> tuple[EncodeReport, list[int]]:
    """The report, and the positions of the photos that have a row."""
    stated = None if shard is None else shard.stated(photos, table.parent)
    photos = photos if shard is None else shard.photos(photos)
    photos = photos if bounds is None else with_bounds(photos, bounds)
    total = 1 if is_single(photos) else count(photos)
    embedder = Embedder(
        model, device=device, dtype=dtype, batch_size=batch_size, photos=total, compile=compile
    )
    if signature:
        embedder.check_signs()
    report, kept = fill_table(
        photos,
        table,
        EmbeddingRows(embedder, signature, pseudonyms, digest_of(bounds)),
        workers=workers,
        on_error=on_error,
        progress=progress,
        overwrite=overwrite,
        stated=stated,
    )
    return EncodeReport(**vars(report)), kept


class EmbeddingRows:
    """Rows of an embedding table."""

    verb, holds = "encode", "embeddings"
    optional: Mapping[str, str] = {"signature": "signature_basis"}

    def __init__(
        self,
        embedder: Embedder,
        signature: bool,
        pseudonyms: Pseudonyms | None = None,
        bounds: str | None = None,
    ) -> None:
        encoder = embedder.encoder
        basis = encoder.signature_basis if signature else None
        self.embedder = embedder
        self.signs = signature
        self.pseudonyms = pseudonyms
        self.transform = encoder.transform
        self.batch_size = embedder.batch_size
        self.on_gpu = embedder.device.type == "cuda"
        self.precision = str(embedder.precision)
        identity: dict[str, str] = {
            "weights_sha256": encoder.weights_sha256,
            "transform_hash": encoder.transform.hash,
            "dimension": str(encoder.num_features),
        }
        metadata = {
            "model": encoder.name,
            "weights_sha256": encoder.weights_sha256,
            "transform_hash": encoder.transform.hash,
            "licence": encoder.card.licence,
            "retina_fm_version": retina_fm.__version__,
        }
        if basis is not None:
            identity["signature_basis"] = metadata["signature_basis"] = basis.hash
        if pseudonyms is not None:
            identity[STATED] = metadata[STATED] = pseudonyms.fingerprint
        if bounds is not None:
            identity[BOUNDS] = metadata[BOUNDS] = bounds
        self.identity: Mapping[str, str] = identity
        self.schema = schema(encoder.num_features, metadata, 0 if basis is None else basis.length)

    def rows(self, keys: Sequence[Key], items: Sequence[Decoded], photos: Sequence[Any]) -> list[Encoded]:  # noqa: ARG002
        """One row a photo."""
        good = list(items)
        signatures: Any = itertools.repeat(None)
        if self.signs:
            vectors, signatures = self.embedder.both(good)
        else:
            vectors = self.embedder(views_of(good))
        return [
            Encoded(key, vector, item.geometry, one, hidden(item.tags, self.pseudonyms))
            for key, item, vector, one in zip(keys, good, vectors, signatures, strict=False)
            if item.geometry is not None
        ]

    def table(self, rows: Sequence[Encoded]) -> pa.Table:
        """Rows as a table."""
        return table_of(list(rows), self.schema)
