"""``measure`` and ``measure_to``: numbers of photos, in memory or in a file that survives a kill."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

import retina_fm
from retina_fm._io.progress import progress_bar
from retina_fm._io.pseudonyms import Pseudonyms, pseudonyms_of
from retina_fm._io.scratch import hidden_name
from retina_fm._io.seals import is_as_written, write_table_output
from retina_fm._io.tables import csv_bytes, inert, inert_path
from retina_fm.encoding.decoding import chosen_workers
from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.in_memory import check_on_error, over_batches
from retina_fm.encoding.resumable import TableReport, check_place, fill_table
from retina_fm.encoding.rows import Key
from retina_fm.encoding.shards import Shard
from retina_fm.encoding.tagging import BOUNDS, STATED, hidden
from retina_fm.encoding.work import Decoded
from retina_fm.errors import ConfigError, OutputError
from retina_fm.measuring.columns import VERSION, schema, table_of
from retina_fm.measuring.reading import Reading
from retina_fm.measuring.row import Values, measured
from retina_fm.models import Model
from retina_fm.network.architecture import ANATOMY
from retina_fm.pictures import count, describe
from retina_fm.pictures.bounds import digest_of, with_bounds

logger = logging.getLogger("retina_fm")


class MeasureReport(TableReport):
    """What ``measure_to`` did."""


def measure(
    photos: Any,
    model: Model = "fundus2video-half",
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    allow_unreliable: bool = False,
    pseudonymise: str | Path | None = None,
) -> pa.Table:
    """Numbers read off photos: quality, eye, disc and fovea, vessels, lesions; one row a photo.

    What cannot be said of a photo is null, and ``reasons`` says why. Lengths are in the picture's own pixels,
    and in micrometres where the camera states its spacing. ``docs/measuring.md`` defines each column and says
    how far it can be believed. Research use; not a medical device.

    Args:
        photos: one or many, as :func:`retina_fm.encode` takes them. A dict may have ``eye``, ``patient_id``,
            ``acquired`` and ``spacing_um``, which go before what the file says.
        model: one that maps vessels, arteries, veins, disc and fovea, by name or loaded.
        batch_size: see :func:`retina_fm.encode`.
        workers: see :func:`retina_fm.encode`.
        device: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`.
        on_error: see :func:`retina_fm.encode`.
        progress: see :func:`retina_fm.encode`.
        allow_unreliable: give numbers too that rest on maps whose stated reliability is not enough.
        pseudonymise: see :func:`retina_fm.encode_to`.

    Returns:
        A table; ``retina_fm.measuring.COLUMNS`` has the units. ``.to_pandas()`` makes a data frame.

    Raises:
        ConfigError: the model does not map the anatomy.
        PictureError: a photo cannot be read (``on_error="raise"``, or a single photo).
    """
    check_on_error(on_error)
    total = count(photos)
    maker = _Measuring(model, device, dtype, batch_size, allow_unreliable, pseudonyms_of(pseudonymise))
    logger.info("measuring with %s in %s", maker.name, maker.precision)
    parts = over_batches(
        photos,
        lambda items, given: [
            {**values, "path": describe(photo)}
            for values, photo in zip(maker.values(items, given), given, strict=True)
        ],
        maker.transform,
        batch_size=maker.batch_size,
        workers=chosen_workers(workers, total, maker.on_gpu),
        on_error=on_error,
        bar=progress_bar(progress, total, "measure"),
    )
    columns = maker.schema.remove_metadata()
    for name in ("file_size", "file_mtime_ns"):
        columns = columns.remove(columns.get_field_index(name))
    return table_of([row for part in parts for row in part], columns)


def measure_to(
    photos: Any,
    out: str | Path,
    model: Model = "fundus2video-half",
    *,
    batch_size: int | None = None,
    workers: int | None = None,
    device: str | torch.device | None = None,
    dtype: str | torch.dtype = "auto",
    on_error: Literal["raise", "skip"] = "raise",
    progress: bool | None = None,
    allow_unreliable: bool = False,
    overwrite: bool = False,
    pseudonymise: str | Path | None = None,
    bounds: str | Path | None = None,
    shard: str | tuple[int, int] | None = None,
) -> MeasureReport:
    """:func:`measure` of any number of photos into a Parquet or CSV file, in bounded memory.

    It is kept in parts, continued after a kill, and brought up to date as :func:`retina_fm.encode_to` does. A
    CSV file is written from a Parquet file that is kept hidden beside it.

    Args:
        photos: see :func:`measure`.
        out: the table, ``.parquet`` or ``.csv``; ``path`` in it is relative to its folder.
        model: see :func:`measure`.
        batch_size: see :func:`retina_fm.encode`.
        workers: see :func:`retina_fm.encode`.
        device: see :func:`retina_fm.encode`.
        dtype: see :func:`retina_fm.encode`.
        on_error: see :func:`retina_fm.encode`; the report lists what was skipped.
        progress: see :func:`retina_fm.encode`.
        allow_unreliable: see :func:`measure`.
        overwrite: replace a table made with another model or other definitions, or a CSV file that was
            changed since, instead of refusing.
        pseudonymise: see :func:`retina_fm.encode_to`.
        bounds: see :func:`retina_fm.encode_to`.
        shard: see :func:`retina_fm.encode_to`.

    Returns:
        Counts, skipped photos, seconds.

    Raises:
        ConfigError: the model does not map the anatomy, ``out`` ends otherwise, or there is no such shard.
        OutputError: ``out`` is something else, was made by another model, is a CSV file that was changed
            since, is being written by another process, or the disk is full (what was finished stays).
        PictureError: a photo cannot be read (``on_error="raise"``); what was finished stays.
    """
    place = Path(out)
    check_place(place, on_error)
    text = place.suffix.lower() == ".csv"
    if not text and place.suffix.lower() != ".parquet":
        raise ConfigError(f"{place} ends in {place.suffix!r}; name a .parquet or a .csv file.")
    part = None if shard is None else Shard.read(shard)
    if text and part is not None:
        raise ConfigError(f"{place}: a shard is a .parquet file, which merge joins with the others.")
    table = place.parent / hidden_name(place.name, ".parquet") if text else place
    if text and place.exists() and not table.exists() and not overwrite:
        raise OutputError(
            f"{place} is there and was not written by measure; name another file, or pass overwrite=True "
            "(--overwrite)."
        )
    if text and place.exists() and not overwrite and not _is_of(table, place):
        raise OutputError(
            f"{place} was changed since measure wrote it, and would lose that. Name another file, or pass "
            "overwrite=True (--overwrite)."
        )
    pseudonyms, digest = pseudonyms_of(pseudonymise), digest_of(bounds)
    maker = _Measuring(model, device, dtype, batch_size, allow_unreliable, pseudonyms, digest)
    chosen = photos if part is None else part.photos(photos)
    report, _ = fill_table(
        chosen if bounds is None else with_bounds(chosen, bounds),
        table,
        maker,
        workers=workers,
        on_error=on_error,
        progress=progress,
        overwrite=overwrite,
        stated=None if part is None else part.stated(photos, table.parent),
    )
    if text:
        write_table_output(place, _csv_of(table))
    return MeasureReport(**{**vars(report), "path": place})


class _Measured(NamedTuple):
    """One measured photo."""

    key: Key
    values: Values


class _Measuring:
    """Rows of a table of measurements."""

    verb, holds = "measure", "measurements"
    optional: Mapping[str, str] = {}

    def __init__(
        self,
        model: Model,
        device: str | torch.device | None,
        dtype: str | torch.dtype,
        batch_size: int | None,
        allow_unreliable: bool,
        pseudonyms: Pseudonyms | None,
        bounds: str | None = None,
    ) -> None:
        self.embedder = Embedder(model, device=device, dtype=dtype, batch_size=batch_size, compile=False)
        encoder = self.embedder.encoder
        refuse_blind(encoder)
        self.name = encoder.name
        self.transform = encoder.transform
        self.batch_size = self.embedder.batch_size
        self.on_gpu = self.embedder.device.type == "cuda"
        self.precision = str(self.embedder.precision)
        self.allow_unreliable = allow_unreliable
        self.pseudonyms = pseudonyms
        self.reliability = getattr(encoder, "reliability", {})
        stated = {
            "weights_sha256": encoder.weights_sha256,
            "transform_hash": encoder.transform.hash,
            "definitions": str(VERSION),
            "unreliable": "given" if allow_unreliable else "null",
        }
        if pseudonyms is not None:
            stated[STATED] = pseudonyms.fingerprint
        if bounds is not None:
            stated[BOUNDS] = bounds
        self.identity: Mapping[str, str] = {**stated, "kind": self.holds}
        self.schema = schema(
            {
                "model": encoder.name,
                "licence": encoder.card.licence,
                "retina_fm_version": retina_fm.__version__,
                **stated,
            }
        )

    def values(self, items: Sequence[Decoded], photos: Sequence[Any]) -> list[Values]:
        """Numbers of decoded photos, without their keys."""
        views = np.stack([item.view for item in items if item.view is not None])
        layers = self._maps(views)
        rows = []
        for number, (item, photo) in enumerate(zip(items, photos, strict=True)):
            assert item.geometry is not None
            inside = item.geometry.mask_in_view()
            maps = {name: np.where(inside, layer[number], np.float32(0)) for name, layer in layers.items()}
            radius = item.geometry.radius / item.geometry.scale
            reading = Reading(views[number], inside, radius, maps)
            tags = hidden(item.tags, self.pseudonyms)
            rows.append(
                measured(reading, item.geometry, photo, tags, self.reliability, self.allow_unreliable)
            )
        return rows

    def rows(self, keys: Sequence[Key], items: Sequence[Decoded], photos: Sequence[Any]) -> list[_Measured]:
        """One row a photo, with its key."""
        return [_Measured(*pair) for pair in zip(keys, self.values(items, photos), strict=True)]

    def table(self, rows: Sequence[_Measured]) -> pa.Table:
        """Rows as a table."""
        keyed = [
            {
                **row.values,
                "path": row.key.path,
                "file_size": row.key.size,
                "file_mtime_ns": row.key.mtime_ns,
            }
            for row in rows
        ]
        return table_of(keyed, self.schema)

    @torch.inference_mode()
    def _maps(self, views: np.ndarray) -> dict[str, np.ndarray]:
        encoder = self.embedder.encoder
        layers = encoder.dense_maps(encoder.maps(self.embedder.prepared(views)))
        return {name: layer.float().cpu().numpy() for name, layer in layers.items()}


def refuse_blind(encoder: Any) -> None:
    """Raises ConfigError where an encoder, of whatever kind, does not map vessels and all of the anatomy."""
    architecture = getattr(encoder, "architecture", None)
    if getattr(encoder, "sees_vessels", False) and getattr(architecture, "anatomy", ()) == ANATOMY:
        return
    raise ConfigError(
        f"{encoder.name} does not map vessels and {', '.join(ANATOMY)}, which is what is measured. Use "
        "'fundus2video-half', or another model whose architecture has them."
    )


def _is_of(table: Path, place: Path) -> bool:
    """Whether a CSV file is what was written of a table: a run may have been killed before it said so."""
    if is_as_written(place):
        return True
    try:
        return place.read_bytes() == _csv_of(table)
    except (OSError, ValueError):  # a table that cannot be read vouches for nothing
        return False


def _csv_of(table: Path) -> bytes:
    rows = pq.read_table(table)
    columns = [
        ["" if v is None else inert_path(v) if name == "path" else inert(v) for v in column.to_pylist()]
        for name, column in zip(rows.column_names, rows.columns, strict=True)
    ]
    return csv_bytes(rows.column_names, zip(*columns, strict=True))
