"""Checking every byte of an index, and saving what can be saved of a damaged one."""

from __future__ import annotations

import contextlib
import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of
from retina_fm.errors import IndexDamagedError
from retina_fm.indexes import cache
from retina_fm.indexes.manifest import Manifest, read_manifest
from retina_fm.indexes.parts import Part, faults_of, salvage
from retina_fm.indexes.store import Writer, open_snapshot, read_checked, writing

logger = logging.getLogger("retina_fm")


@dataclass(frozen=True)
class RepairReport:
    """What a rebuild came to.

    Attributes:
        rows: in the index now.
        lost: rows whose embedding or path could not be read; their photos are encoded again when the index
            is next brought up to date.
        dropped: files beside the rows that could not be used: removals, metadata, whitening.
        cache_made: whether ``index.faiss`` was made again.
    """

    rows: int
    lost: int
    dropped: tuple[str, ...]
    cache_made: bool


def verify(store: Path) -> list[str]:
    """Read every byte of an index; what is wrong, in words, empty where nothing is.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: the manifest itself cannot be read.
    """
    manifest = read_manifest(store)
    faults = [fault for part in manifest.parts for fault in faults_of(store, part)]
    faults += [fault for name in manifest.files for fault in _file_fault(store, manifest, name)]
    if not faults:
        _, snapshot = open_snapshot(store)
        if len(snapshot) != manifest.count:
            faults.append(f"{store} holds {len(snapshot)} rows, its manifest counts {manifest.count}")
        if (np.diff(snapshot.ids) <= 0).any():
            faults.append(f"{store}: ids are not in order")
        paths = snapshot.paths.take(pa.array(snapshot.live_positions))
        if len(paths.unique()) < len(paths):
            faults.append(f"{store}: {len(paths) - len(paths.unique())} paths occur twice")
    faiss_file, about = store / cache.FILE, store / cache.ABOUT
    if about.exists():
        if not cache.is_whole(faiss_file, about):
            faults.append(f"{faiss_file} is damaged; it is made again by itself or with --rebuild")
    elif manifest.count:
        faults.append(f"{faiss_file} is missing; it is made again by itself or with --rebuild")
    return faults


def rebuild(store: Path, wait: float = 0.0) -> RepairReport:
    """Make an index whole again: keep every row that can be read, and make ``index.faiss`` anew.

    Raises:
        IndexNotFoundError: there is no index.
        IndexDamagedError: the manifest itself cannot be read.
        OutputError: another process writes, or the disk is full.
    """
    from retina_fm.indexes.changing import refresh_cache
    from retina_fm.indexes.image_index import ImageIndex

    read_manifest(store)
    with writing(store, wait) as writer:
        lost, dropped = _repair(writer)
        index = ImageIndex.open(store)
        made = refresh_cache(index, writer, force=True)
        return RepairReport(len(index), lost, tuple(dropped), made)


def _repair(writer: Writer) -> tuple[int, list[str]]:
    store, manifest = writer.store, writer.manifest
    bad_files = [name for name in manifest.files if _file_fault(store, manifest, name)]
    damaged = [part for part in manifest.parts if faults_of(store, part)]
    if not bad_files and not damaged:
        return 0, []
    removed = _removed_ids(store, manifest)
    parts: list[Part] = []
    lost = 0
    for part in manifest.parts:
        if part not in damaged:
            parts.append(part)
            continue
        table, vectors = salvage(store, part, manifest.dimension, manifest.dtype)
        lost += part.rows - len(vectors)
        if len(vectors):
            parts.append(writer.new_part(table.column("id")[0].as_py(), table, [vectors]))
    changes: dict[str, object] = {"files": {n: d for n, d in manifest.files.items() if n not in bad_files}}
    for kind in ("removed", "metadata", "whitening"):
        if getattr(manifest, kind) in bad_files:
            changes[kind] = None
            if kind == "whitening":
                changes["whiten"] = False
    writer.manifest = manifest.with_changes(**changes)
    ids = _ids_of(writer, parts)
    writer.replace_parts(tuple(parts), removed[np.isin(removed, ids)])
    writer.commit()
    return lost, bad_files


def _ids_of(writer: Writer, parts: list[Part]) -> NDArray[np.int64]:
    from retina_fm.indexes.parts import read_rows

    columns = [read_rows(writer.store, part, ["id"]).column("id").to_numpy() for part in parts]
    return np.concatenate([np.empty(0, np.int64), *columns])


def _removed_ids(store: Path, manifest: Manifest) -> NDArray[np.int64]:
    if manifest.removed:
        with contextlib.suppress(OSError, IndexDamagedError):
            read_checked(store, manifest, manifest.removed)
            ids: NDArray[np.int64] = np.load(store / manifest.removed, allow_pickle=False)
            return ids
    return np.empty(0, np.int64)


def _file_fault(store: Path, manifest: Manifest, name: str) -> list[str]:
    path = store / name
    if not path.is_file():
        return [f"{path} is missing"]
    return [] if sha256_of(path) == manifest.files[name] else [f"{path} was changed: its SHA-256 is another"]
