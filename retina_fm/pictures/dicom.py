"""DICOM files and data sets to pictures; needs the extra ``dicom``."""

from __future__ import annotations

import io
from typing import Any

import numpy as np

from retina_fm.errors import MissingDependencyError, PictureError
from retina_fm.pictures.arrays import array_to_picture

SUFFIXES = frozenset({".dcm", ".dicom"})
_MAGIC_AT, _MAGIC = 128, b"DICM"


def looks_like_dicom(head: bytes) -> bool:
    """Whether the first bytes of a file carry DICOM's mark."""
    return head[_MAGIC_AT : _MAGIC_AT + len(_MAGIC)] == _MAGIC


def is_dataset(value: Any) -> bool:
    """Whether a value is a ``pydicom.Dataset``, without importing pydicom."""
    return type(value).__module__.split(".")[0] == "pydicom" and hasattr(value, "PhotometricInterpretation")


def read_dicom(data: bytes, name: str) -> np.ndarray:
    """The bytes of a DICOM file as a picture.

    Raises:
        MissingDependencyError: pydicom is not installed.
        PictureError: it is damaged, or holds no single picture.
    """
    pydicom = _pydicom(name)
    try:
        dataset = pydicom.dcmread(io.BytesIO(data), force=False)
    except Exception as error:  # pydicom raises many kinds on damaged files
        raise PictureError(f"{name}: no readable DICOM file ({_short(error)}). Export it again.") from None
    return dataset_to_picture(dataset, name)


def dataset_to_picture(dataset: Any, name: str) -> np.ndarray:
    """A data set of one frame as a picture: palette, YBR, MONOCHROME1 and stored bits are accounted for.

    Raises:
        MissingDependencyError: pydicom is not installed.
        PictureError: several frames, no pixels, or pixels that cannot be decoded.
    """
    decode = _pydicom(name).pixels
    frames = int(getattr(dataset, "NumberOfFrames", 1) or 1)
    if frames > 1:
        raise PictureError(
            f"{name}: it holds {frames} frames; pass them one by one, dataset.pixel_array[0] and so on."
        )
    try:
        pixels = decode.pixel_array(dataset)  # in RGB already where it was stored as YBR
        kind = str(dataset.PhotometricInterpretation)
        if kind == "PALETTE COLOR":
            pixels = decode.apply_color_lut(pixels, dataset)
            stored = 8 * pixels.dtype.itemsize  # of the table's entries, 8 or 16 bits
        else:
            stored = int(dataset.BitsStored)
    except Exception as error:  # decoders raise many kinds, NotImplementedError among them
        raise PictureError(
            f"{name}: the pixels cannot be decoded ({_short(error)}). A missing codec is added by "
            "'pip install pylibjpeg[all]'."
        ) from None
    if pixels.dtype.kind == "i":
        raise PictureError(f"{name}: signed pixels ({pixels.dtype}) are no photograph.")
    scaled = pixels.astype(np.float32) / float(2**stored - 1)
    if kind == "MONOCHROME1":
        scaled = 1 - scaled
    return array_to_picture(np.clip(scaled, 0, 1), name)


def _pydicom(name: str) -> Any:
    try:
        import pydicom
        import pydicom.pixels
    except ImportError:
        raise MissingDependencyError(
            f"{name}: DICOM needs pydicom; install it with: pip install 'retina-fm[dicom]'"
        ) from None
    return pydicom


def _short(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:160]}" if lines else type(error).__name__
