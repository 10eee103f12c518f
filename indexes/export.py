"""Ways out of an index: a Parquet table, a Hugging Face data set, a LanceDB table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

import retina_fm
from retina_fm._io.files import written_beside
from retina_fm._io.parquet_seals import EMPTY, KEY, seal_parquet
from retina_fm.errors import ConfigError, MissingDependencyError, OutputError
from retina_fm.indexes.state import stored_path

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex

_ROWS = 8192


def batches(
    index: ImageIndex, signatures: bool = False, named: Callable[[str], str] = str
) -> Iterator[pa.Table]:
    """Path, embedding and metadata of the live rows, signatures on request, in bounded memory.

    Args:
        index: to be read.
        signatures: whether they are a column.
        named: what a row's path is called in the table.
    """
    places = index.state.live_positions
    metadata = index.metadata
    paths = index.paths
    for start in range(0, max(1, len(places)), _ROWS):
        some = places[start : start + _ROWS]
        matrix = index.state.vectors.take(some)
        vectors = pa.FixedSizeListArray.from_arrays(pa.array(matrix.reshape(-1)), index.state.dimension)
        table = metadata.slice(start, len(some))
        names = [named(path) for path in paths[start : start + len(some)]]
        columns: dict[str, Any] = {"path": names, "embedding": vectors}
        if signatures and index.state.signatures is not None:
            rows = index.state.signatures.take(some)
            columns["signature"] = pa.FixedSizeListArray.from_arrays(
                pa.array(rows.reshape(-1)), rows.shape[1]
            )
        taken = [name for name in table.column_names if name in columns]
        if taken:
            raise ConfigError(
                f"The metadata column {taken[0]!r} clashes with a column of the export; rename it."
            )
        yield pa.table({**columns, **{name: table.column(name) for name in table.column_names}})


def to_parquet(index: ImageIndex, path: Path, *, signatures: bool = False) -> Path:
    """One Parquet table with ``path``, ``embedding`` (fixed-size list of float32) and the metadata.

    The file's metadata names model, weights, transform and metric.

    Args:
        index: to be written.
        path: of the table; paths of files in it are relative to its folder.
        signatures: add the column ``signature``, which recognises persons.

    Raises:
        OutputError: the disk is full or cannot be written.
        ConfigError: the index is empty, or a metadata column has the name of another.
    """
    if not len(index):
        raise ConfigError("The index is empty; there is nothing to write.")
    if signatures and index.state.basis is None:
        raise ConfigError("The index holds no signatures; leave signatures=True out.")
    model, basis = index.manifest.model, index.state.basis
    about = {"metric": index.manifest.metric, "retina_fm_version": retina_fm.__version__}
    if model is not None:
        about |= {
            "model": model.name,
            "weights_sha256": model.weights_sha256,
            "transform_hash": model.transform_hash,
        }
    if signatures and basis is not None:
        about["signature_basis"] = basis.hash
    seen: dict[str, str] = {}

    def named(name: str) -> str:
        is_file = model is not None and not name.startswith("sha256:")
        return stored_path(name, path.parent, seen) if is_file else name

    try:
        with written_beside(path) as scratch:
            first = next(batches(index, signatures, named)).schema.with_metadata({**about, KEY: EMPTY})
            with pq.ParquetWriter(scratch, first) as writer:
                for table in batches(index, signatures, named):
                    writer.write_table(table.cast(first))
            seal_parquet(scratch)
    except OSError as error:
        raise OutputError(f"{path} cannot be written ({error.strerror or error}). Make room.") from error
    return path


def to_datasets(index: ImageIndex) -> Any:
    """A Hugging Face data set with the columns of :func:`to_parquet`, paths as the index gives them.

    Raises:
        MissingDependencyError: ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError:
        raise MissingDependencyError(
            "datasets is not installed; pip install datasets (or '.[datasets]' in a checkout)."
        ) from None
    return datasets.Dataset(pa.concat_tables(list(batches(index))))


def to_lance(index: ImageIndex, uri: str | Path, name: str) -> Any:
    """A LanceDB table with the columns of :func:`to_datasets`, ``vector`` being what search compares.

    Raises:
        MissingDependencyError: ``lancedb`` is not installed.
        OutputError: there is a table of that name.
    """
    try:
        import lancedb
    except ImportError:
        raise MissingDependencyError(
            "lancedb is not installed; pip install lancedb (or '.[lance]' in a checkout)."
        ) from None
    database = lancedb.connect(str(uri))

    def rows() -> Iterator[pa.RecordBatch]:
        for table in batches(index):
            matrix = np.stack(table.column("embedding").combine_chunks().flatten().to_numpy().reshape(
                table.num_rows, -1))  # fmt: skip
            points = index.space.points(matrix)
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(points.reshape(-1)), points.shape[1])
            yield from table.append_column("vector", vectors).to_batches()

    stream = rows()
    first = next(stream)
    try:
        table = database.create_table(name, pa.Table.from_batches([first]))
    except (ValueError, OSError) as error:
        raise OutputError(f"The table {name!r} in {uri} cannot be made: {error}") from error
    for batch in stream:
        table.add(pa.Table.from_batches([batch]))
    return table
