"""Cameras' own files to pictures: Topcon .fda, .fds, Heidelberg .e2e, Zeiss .img (extra ``vendor``).

The layouts are oct-converter's. Its readers are not called: they open files by name, follow what a damaged
file points at for ever, and do not run with NumPy 2.3 and newer.
"""

from __future__ import annotations

import datetime
import importlib.util
import os
import re
import struct
from collections.abc import Callable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from retina_fm.errors import MissingDependencyError, PictureError
from retina_fm.pictures.arrays import array_to_picture
from retina_fm.pictures.files import read_file
from retina_fm.pictures.limits import check_size
from retina_fm.pictures.pages import several
from retina_fm.vocabulary import Eye

SUFFIXES = frozenset({".fda", ".fds", ".e2e"})
"""Names that their files end in; ``.img`` belongs to many formats and is known by its size too."""
_TOPCON, _HEIDELBERG = b"FOCT", (b"CMDb", b"E2EMultipleVolumeFile")
_DEPTH = 1024  # pixels of an A-scan in a Zeiss cube
_CUBES = {_DEPTH * 200 * 200: 200}  # bytes to columns; any other cube has 512
_COLUMNS = 512
_LEAST_SLICES = 32
_MOST_CHUNKS = 200_000  # looked at in a file, which takes seconds; a hundred volumes have half of it
_PATIENT, _PREAMBLE, _SCAN, _IMAGE = 9, 3, 10004, 1 << 30  # kinds of chunks in .e2e
_PATIENT_ID = slice(102, 127)  # after names, title, birth and sex; its own, for these may be in any code page
_TOPCON_EYES: dict[int, Eye] = {0: "right", 1: "left"}
_WINDOWS_EPOCH = datetime.datetime(1601, 1, 1)

Decode = Callable[[bytes, str], np.ndarray]


class Said(NamedTuple):
    """What a camera's file says of its photograph, each None where it does not.

    Attributes:
        eye: ``left`` or ``right``.
        patient_id: as it is written.
        acquired: ISO 8601, a day or a day with its time.
        spacing_um: None: no layout here states it of the fundus picture.
    """

    eye: Eye | None = None
    patient_id: str | None = None
    acquired: str | None = None
    spacing_um: float | None = None


class _Chunk(NamedTuple):
    """A piece of an .e2e file: its head, and where its contents begin."""

    head: Any
    place: int


class _Image(NamedTuple):
    """A fundus picture of an .e2e file, and the series that it belongs to."""

    pixels: np.ndarray
    series: tuple[int, int, int]


def is_vendor(source: Any, name: str) -> bool:
    """Whether bytes, or the file at a path, are of a camera's own format.

    Args:
        source: bytes or a path.
        name: of the file, which tells an ``.img``.
    """
    if isinstance(source, bytes | bytearray | memoryview):
        head, size = bytes(source[:32]), len(source)
    elif isinstance(source, str | os.PathLike):
        with Path(source).open("rb") as file:
            head, size = file.read(32), os.fstat(file.fileno()).st_size
    else:
        return False
    return head.startswith((_TOPCON, *_HEIDELBERG)) or is_cube(name, size)


def is_cube(name: str, size: int) -> bool:
    """Whether a file of that name and size is a Zeiss cube: ``.img``, and as many bytes as one has."""
    slices, rest = divmod(size, _DEPTH * _COLUMNS)
    return name.lower().endswith(".img") and (size in _CUBES or (rest == 0 and slices >= _LEAST_SLICES))


def read_vendor(data: bytes, name: str, frame: int | None, decode: Decode) -> np.ndarray:
    """The fundus picture of a camera's file, ``uint8 (H, W, 3)``.

    Args:
        data: of the file.
        name: of it, for messages, and to tell an ``.img``.
        frame: which one, counted from 0, where it holds several.
        decode: of a picture that is packed in the file.

    Raises:
        MissingDependencyError: oct-converter is not installed.
        PictureError: it is damaged, holds no fundus picture, or several and none was named.
    """
    try:
        if data.startswith(_TOPCON):
            return _topcon_picture(data, name, frame, decode)
        if data.startswith(_HEIDELBERG):
            return _chosen(_heidelberg_images(data, name), name, frame)
        return _en_face(data, name, frame)
    except (PictureError, MissingDependencyError):
        raise
    except MemoryError:
        raise PictureError(f"{name}: memory ran out while it was read. Use fewer workers.") from None
    except Exception as error:  # construct raises many kinds where a file ends early
        short = (str(error).strip().splitlines() or [""])[0][:160]
        raise PictureError(
            f"{name}: damaged or truncated ({type(error).__name__}: {short}). Export it again."
        ) from None


def said_by(source: Any, name: str, frame: int | None) -> Said:
    """What a camera's file says beside its pixels; raises many kinds of errors where it is damaged."""
    data = bytes(source) if not isinstance(source, str | os.PathLike) else read_file(source, name)[0]
    if data.startswith(_TOPCON):
        return _topcon_said(data)
    if data.startswith(_HEIDELBERG):
        return _heidelberg_said(data, name, frame)
    return _named(Path(name).name)


def frames_of(path: Path) -> int:
    """How many fundus pictures a file holds; 1 where it cannot be read, which is said when it is decoded."""
    if path.suffix.lower() != ".e2e":
        return 1
    try:
        status = path.stat()
        return _counted(path, status.st_size, status.st_mtime_ns)
    except (OSError, PictureError):
        return 1


@lru_cache(maxsize=4096)
def _counted(path: Path, size: int, mtime_ns: int) -> int:  # noqa: ARG001  they tell a changed file
    name = os.fspath(path)
    data, _ = read_file(path, name)
    try:
        return max(1, len(_heidelberg_images(data, name)))
    except MissingDependencyError:
        raise
    except Exception:  # see read_vendor
        return 1


# Topcon: named chunks, one after the other


def _chunks(data: bytes) -> dict[bytes, tuple[int, int]]:
    """Where each chunk's contents begin, and how long they are; the first of a name."""
    found: dict[bytes, tuple[int, int]] = {}
    place = 15  # of the header
    while place < len(data) and (length := data[place]):
        name = data[place + 1 : place + 1 + length]
        (size,) = struct.unpack_from("<I", data, place + 1 + length)
        begin = place + 5 + length
        found.setdefault(name, (begin, size))
        place = begin + size
    return found


def _topcon_picture(data: bytes, name: str, frame: int | None, decode: Decode) -> np.ndarray:
    layouts = _layouts(name)
    chunks = _chunks(data)
    if frame:
        raise PictureError(f"{name}: it has no frame {frame}. It holds 1, counted from 0.")
    if b"@IMG_FUNDUS" in chunks:  # .fda: a packed picture, its channels in the order blue, green, red
        packed = _packed(data, chunks[b"@IMG_FUNDUS"][0], layouts.fda.fundus_header, name)
        return np.ascontiguousarray(decode(packed, name)[..., ::-1])
    if b"@IMG_OBS" in chunks:  # .fds: plain bytes, likewise
        layout = layouts.fds.fundus_header
        begin = chunks[b"@IMG_OBS"][0]
        head = _parsed(layout, data, begin)
        check_size(head.width, head.height, name)
        size = 3 * head.width * head.height
        begin += layout.sizeof()
        if len(data) < begin + size:
            raise PictureError(f"{name}: damaged or truncated (pixels are missing). Export it again.")
        pixels = np.frombuffer(data, np.uint8, size, begin).reshape(head.height, head.width, 3)
        return np.ascontiguousarray(pixels[..., ::-1])
    if b"@IMG_TRC_02" in chunks:  # .fda: a grey picture of the fundus, where there is no other
        return decode(_packed(data, chunks[b"@IMG_TRC_02"][0], layouts.fda.img_trc_02_header, name), name)
    raise PictureError(f"{name}: it holds no fundus picture, an OCT scan alone. Leave it out.")


def _packed(data: bytes, begin: int, layout: Any, name: str) -> bytes:
    head = _parsed(layout, data, begin)
    check_size(head.width, head.height, name)
    begin += layout.sizeof()
    return data[begin : begin + head.size]


def _topcon_said(data: bytes) -> Said:
    layouts = _layouts("tags").fda  # those of .fds are the same
    chunks = _chunks(data)
    patient = acquired = None
    eye: Eye | None = None
    if b"@PATIENT_INFO_02" in chunks:
        begin = chunks[b"@PATIENT_INFO_02"][0]
        patient = _text(data[begin : begin + layouts.patient_info_02_header.patient_id.sizeof()])
    for kind in (b"@CAPTURE_INFO_02", b"@CAPTURE_INFO"):
        if kind in chunks:
            layout = getattr(layouts, kind.decode()[1:].lower() + "_header")
            head = _parsed(layout, data, chunks[kind][0])
            eye = _TOPCON_EYES.get(head.eye)
            acquired = _moment(*head.cap_date)
            break
    return Said(eye, patient, acquired)


# Heidelberg: directories that point at chunks


def _heidelberg_chunks(data: bytes, name: str) -> Iterator[_Chunk]:
    """Each chunk that a directory names, a directory once."""
    layouts = _layouts(name).e2e
    skip = 64 if data.startswith(_HEIDELBERG[1]) else 0
    head, entry, chunk = (
        layouts.main_directory_structure, layouts.sub_directory_structure, layouts.chunk_structure
    )  # fmt: skip
    first = _parsed(head, data, skip + layouts.header_structure.sizeof())
    at, seen, count = first.current, set(), 0
    pos_and_start = struct.Struct(f"<II{entry.sizeof() - 8}x")  # construct would take minutes for many
    starts: dict[int, None] = {}  # each chunk once, however often a damaged directory names it
    while at and at not in seen:
        seen.add(at)
        directory = _parsed(head, data, at + skip)
        place = at + skip + head.sizeof()
        end = place + directory.num_entries * entry.sizeof()
        count += directory.num_entries
        if count > _MOST_CHUNKS or end > len(data):
            raise PictureError(f"{name}: damaged, its directory does not end. Export it again.")
        for pos, start in pos_and_start.iter_unpack(data[place:end]):
            if start > pos:
                starts[start + skip] = None
        at = directory.prev
    for start in starts:
        if chunk_head := _readable(chunk, data, start):
            yield _Chunk(chunk_head, start + chunk.sizeof())


def _heidelberg_images(data: bytes, name: str) -> list[_Image]:
    """A picture a series, the last one where it was taken again."""
    layout = _layouts(name).e2e.image_structure
    found: dict[tuple[int, int, int], _Image] = {}
    for chunk in _heidelberg_chunks(data, name):
        if chunk.head.type != _IMAGE or chunk.head.ind != 0:
            continue
        head = _parsed(layout, data, chunk.place)
        if not head.height * head.width:
            break
        check_size(head.width, head.height, name)
        begin, size = chunk.place + layout.sizeof(), head.height * head.width
        if len(data) < begin + size:
            raise PictureError(f"{name}: damaged or truncated (pixels are missing). Export it again.")
        pixels = np.frombuffer(data, np.uint8, size, begin).reshape(head.height, head.width)
        series = _series(chunk)
        found[series] = _Image(pixels, series)
    return list(found.values())


def _chosen(images: list[_Image], name: str, frame: int | None) -> np.ndarray:
    if not images:
        raise PictureError(f"{name}: it holds no fundus picture, OCT scans alone. Leave it out.")
    if frame is None and len(images) > 1:
        raise PictureError(several(name, len(images), "series of a Heidelberg file"))
    if frame is not None and frame >= len(images):
        raise PictureError(f"{name}: it has no frame {frame}. It holds {len(images)}, counted from 0.")
    return array_to_picture(images[frame or 0].pixels, name)


def _heidelberg_said(data: bytes, name: str, frame: int | None) -> Said:
    layouts = _layouts(name).e2e
    images = _heidelberg_images(data, name)
    ours = images[frame or 0].series if images else None
    patient = acquired = None
    eyes: dict[tuple[int, int, int], Eye] = {}
    for chunk in _heidelberg_chunks(data, name):
        rest, series = data[chunk.place : chunk.place + 256], _series(chunk)
        if chunk.head.type == _PATIENT:
            patient = patient or _text(rest[_PATIENT_ID])
        elif chunk.head.type == _PREAMBLE and len(rest) > 4 and rest[4:5] in (b"R", b"L"):
            eyes.setdefault(series, "right" if rest[4:5] == b"R" else "left")
        elif chunk.head.type == _SCAN and acquired is None and series == ours:
            ticks = layouts.bscan_metadata.parse(rest).acquisitionTime
            moment = _WINDOWS_EPOCH + datetime.timedelta(microseconds=ticks // 10)
            acquired = moment.replace(microsecond=0).isoformat() if moment.year > 1900 else None
    return Said(eyes.get(ours) if ours else None, patient, acquired)


def _series(chunk: _Chunk) -> tuple[int, int, int]:
    return chunk.head.patient_db_id, chunk.head.study_id, chunk.head.series_id


# Zeiss: a cube of bytes, whose file name says the rest


def _en_face(data: bytes, name: str, frame: int | None) -> np.ndarray:
    """The mean over depth, slices down and A-scans across, stretched to a square: both sides are as long."""
    _layouts(name)  # one extra for all of these files
    if frame:
        raise PictureError(f"{name}: it has no frame {frame}. It holds 1, counted from 0.")
    columns = _CUBES.get(len(data), _COLUMNS)
    cube = np.frombuffer(data, np.uint8).reshape(-1, columns, _DEPTH)
    mean = np.stack([slab.mean(1, dtype=np.float32) for slab in cube])
    stretched = Image.fromarray(mean).resize((columns, columns), Image.Resampling.BILINEAR)
    lit = np.asarray(stretched)
    low, high = float(lit.min()), float(lit.max())
    return array_to_picture((lit - low) / max(high - low, 1e-6), name)


def _named(name: str) -> Said:
    """What a Zeiss file's name says: ``P123_..._6-20-2011_10-9-8_OD_...``."""
    patient = re.match(r"P\d+", name)
    eye = re.search(r"O[DS](?![A-Za-z])", name)
    day = re.search(r"(\d{1,2})-(\d{1,2})-(\d{4})_(\d{1,2})-(\d{1,2})-(\d{1,2})", name)
    acquired = None
    if day:
        month, date, year, *clock = map(int, day.groups())
        acquired = _moment(year, month, date, *clock)
    said: Eye | None = None if eye is None else "right" if eye[0] == "OD" else "left"
    return Said(said, patient and patient[0], acquired)


class _Layouts(NamedTuple):
    fda: Any
    fds: Any
    e2e: Any


def _layouts(name: str) -> _Layouts:
    """The layouts; only these modules of oct-converter are loaded, for its readers want OpenCV."""
    found = importlib.util.find_spec("oct_converter")
    places = found.submodule_search_locations if found is not None else None
    if not places:
        raise MissingDependencyError(
            f"{name}: files of cameras need oct-converter; install it with: pip install oct-converter "
            "(or '.[vendor]' in a checkout)"
        )
    try:
        return _loaded(str(Path(places[0]) / "readers" / "binary_structs"))
    except (ImportError, OSError) as error:
        raise MissingDependencyError(
            f"{name}: oct-converter is there, but its layouts cannot be loaded ({error}); install it anew: "
            "pip install --force-reinstall oct-converter"
        ) from None


@lru_cache(maxsize=1)
def _loaded(folder: str) -> _Layouts:
    modules = []
    for kind in _Layouts._fields:
        spec = importlib.util.spec_from_file_location(f"_layout_{kind}", f"{folder}/{kind}_binary.py")
        if spec is None or spec.loader is None:
            raise ImportError(f"no layout of .{kind}")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        modules.append(module)
    return _Layouts(*modules)


def _readable(layout: Any, data: bytes, begin: int) -> Any:
    """The head of a chunk, or None: anonymising leaves some behind that hold nothing."""
    try:
        return _parsed(layout, data, begin)
    except Exception:  # construct raises many kinds
        return None


def _parsed(layout: Any, data: bytes, begin: int) -> Any:
    return layout.parse(data[begin : begin + layout.sizeof()])


def _moment(*parts: int) -> str | None:
    year, month, day, hour, minute, second = parts
    try:
        return datetime.datetime(year, month, day, hour, minute, second).isoformat()
    except ValueError:
        return None


def _text(raw: bytes) -> str | None:
    return raw.partition(b"\0")[0].decode("latin-1").strip() or None
