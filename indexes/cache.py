"""``index.faiss``: points ready for search, and whether what lies on the disk may be trusted.

The file can always be made again from the parts. ``index.json`` beside it says what it was made of; it is
written last, so that a kill between the two leaves a pair that does not match and is made anew.
"""

from __future__ import annotations

import json
import logging
import zlib
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of, write_json, written_beside
from retina_fm.indexes.approximate import Setting, build_approximate
from retina_fm.indexes.faiss_library import load_faiss
from retina_fm.indexes.plan import EXACT_UP_TO, default_memory, plan_exact
from retina_fm.indexes.snapshot import Snapshot
from retina_fm.indexes.space import Space

logger = logging.getLogger("retina_fm")

FILE = "index.faiss"
ABOUT = "index.json"
FORMAT = 1
HASHED_UP_TO = 2 << 30
"""Bytes up to which a file is hashed whenever it is opened; larger ones by ``verify`` alone."""
STALE_SHARE = 0.1
STALE_ROWS = 1000


@dataclass(frozen=True)
class About:
    """What a cache was made of.

    Attributes:
        factory: FAISS's name of the index.
        faiss_version: that wrote it.
        space: hash of metric and whitening.
        count: rows that it covers, the first ones of the index.
        ids: CRC-32 of their ids.
        size: of the file.
        sha256: of the file.
        setting: of approximate search; None for exact.
        format: of this description.
    """

    factory: str
    faiss_version: str
    space: str
    count: int
    ids: int
    size: int = 0
    sha256: str = ""
    setting: Setting | None = None
    format: int = FORMAT


@dataclass(frozen=True)
class Cache:
    """A FAISS index and what it covers.

    Attributes:
        index: FAISS's own object.
        about: what it was made of.
    """

    index: Any
    about: About

    @property
    def approximate(self) -> bool:
        """Whether search in it can miss a neighbour."""
        return self.about.setting is not None

    def matrix(self) -> NDArray[np.float32]:
        """The points of an exact index, ``(count, D)``, memory-mapped where the file is."""
        faiss = load_faiss()
        flat = faiss.downcast_index(self.index.index)
        points: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        return points.reshape(flat.ntotal, flat.d)


def build_cache(
    snapshot: Snapshot, space: Space, *, memory: int | None = None, exact_up_to: int | None = None
) -> Cache:
    """Make the points of all rows ready for search, by the rule of :mod:`retina_fm.indexes.plan`."""
    faiss = load_faiss()
    limit = EXACT_UP_TO if exact_up_to is None else exact_up_to
    setting = None
    if snapshot.total > limit:
        index, plan, setting = build_approximate(snapshot, space, memory or default_memory())
    else:
        plan = plan_exact(snapshot.dimension)
        index = faiss.index_factory(snapshot.dimension, plan.factory, faiss.METRIC_INNER_PRODUCT)
        for first, block in snapshot.blocks():
            index.add_with_ids(space.points(block), snapshot.ids[first : first + len(block)])
    about = About(
        plan.factory, faiss.__version__, space.hash, snapshot.total, _ids_crc(snapshot, snapshot.total),
        setting=setting,
    )  # fmt: skip
    return Cache(index, about)


def save_cache(store: Path, cache: Cache) -> About:
    """Write the two files.

    Raises:
        OSError: the disk is full or cannot be written; the old files stay, or go unused.
    """
    faiss = load_faiss()
    with written_beside(store / FILE) as scratch:
        try:
            faiss.write_index(cache.index, str(scratch))
        except RuntimeError as error:
            raise OSError(f"FAISS cannot write it: {str(error).splitlines()[0][-120:]}") from error
        size, digest = scratch.stat().st_size, sha256_of(scratch)
    about = About(**{**cache.about.__dict__, "size": size, "sha256": digest})
    write_json(store / ABOUT, asdict(about))
    return about


def load_cache(store: Path, snapshot: Snapshot, space: Space, *, full: bool = False) -> Cache | None:
    """The cache on the disk, memory-mapped, or None where it is missing, damaged, or of something else."""
    faiss = load_faiss()
    path = store / FILE
    try:
        values = json.loads((store / ABOUT).read_text(encoding="utf-8"))
        setting = Setting(**values["setting"]) if values["setting"] else None
        about = About(**{**values, "setting": setting})
        reason = _unfit(about, path, snapshot, space, faiss.__version__, full)
        if reason is None:
            return Cache(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), about)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    logger.info("%s is not used (%s)", path, reason)
    return None


def is_stale(cache: Cache | None, snapshot: Snapshot) -> bool:
    """Whether so many rows came since that the cache should be made again."""
    if cache is None:
        return True
    tail = snapshot.total - cache.about.count
    return tail > max(STALE_ROWS, STALE_SHARE * cache.about.count)


def _unfit(
    about: About, path: Path, snapshot: Snapshot, space: Space, version: str, full: bool
) -> str | None:
    if about.format != FORMAT or about.faiss_version != version:
        return f"it is of format {about.format} and FAISS {about.faiss_version}"
    if about.space != space.hash:
        return "it was made for another metric or whitening"
    if about.count > snapshot.total or about.ids != _ids_crc(snapshot, about.count):
        return "it was made of other rows"
    size = path.stat().st_size
    if size != about.size:
        return f"it has {size} of {about.size} bytes"
    if (full or size <= HASHED_UP_TO) and sha256_of(path) != about.sha256:
        return "it was changed"
    return None


def _ids_crc(snapshot: Snapshot, count: int) -> int:
    return zlib.crc32(np.ascontiguousarray(snapshot.ids[:count]).data)


def is_whole(path: Path, about: Path) -> bool:
    """Whether a cache's bytes are those that its description states."""
    try:
        values = json.loads(about.read_text(encoding="utf-8"))
        return bool(path.stat().st_size == values["size"] and sha256_of(path) == values["sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        return False
