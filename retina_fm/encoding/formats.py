"""What a table of embeddings is written as: Parquet, CSV or NumPy, with columns of one's own beside it."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from retina_fm._io.files import written_beside
from retina_fm.errors import ConfigError, OutputError

PARQUET = ("", ".parquet", ".pq")
_ROWS = 1024


def check_out(out: str | Path, overwrite: bool = True) -> bool:
    """Whether a table is written as the usual Parquet file; False for ``.csv`` and ``.npz``.

    Raises:
        ConfigError: it ends in something else.
        OutputError: it is there and may not be replaced.
    """
    suffix = Path(out).suffix.lower()
    if suffix not in (*PARQUET, ".csv", ".npz"):
        raise ConfigError(f"{out} ends in {suffix}; tables are written as .parquet, .csv or .npz.")
    if not overwrite and suffix not in PARQUET and Path(out).exists():
        raise OutputError(
            f"{out} is there already, and only .parquet is brought up to date. Remove it, name another file, "
            "or pass overwrite=True (--overwrite)."
        )
    return suffix in PARQUET


def refuse_taken(columns: Iterable[str], own: Collection[str]) -> None:
    """Raises ConfigError where a further column has the name of one of the table's own."""
    twice = [name for name in columns if name in own]
    if twice:
        raise ConfigError(
            f"The column {twice[0]!r} is one that encode writes itself. Give yours another name, or choose "
            "others (--column)."
        )


def rewrite(table: Path, out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    """A finished Parquet table in the form that ``out`` ends in, whole or not at all.

    Args:
        table: as ``encode_to`` writes it.
        out: ``.csv`` has a column for each number of the embedding, ``.npz`` an array ``embedding``.
        columns: further ones, a value a row.

    Raises:
        ConfigError: a column has the name of one that is there.
        OSError: it cannot be written.
    """
    import pyarrow.parquet as pq

    refuse_taken(columns, pq.read_schema(table).names)
    writers = {".csv": _csv, ".npz": _npz}
    with written_beside(out) as scratch:
        writers.get(out.suffix.lower(), _parquet)(table, scratch, columns)


def _groups(table: Path, columns: Mapping[str, Sequence[Any]]) -> Iterator[Any]:
    """The table's rows with the further columns, some at a time."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    first = 0
    with pq.ParquetFile(table) as file:
        for batch in file.iter_batches(_ROWS):
            rows = pa.Table.from_batches([batch])
            for name, values in columns.items():
                rows = rows.append_column(
                    name, pa.array(list(values[first : first + len(rows)]), pa.string())
                )
            first += len(rows)
            yield rows


def _parquet(table: Path, out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    from retina_fm._io.parquet_seals import EMPTY, KEY, seal_parquet

    found = pq.read_schema(table)
    metadata = {**(found.metadata or {}), KEY.encode(): EMPTY.encode()}
    schema = pa.schema([*found, *(pa.field(name, pa.string()) for name in columns)], metadata=metadata)
    with pq.ParquetWriter(out, schema, compression="none") as writer:
        for rows in _groups(table, columns):
            writer.write_table(rows.replace_schema_metadata(metadata).cast(schema))
    seal_parquet(out)


def _csv(table: Path, out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    with out.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        header: list[str] | None = None
        for rows in _groups(table, columns):
            lists = [name for name in ("embedding", "signature") if name in rows.column_names]
            others = [name for name in rows.column_names if name not in lists]
            vectors = {name: rows.column(name).to_pylist() for name in lists}
            if header is None:
                numbers = [f"{name}_{at}" for name in lists for at in range(len(vectors[name][0]))]
                header = [*others, *numbers]
                writer.writerow(header)
            cells = zip(*(rows.column(name).to_pylist() for name in others), strict=True)
            for row, *parts in zip(cells, *vectors.values(), strict=True):
                # as many digits as float32 has
                writer.writerow([*row, *(f"{value:.9g}" for part in parts for value in part)])


def _npz(table: Path, out: Path, columns: Mapping[str, Sequence[Any]]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc
    import pyarrow.parquet as pq

    from retina_fm._io.seals import npz_bytes

    rows = pq.read_table(table)
    flat = pc.list_flatten(rows.column("embedding")).to_numpy()
    arrays = {"embedding": flat.reshape(len(rows), -1) if len(rows) else np.empty((0, 0), np.float32)}
    for name in rows.column_names:
        if name != "embedding":
            values = rows.column(name).to_pylist()
            text = pa.types.is_string(rows.schema.field(name).type)
            arrays[name] = np.array([v or "" for v in values], dtype=str) if text else np.array(values)
    arrays.update({name: np.array(list(values), dtype=str) for name, values in columns.items()})
    about = rows.schema.metadata or {}
    basis = [b"signature_basis"] if "signature" in arrays else []
    for key in (b"model", b"weights_sha256", b"transform_hash", b"licence", *basis):
        arrays[key.decode()] = np.array(about.get(key, b"").decode())
    out.write_bytes(npz_bytes(arrays))
