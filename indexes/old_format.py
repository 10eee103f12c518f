"""Indexes of the format before this one, read as they are, and taken over whole by the next writer.

``manifest.json`` named parts (``vectors/part-*.npy`` and ``.parquet``), and a file each of removed ids, of
metadata and of whitening.
"""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm._io.files import sha256_of
from retina_fm.errors import IndexDamagedError, IndexMismatchError
from retina_fm.indexes.metadata import incoming
from retina_fm.indexes.state import Manifest, ModelIdentity, State, empty_state
from retina_fm.indexes.vectors import Vectors
from retina_fm.indexes.writer import Writer
from retina_fm.models.whitening import Whitening

FILE = "manifest.json"
_KEPT = ("metric", "dimension", "dtype", "whiten", "count")


def is_there(folder: Path) -> bool:
    """Whether a folder holds such an index."""
    return (folder / FILE).is_file()


def read(folder: Path) -> State:
    """Its state, each row checked before it is used.

    Raises:
        IndexDamagedError: files are cut, changed or missing.
        IndexMismatchError: it is of neither format.
    """
    try:
        values = json.loads((folder / FILE).read_text(encoding="utf-8"))
        if not isinstance(values, dict) or values.get("format") != 1:
            raise IndexMismatchError(f"{folder / FILE} is of a format that this release does not read.")
        for name, digest in values["files"].items():
            if sha256_of(folder / name) != digest:
                raise IndexDamagedError(f"{folder / name} was changed: its SHA-256 is another")
        return _read(folder, values)
    except IndexMismatchError:
        raise
    except (OSError, ValueError, KeyError, TypeError, IndexError, RuntimeError) as error:
        what = f"{error.filename} cannot be read ({error.strerror})" if isinstance(error, OSError) else error
        raise IndexDamagedError(
            f"The index {folder} is damaged: {what}. It was made by an earlier release; build it again in a "
            "new folder, or mend it with that release."
        ) from None


def upgrade(writer: Writer) -> None:
    """Take the state over in one commit, and only then remove the files that the old manifest names."""
    state, folder = writer.state, writer.folder
    assert state is not None and folder is not None
    values = json.loads((folder / FILE).read_text(encoding="utf-8"))
    writer.upgraded = True
    writer.rewrite(state)
    for name in (FILE, "index.json", *values["files"], *_part_files(values)):
        writer.name_file(name, "old")
    writer.name_cache()
    writer.commit()
    writer.tidy()
    writer.committed()


def _part_files(values: dict[str, Any]) -> list[str]:
    return [f"vectors/{part['name']}.{kind}" for part in values["parts"] for kind in ("npy", "parquet")]


def _read(folder: Path, values: dict[str, Any]) -> State:
    tables: list[pa.Table] = []
    chunks: list[tuple[Any, Any]] = []
    for part in values["parts"]:
        matrix, rows = (
            folder / "vectors" / f"{part['name']}.npy",
            folder / "vectors" / f"{part['name']}.parquet",
        )
        for path, size in zip((matrix, rows), part["sizes"], strict=True):
            if path.stat().st_size != size:
                raise IndexDamagedError(f"{path} has {path.stat().st_size} of {size} bytes")
        if sha256_of(rows) != part["sha256"][1]:
            raise IndexDamagedError(f"{rows} was changed: its SHA-256 is another")
        table = pq.read_table(rows)
        tables.append(table)
        vectors = np.load(matrix, mmap_mode="r", allow_pickle=False)
        if vectors.shape != (table.num_rows, values["dimension"]):
            raise IndexDamagedError(f"{matrix} holds {vectors.shape}, not {table.num_rows} rows")
        crcs = table.column("crc32").to_numpy()
        if vectors.dtype == np.float16:
            # Checksums were taken before the values were rounded; the file's hash says whether it is whole.
            if sha256_of(matrix) != part["sha256"][0]:
                raise IndexDamagedError(f"{matrix} was changed: its SHA-256 is another")
            crcs = None
        chunks.append((vectors, crcs))
    whitening = None
    if values["whitening"]:
        with np.load(BytesIO((folder / values["whitening"]).read_bytes()), allow_pickle=False) as arrays:
            whitening = Whitening(arrays["mean"], arrays["directions"], arrays["gains"])
    model = ModelIdentity(**values["model"]) if values["model"] else None
    kept = {name: values[name] for name in _KEPT}
    manifest = Manifest(**kept, model=model, next_number=values["next_id"], generation=values["generation"])
    db = empty_state(manifest, whitening).db
    if tables:
        _fill(db, folder, values, pa.concat_tables(tables))
    state = State(db, Vectors(chunks, manifest.dimension, str(folder / "vectors")), folder)
    if len(state.live_positions) != manifest.count:
        raise IndexDamagedError(f"{len(state.live_positions)} rows are there, {FILE} counts {manifest.count}")
    return state


def _fill(db: Any, folder: Path, values: dict[str, Any], rows: pa.Table) -> None:
    removed = np.empty(0, np.int64)
    if values["removed"]:
        removed = np.load(BytesIO((folder / values["removed"]).read_bytes()), allow_pickle=False)
    dead = np.isin(rows.column("id").to_numpy(), removed)
    db.executemany("INSERT INTO removed VALUES (?)", [(place,) for place in np.flatnonzero(dead).tolist()])
    columns = [rows.column(name).to_pylist() for name in ("path", "size", "mtime_ns", "sha256")]
    live = [row for row in zip(range(len(dead)), *columns, strict=True) if not dead[row[0]]]
    writer = Writer(db, None, None)
    writer.add(live)
    if values["metadata"]:
        table = pq.read_table(BytesIO((folder / values["metadata"]).read_bytes()))
        places = {row[1]: row[0] for row in live}
        table = table.filter(
            pa.array([path in places for path in table.column("path").to_pylist()], pa.bool_())
        )
        if table.num_rows:
            found = incoming(table, [], places, lambda path, _: [path])
            writer.describe(found.kinds, {places[path]: row for path, row in found.rows.items()})
    if db.in_transaction:
        db.execute("COMMIT")
