"""Photos that lie in Parquet files or behind URLs: listed in one place, fetched where they are decoded."""

from __future__ import annotations

import glob
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from retina_fm.encoding.rows import Elsewhere, Key, name_in
from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.pictures.folders import SUFFIXES, natural_key

_TIMES = ("mtime", "LastModified", "last_modified", "updated", "created")
"""What file systems of fsspec call the time of a file's last change."""


@dataclass(frozen=True)
class AtUrl(Elsewhere):
    """A file behind a URL that fsspec opens."""

    url: str

    def fetch(self) -> bytes:
        """Its bytes."""
        with _opened(self.url) as stream:
            return bytes(stream.read())


@dataclass(frozen=True)
class InParquet(Elsewhere):
    """A row of a Parquet file with a column of encoded pictures."""

    file: str
    column: str
    group: int
    row: int

    def fetch(self) -> bytes:
        """Its bytes."""
        value = _group(self.file, self.column, self.group)[self.row].as_py()
        value = value["bytes"] if isinstance(value, dict) else value
        if value is None:
            raise OSError("the row has no bytes")
        return bytes(value)


def listed(photos: Any, folder: Path) -> Any:
    """Photos as ``encode`` takes them, with those in Parquet files and behind URLs as references.

    Args:
        photos: anything; a URL, and names that end in ``.parquet``, are looked into here.
        folder: of the table that is written, which local names are relative to.

    Raises:
        NoPicturesError: a URL without pictures.
        ConfigError: a Parquet file without one column of bytes, or with a path twice.
    """
    if isinstance(photos, str) and "://" in photos and not photos.endswith(".parquet"):
        return _at_url(photos)
    files = _parquet_files(photos)
    return _in_parquet(files, folder) if files else photos


def _at_url(url: str) -> list[AtUrl]:
    files, root = _file_system(url)
    if glob.has_magic(root):
        found = files.glob(root, detail=True)
    elif files.isdir(root):
        found = files.find(root, detail=True)
    else:
        found = {root: files.info(root)} if files.exists(root) else {}
    names = [name for name, about in found.items() if about["type"] == "file" and _is_picture(name, root)]
    if not names:
        raise NoPicturesError(f"{url}: no picture is there. Pictures end in {', '.join(sorted(SUFFIXES))}.")
    photos = []
    for name in sorted(names, key=lambda name: (natural_key(name), name)):
        full = files.unstrip_protocol(name)
        about = found[name]
        photos.append(AtUrl(Key(full, int(about.get("size") or 0), _changed(about)), full, full))
    return photos


def _is_picture(name: str, root: str) -> bool:
    below = PurePosixPath(name[len(root) :] if name.startswith(root) else name).parts
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not any(part.startswith(".") for part in below)


def _changed(about: Mapping[str, Any]) -> int:
    """Nanoseconds since 1970 of a file's last change; 0 where its place does not tell."""
    value = next((about[name] for name in _TIMES if about.get(name) is not None), 0)
    if isinstance(value, str):
        value = datetime.fromisoformat(value.replace("Z", "+00:00"))
    seconds = value.timestamp() if isinstance(value, datetime) else float(value)
    return int(seconds * 1_000_000_000)


def _parquet_files(photos: Any) -> list[str]:
    """Names of Parquet files, where these are what was given."""
    if isinstance(photos, str | os.PathLike):
        name = os.fspath(photos)
        if not name.endswith(".parquet"):
            return []
        if glob.has_magic(name) and "://" not in name:
            return sorted(glob.glob(name), key=natural_key)  # noqa: PTH207
        if glob.has_magic(name):
            files, root = _file_system(name)
            return sorted((files.unstrip_protocol(one) for one in files.glob(root)), key=natural_key)
        return [name]
    if (
        isinstance(photos, list | tuple)
        and photos
        and all(isinstance(one, str | os.PathLike) for one in photos)
    ):
        names = [os.fspath(one) for one in photos]
        return names if all(name.endswith(".parquet") for name in names) else []
    return []


def _in_parquet(names: list[str], folder: Path) -> list[InParquet]:
    photos = [photo for name in names for photo in _rows_of(name, folder)]
    seen: set[str] = set()
    for photo in photos:
        if photo.key.path in seen:
            raise ConfigError(
                f"{photo.file}: the path {photo.name!r} is there twice; each row needs its own."
            )
        seen.add(photo.key.path)
    return photos


def _rows_of(name: str, folder: Path) -> Iterator[InParquet]:
    """The rows of a file; named by its column ``path``, or by number."""
    shown = name if "://" in name else name_in(name, folder)
    file = name if "://" in name else os.path.abspath(name)  # noqa: PTH100  workers have another folder
    if "://" in name:
        files, root = _file_system(name)
        about = files.info(root)
        size, changed = int(about.get("size") or 0), _changed(about)
    else:
        try:
            status = Path(name).stat()
        except OSError as error:
            raise NoPicturesError(f"{name}: cannot be read ({error.strerror}). Check the path.") from None
        size, changed = status.st_size, status.st_mtime_ns
    with _opened(file) as stream, _parquet(stream, name) as table:
        column = _column(table.schema_arrow, name)
        named = "path" in table.schema_arrow.names
        number = 0
        for group in range(table.num_row_groups):
            rows = table.metadata.row_group(group).num_rows
            paths = table.read_row_group(group, ["path"]).column(0).to_pylist() if named else [None] * rows
            for row, path in enumerate(paths):
                key = Key(f"{shown}#row={number}" if path is None else str(path), size, changed)
                yield InParquet(key, key.path, file, column, group, row)
                number += 1


def _column(schema: pa.Schema, name: str) -> str:
    found: list[str] = [field.name for field in schema if _holds_bytes(field.type)]
    if len(found) != 1:
        told = f"columns {', '.join(found)}" if found else f"none among {', '.join(schema.names)}"
        raise ConfigError(f"{name}: one column of encoded pictures (binary) is needed; it has {told}.")
    return found[0]


def _holds_bytes(kind: pa.DataType) -> bool:
    if pa.types.is_struct(kind):  # as data sets of Hugging Face keep pictures
        return bool(kind.get_field_index("bytes") >= 0)
    return bool(pa.types.is_binary(kind) or pa.types.is_large_binary(kind))


@lru_cache(maxsize=1)
def _group(file: str, column: str, group: int) -> pa.ChunkedArray:
    """A row group's pictures, the last one kept, for a job's photos mostly lie in one."""
    with _opened(file) as stream, _parquet(stream, file) as table:
        return table.read_row_group(group, [column]).column(0)


def _parquet(stream: Any, name: str) -> pq.ParquetFile:
    try:
        return pq.ParquetFile(stream)
    except pa.ArrowInvalid as error:
        raise ConfigError(f"{name} is no Parquet file ({error}).") from None


def _opened(place: str) -> Any:
    if "://" not in place:
        return Path(place).open("rb")
    files, root = _file_system(place)
    return files.open(root, "rb")


def _file_system(url: str) -> tuple[Any, str]:
    """What reads a URL, and the place within it; credentials are fsspec's matter.

    Raises:
        ConfigError: no such kind of URL, or its package is not installed.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ConfigError(f"{url}: {error}. fsspec needs a package for each kind of URL.") from None
    return files, str(root)
