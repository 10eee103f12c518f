"""``encode_to``: any number of photos into a Parquet table, in parts, so that a kill loses nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import torch

import retina_fm
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.resumable import TableReport, check_place, fill_table
from retina_fm.encoding.rows import Encoded, Key, schema, table_of
from retina_fm.encoding.work import Decoded
from retina_fm.models import RetinalEncoder
from retina_fm.pictures import count, is_single


class EncodeReport(TableReport):
    """What ``encode_to`` did."""


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
) -> EncodeReport:
    """Embeddings of any number of photos into a Parquet file, in bounded memory.

    Finished batches are kept in a hidden folder beside ``out`` until the table is complete; after a kill the
    same call continues there and ends in the same bytes. A table that is there already is brought up to
    date: rows whose file has the same path, size and time are reused.

    Args:
        photos: see :func:`retina_fm.encode`.
        out: the table; ``path`` in it is relative to its folder.
        model: see :func:`retina_fm.encode`.
        batch_size: see :func:`retina_fm.encode`.
        workers: see :func:`retina_fm.encode`.
        device: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`.
        on_error: see :func:`retina_fm.encode`; the report lists what was skipped.
        progress: see :func:`retina_fm.encode`.
        compile: see :func:`retina_fm.encode`.
        overwrite: replace a table made with other weights or another transform instead of refusing.

    Returns:
        Counts, skipped photos, seconds.

    Raises:
        OutputError: ``out`` is something else, was made by another model, is being written by another
            process, or the disk is full (what was finished stays).
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished stays.
    """
    check_place(Path(out), on_error)
    total = 1 if is_single(photos) else count(photos)
    embedder = Embedder(
        model, device=device, dtype=dtype, batch_size=batch_size, photos=total, compile=compile
    )
    report = fill_table(
        photos,
        out,
        _Encoding(embedder),
        workers=workers,
        on_error=on_error,
        progress=progress,
        overwrite=overwrite,
    )
    return EncodeReport(**vars(report))


class _Encoding:
    """Rows of an embedding table."""

    verb, holds = "encode", "embeddings"

    def __init__(self, embedder: Embedder) -> None:
        encoder = embedder.encoder
        self.embedder = embedder
        self.transform = encoder.transform
        self.batch_size = embedder.batch_size
        self.on_gpu = embedder.device.type == "cuda"
        self.precision = str(embedder.precision)
        self.identity: Mapping[str, str] = {
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
        self.schema = schema(encoder.num_features, metadata)

    def rows(self, keys: Sequence[Key], items: Sequence[Decoded], photos: Sequence[Any]) -> list[Encoded]:  # noqa: ARG002
        vectors = self.embedder(np.stack([item.view for item in items if item.view is not None]))
        return [
            Encoded(key, vector, item.geometry)
            for key, item, vector in zip(keys, items, vectors, strict=True)
            if item.geometry is not None
        ]

    def table(self, rows: Sequence[Encoded]) -> pa.Table:
        return table_of(list(rows), self.schema)
