"""DICOM files and data sets to pictures; needs the extra ``dicom``."""

from __future__ import annotations

import datetime
import io
import os
import re
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retina_fm.errors import MissingDependencyError, PictureError
from retina_fm.pictures.arrays import array_to_picture
from retina_fm.pictures.depth import seen_bits
from retina_fm.pictures.files import LARGEST
from retina_fm.pictures.limits import check_size
from retina_fm.pictures.pages import several
from retina_fm.vocabulary import Eye

SUFFIXES = frozenset({".dcm", ".dicom"})
HEAD = 132
"""Bytes that show whether a file is DICOM."""
_MAGIC_AT, _MAGIC = 128, b"DICM"
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MOST_SAMPLES = 4
_PIXELS = ("PixelData", "FloatPixelData", "DoubleFloatPixelData")


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file carry DICOM's mark."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def is_dataset(value: Any) -> bool:
    """Whether a value is a ``pydicom.Dataset``, without importing pydicom."""
    return type(value).__module__.split(".")[0] == "pydicom" and hasattr(value, "PhotometricInterpretation")


def read_dicom(data: bytes, name: str, frame: int | None = None) -> np.ndarray:
    """The bytes of a DICOM file as a picture.

    Args:
        data: of the file.
        name: of it, for messages.
        frame: which one, counted from 0, where it holds several.

    Raises:
        MissingDependencyError: pydicom is not installed.
        PictureError: it is damaged, or holds no single picture.
    """
    pydicom = _pydicom(name)
    _check_deflated(data, name)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=False)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise PictureError(f"{name}: no readable DICOM file ({_short(error)}). Export it again.") from None
    return dataset_to_picture(dataset, name, frame)


def dataset_to_picture(dataset: Any, name: str, frame: int | None = None) -> np.ndarray:
    """One frame of a data set as a picture: palette, YBR, MONOCHROME1 and stored bits are accounted for.

    Args:
        dataset: a ``pydicom.Dataset``.
        name: of it, for messages.
        frame: which one, counted from 0; needed where there are several.

    Raises:
        MissingDependencyError: pydicom is not installed.
        PictureError: several frames and none named, no pixels, too many, or they cannot be decoded.
    """
    decode = _pydicom(name).pixels
    _check_header(dataset, name, frame)
    try:
        pixels = decode.pixel_array(dataset, index=frame or 0)  # in RGB already where it was stored as YBR
        kind = str(dataset.PhotometricInterpretation)
        if kind == "PALETTE COLOR":
            pixels = decode.apply_color_lut(pixels, dataset)
            stored = 8 * pixels.dtype.itemsize  # of the table's entries, 8 or 16 bits
        else:
            stored = int(dataset.BitsStored)
    except MemoryError:
        raise PictureError(f"{name}: memory ran out while it was decoded. Use fewer workers.") from None
    except Exception as error:  # decoders raise many kinds, NotImplementedError among them
        raise PictureError(
            f"{name}: the pixels cannot be decoded ({_short(error)}). {_advice(error, dataset)}"
        ) from None
    if pixels.dtype.kind != "u":
        raise PictureError(f"{name}: signed or fractional pixels ({pixels.dtype}) are no photograph.")
    if stored == 16 and pixels.dtype == np.uint16 and kind != "PALETTE COLOR":
        stored = seen_bits(pixels)  # 16 is often declared where 12 are meant
    scaled = pixels.astype(np.float32) / float(2**stored - 1)
    if kind == "MONOCHROME1":
        scaled = 1 - scaled
    return array_to_picture(np.clip(scaled, 0, 1), name)


def _check_header(dataset: Any, name: str, frame: int | None) -> None:
    if not any(element in dataset for element in _PIXELS):
        kind = str(getattr(dataset.get("SOPClassUID"), "name", "") or "a DICOM object")
        raise PictureError(f"{name}: it holds no pixels ({kind}). Leave it out.")
    try:
        frames = int(dataset.get("NumberOfFrames", 1) or 1)
        rows, columns = int(dataset.Rows), int(dataset.Columns)
        samples = int(dataset.get("SamplesPerPixel", 1) or 1)
    except Exception as error:  # values that are missing, several, or no numbers
        raise PictureError(
            f"{name}: its header says no size of a picture ({_short(error)}). Export it again."
        ) from None
    check_size(columns, rows, name)
    if samples > _MOST_SAMPLES:
        raise PictureError(f"{name}: {samples} samples a pixel; a photograph has 1 or 3.")
    if frame is None and frames > 1:
        raise PictureError(several(name, frames, "a DICOM series"))
    if frame is not None and frame >= frames:
        raise PictureError(f"{name}: it has no frame {frame}. It holds {frames}, counted from 0.")


def _check_deflated(data: bytes, name: str) -> None:
    """Refuse a deflated file that would grow beyond what any file may have; pydicom would let it."""
    meta = int.from_bytes(data[140:144], "little") + 144
    if _DEFLATED not in data[:meta]:
        return
    inflate, rest, size = zlib.decompressobj(-zlib.MAX_WBITS), data[meta:], 0
    try:
        while rest:
            size += len(inflate.decompress(rest, 1 << 24))
            rest = inflate.unconsumed_tail
            if size > LARGEST:
                raise PictureError(f"{name}: too large (deflated, over {LARGEST} bytes). Export it again.")
    except zlib.error:
        return  # pydicom says what is wrong with it


def _advice(error: Exception, dataset: Any) -> str:
    text = str(error).lower()
    if any(word in text for word in ("dependenc", "no plugin", "no decoder", "not supported")):
        return "A missing codec is added by 'pip install pylibjpeg[all]'."
    if str(dataset.get("Manufacturer") or "").startswith("Carl Zeiss Meditec"):
        return (
            "Zeiss scrambles the pixels of some of its own objects. Export it as plain DICOM or as a picture."
        )
    return "It is damaged, or of a kind that is not supported. Export it again."


def _pydicom(name: str) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise MissingDependencyError(
            f"{name}: DICOM needs pydicom; install it with: pip install pydicom (or '.[dicom]' in a checkout)"
        ) from None
    return pydicom


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__


class Said(NamedTuple):
    """What a DICOM object says of its photograph, each None where it does not.

    Attributes:
        eye: ``left`` or ``right``.
        patient_id: as it is written.
        acquired: ISO 8601, a day or a day with its time.
        spacing_um: micrometres of the retina a pixel; None, too, where it differs by direction.
    """

    eye: Eye | None
    patient_id: str | None
    acquired: str | None
    spacing_um: float | None


def is_dicom(source: Any) -> bool:
    """Whether bytes, or the file at a path, carry DICOM's mark."""
    if isinstance(source, bytes | bytearray | memoryview):
        return looks_like_dicom(bytes(source[:HEAD]))
    if not isinstance(source, str | os.PathLike):
        return False
    with Path(source).open("rb") as file:
        return looks_like_dicom(file.read(HEAD))


def said_by(source: Any) -> Said:
    """What a data set, the bytes of a DICOM file or a path to one says; the pixels are left alone.

    pydicom raises many kinds of errors on damaged files.
    """
    dataset = source
    if not is_dataset(source):
        file = io.BytesIO(source) if isinstance(source, bytes | bytearray | memoryview) else source
        dataset = _pydicom("tags").dcmread(file, stop_before_pixels=True)
    patient = str(dataset.get("PatientID") or "").strip()
    return Said(_eye(dataset), patient or None, _acquired(dataset), _spacing(dataset))


def _eye(dataset: Any) -> Eye | None:
    """Image Laterality (0020,0062), Laterality (0020,0060) or Frame Laterality: R, L; both eyes are none."""
    said = [dataset.get(name) for name in ("ImageLaterality", "Laterality")]
    said.append(_of_all_frames(dataset, "FrameAnatomySequence", "FrameLaterality"))
    for one in said:
        plain = str(one or "").strip().upper()
        if plain in ("R", "L"):
            return "right" if plain == "R" else "left"
    return None


def _acquired(dataset: Any) -> str | None:
    """Acquisition DateTime (0008,002A), else day and time of the acquisition, the content or the study."""
    if whole := _day_and_time(str(dataset.get("AcquisitionDateTime") or "")):
        return whole
    for kind in ("Acquisition", "Content", "Study"):
        day = str(dataset.get(f"{kind}Date") or "").replace(".", "")
        if found := _day_and_time(day + str(dataset.get(f"{kind}Time") or "").replace(":", "")):
            return found
    return None


def _day_and_time(text: str) -> str | None:
    """ISO 8601 of ``YYYYMMDD[HHMM[SS]]``; what follows (fractions, a zone) is left out."""
    found = re.match(r"(\d{8})(\d{4}(?:\d{2})?)?", text.strip())
    if found is None:
        return None
    day, time = found.groups()
    try:
        if time is None:
            return datetime.datetime.strptime(day, "%Y%m%d").date().isoformat()
        form = "%Y%m%d%H%M%S"
        return datetime.datetime.strptime(day + time.ljust(6, "0"), form).isoformat()
    except ValueError:
        return None


def _spacing(dataset: Any) -> float | None:
    """Pixel Spacing (0028,0030), millimetres between rows and columns, in micrometres."""
    said = dataset.get("PixelSpacing") or _of_all_frames(dataset, "PixelMeasuresSequence", "PixelSpacing")
    if said is None or len(said) != 2:
        return None
    rows, columns = (1000 * float(value) for value in said)
    return rows if rows > 0 and abs(rows - columns) <= 1e-3 * rows else None


def _of_all_frames(dataset: Any, sequence: str, name: str) -> Any:
    """What the functional groups of a multi-frame object share."""
    groups = dataset.get("SharedFunctionalGroupsSequence") or []
    inner = groups[0].get(sequence) if groups else None
    return inner[0].get(name) if inner else None
