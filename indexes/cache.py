"""``index.faiss``: points ready for search, and whether what lies on the disk may be trusted.

The file can always be made again from the vectors. Its last bytes say what it was made of: generation,
vectors file, number of rows and their hash, metric and whitening, and the CRC-32 of everything before them.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import struct
import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sync_folder
from retina_fm.indexes.approximate import EXACT_UP_TO, Setting, build_approximate, default_memory
from retina_fm.indexes.products import load_faiss
from retina_fm.indexes.space import Space
from retina_fm.indexes.state import State
from retina_fm.indexes.writer import CACHE as FILE
from retina_fm.indexes.writer import SCRATCH, Writer

logger = logging.getLogger("retina_fm")

FORMAT = 2
STALE_SHARE = 0.1
STALE_ROWS = 1000
_TAIL = struct.Struct("<II8s")  # length and CRC-32 of the description, mark
_MARK = b"RFMCACHE"


@dataclass(frozen=True)
class About:
    """What a cache was made of.

    Attributes:
        factory: FAISS's name of the index.
        faiss_version: that wrote it.
        space: hash of metric and whitening.
        generation: of the index it was made in.
        rows: places that it covers, the first ones.
        vectors: hash of the checksums of these rows.
        crc: CRC-32 of FAISS's bytes.
        setting: of approximate search; None for exact.
        format: of this description.
    """

    factory: str
    faiss_version: str
    space: str
    generation: int
    rows: int
    vectors: str
    crc: int = 0
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

    @property
    def recall(self) -> dict[str, Any] | None:
        """Of approximate against exact search, as it was measured."""
        setting = self.about.setting
        if setting is None:
            return None
        return {"k": 10, **setting.__dict__, "rows": self.about.rows, "factory": self.about.factory}

    def matrix(self) -> NDArray[np.float32]:
        """The points of an exact index, ``(rows, D)``, memory-mapped where the file is."""
        faiss = load_faiss()
        flat = faiss.downcast_index(self.index)
        points: NDArray[np.float32] = faiss.rev_swig_ptr(flat.get_xb(), flat.ntotal * flat.d)
        return points.reshape(flat.ntotal, flat.d)


def build_cache(
    state: State, space: Space, *, memory: int | None = None, exact_up_to: int | None = None
) -> Cache:
    """Make the points of all places ready for search, by the rule of :mod:`retina_fm.indexes.approximate`."""
    faiss = load_faiss()
    limit = EXACT_UP_TO if exact_up_to is None else exact_up_to
    setting, factory = None, "Flat"
    if state.total > limit:
        index, plan, setting = build_approximate(state, space, memory or default_memory())
        factory = plan.factory
    else:
        index = faiss.IndexFlatIP(state.dimension)
        for _, block in state.vectors.blocks():
            index.add(space.points(block))
    about = About(
        factory, faiss.__version__, space.hash, state.manifest.generation, state.total,
        _hash(state, state.total), setting=setting,
    )  # fmt: skip
    return Cache(index, about)


def save_cache(writer: Writer, cache: Cache) -> None:
    """Write the file beside and rename it.

    Raises:
        OSError: the disk is full or cannot be written; the old file stays.
    """
    faiss, folder = load_faiss(), writer.folder
    assert folder is not None
    if not writer.names(FILE):
        logger.warning("%s is none of this index; search goes without", folder / FILE)
        return
    scratch = folder / SCRATCH
    try:
        with scratch.open("xb"):
            pass
        faiss.write_index(cache.index, str(scratch))
        about = json.dumps(asdict(replace(cache.about, crc=_crc(scratch, scratch.stat().st_size)))).encode()
        with scratch.open("ab") as stream:
            stream.write(about + _TAIL.pack(len(about), zlib.crc32(about), _MARK))
        with scratch.open("rb+") as stream:
            os.fsync(stream.fileno())
        scratch.replace(folder / FILE)
        sync_folder(folder)
    except RuntimeError as error:
        raise OSError(f"FAISS cannot write it: {str(error).splitlines()[0][-120:]}") from error
    finally:
        writer.tidy()


def load_cache(folder: Path, state: State, space: Space) -> Cache | None:
    """The cache on the disk, memory-mapped, or None where it is missing, damaged, or of something else."""
    faiss, path = load_faiss(), folder / FILE
    try:
        about = read_about(path)
        reason = _unfit(about, state, space, faiss.__version__)
        if reason is None:
            return Cache(faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC), about)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, struct.error) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    logger.info("%s is not used (%s)", path, reason)
    return None


def read_about(path: Path) -> About:
    """What a cache was made of; reads every byte.

    Raises:
        OSError: it cannot be read.
        ValueError: it was changed, is cut, or is something else.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        stream.seek(max(0, size - _TAIL.size))
        length, crc, mark = _TAIL.unpack(stream.read())
        start = size - _TAIL.size - length
        if mark != _MARK or start < 0:
            raise ValueError("it is no cache of an index, or is cut")
        stream.seek(start)
        text = stream.read(length)
    if zlib.crc32(text) != crc:
        raise ValueError("it was changed")
    values = json.loads(text)
    about = About(**{**values, "setting": Setting(**values["setting"]) if values["setting"] else None})
    if _crc(path, start) != about.crc:
        raise ValueError("it was changed")
    return about


def is_ours(path: Path) -> bool:
    """Whether a file ends as a cache does, or is not there."""
    return not path.exists() or path.read_bytes()[-len(_MARK) :] == _MARK


def is_stale(cache: Cache | None, state: State) -> bool:
    """Whether so many rows came since that the cache should be made again."""
    if cache is None:
        return True
    return state.total - cache.about.rows > max(STALE_ROWS, STALE_SHARE * cache.about.rows)


def _unfit(about: About, state: State, space: Space, version: str) -> str | None:
    if about.format != FORMAT or about.faiss_version != version:
        return f"it is of format {about.format} and FAISS {about.faiss_version}"
    if about.space != space.hash:
        return "it was made for another metric or whitening"
    if about.rows > state.total or about.vectors != _hash(state, about.rows):
        return "it was made of other rows"
    return None


def _hash(state: State, rows: int) -> str:
    return hashlib.sha256(state.vectors.crcs[:rows].astype("<u4").tobytes()).hexdigest()


def _crc(path: Path, size: int) -> int:
    crc = 0
    with path.open("rb") as stream:
        while size > 0 and (chunk := stream.read(min(size, 4 << 20))):
            crc = zlib.crc32(chunk, crc)
            size -= len(chunk)
    return crc
