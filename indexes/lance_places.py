"""``lance://FOLDER-OR-URL``: the place of an index in LanceDB, and the late door to that package."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from retina_fm.errors import ConfigError, IndexDamagedError, MissingDependencyError, OutputError, RetinaError

PREFIX = "lance://"
_READ_AHEAD = 256 << 20
COMMITS = "retina_fm_commits"
"""Name of the table that says what an index consists of; where it is, there is an index of ours."""


@dataclass(frozen=True)
class LancePlace:
    """A folder, or a URL of an object store.

    Attributes:
        uri: as LanceDB takes it.
    """

    uri: str

    def __str__(self) -> str:
        return PREFIX + self.uri

    @property
    def remote(self) -> bool:
        """Whether it lies on an object store."""
        return "://" in self.uri

    @property
    def folder(self) -> Path:
        """What paths of pictures are relative to: the folder; of a URL, the root of this machine."""
        return Path(Path.cwd().anchor) if self.remote else Path(self.uri)

    def is_store(self) -> bool:
        """Whether a folder holds an index; of a URL it is believed until it is opened."""
        return self.remote or (self.folder / f"{COMMITS}.lance").exists()


def lance_place(store: str | os.PathLike[str]) -> LancePlace | None:
    """The place in LanceDB that a store names, None for a folder of SQLite and vectors.

    Raises:
        ConfigError: nothing after ``lance://``.
    """
    if not isinstance(store, str) or not store.startswith(PREFIX):
        return None
    if not store[len(PREFIX) :]:
        raise ConfigError(
            "store='lance://' names no place; write lance://FOLDER or lance://s3://BUCKET/PATH."
        )
    return LancePlace(store[len(PREFIX) :])


def load_lancedb() -> Any:
    """The package, imported when an index needs it.

    Raises:
        MissingDependencyError: it is not installed.
    """
    # LanceDB reads up to 2 GB ahead, also where it builds its index: memory is to be bounded by less
    os.environ.setdefault("LANCE_DEFAULT_IO_BUFFER_SIZE", str(_READ_AHEAD))
    try:
        import lancedb
    except ImportError:
        raise MissingDependencyError(
            "lancedb is not installed; pip install lancedb (or '.[lance]' in a checkout)."
        ) from None
    return lancedb


@contextmanager
def reading(name: object) -> Iterator[None]:
    """Turn what LanceDB says of files that are gone or changed into our error."""
    try:
        yield
    except RetinaError:
        raise
    except (RuntimeError, OSError, ValueError, KeyError) as error:
        raise IndexDamagedError(
            f"{name} cannot be read ({_short(error)}). If it was compacted meanwhile, open it again; else "
            "build it again in another store."
        ) from error


@contextmanager
def writing_to(place: LancePlace) -> Iterator[None]:
    """Turn what LanceDB says of a place that cannot be written into our error."""
    try:
        yield
    except RetinaError:
        raise
    except (RuntimeError, OSError, ValueError) as error:
        raise OutputError(
            f"The index {place} cannot be written ({_short(error)}); its last state is kept. Make room and "
            "run the same again."
        ) from error


def _short(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:200]
