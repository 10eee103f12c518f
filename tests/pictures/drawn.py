"""Small drawn photographs that the tests of pictures share."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image


def fundus(
    height: int = 480,
    width: int = 640,
    centre: tuple[float, float] | None = None,
    radius: float | None = None,
    *,
    brightness: float = 1.0,
    surround: float = 3.0,
    noise: float = 2.0,
    seed: int = 0,
) -> np.ndarray:
    """A lit disc with shading, vessels and noise, ``uint8 (H, W, 3)``; clipped where it leaves the frame."""
    random = np.random.default_rng(seed)
    cy, cx = centre or (height / 2, width / 2)
    radius = radius or 0.45 * min(height, width)
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(y - cy, x - cx) / radius
    shade = 1 - 0.45 * distance**2
    vessels = np.abs(np.sin(6 * y / radius + 2 * np.sin(4 * x / radius))) < 0.12
    retina = np.array([190.0, 95.0, 45.0]) * shade[..., None] * np.where(vessels, 0.75, 1.0)[..., None]
    inside = distance <= 1
    picture = np.where(inside[..., None], retina * brightness, surround)
    picture = picture + random.normal(0, noise, picture.shape)
    return np.clip(np.rint(picture), 0, 255).astype(np.uint8)


def disc(height: int, width: int, centre: tuple[float, float], radius: float) -> np.ndarray:
    """``bool (H, W)``, pixel centres at half-integers."""
    y, x = np.mgrid[:height, :width] + 0.5
    return np.asarray(np.hypot(y - centre[0], x - centre[1]) <= radius)


def overlap(one: np.ndarray, other: np.ndarray) -> float:
    """Intersection over union."""
    return float((one & other).sum() / (one | other).sum())


def encoded(picture: np.ndarray | Image.Image, form: str, **settings: Any) -> bytes:
    """A picture as the bytes of a file in Pillow's format ``form``."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    image.save(buffer, form, **settings)
    return buffer.getvalue()


def dataset(pixels: np.ndarray, photometric: str, *, stored: int | None = None, frames: int = 1) -> Any:
    """An uncompressed ``pydicom.Dataset`` around pixels ``([F,] H, W[, 3])``."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

    one = pixels if frames == 1 else pixels[0]
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = SecondaryCaptureImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3"
    made.Rows, made.Columns = one.shape[:2]
    made.SamplesPerPixel = 3 if one.ndim == 3 else 1
    if one.ndim == 3:
        made.PlanarConfiguration = 0
    if frames > 1:
        made.NumberOfFrames = frames
    made.PhotometricInterpretation = photometric
    made.BitsAllocated = 8 * pixels.itemsize
    made.BitsStored = stored or made.BitsAllocated
    made.HighBit = made.BitsStored - 1
    made.PixelRepresentation = 0
    made.PixelData = pixels.tobytes()
    return made


def dicom_bytes(made: Any) -> bytes:
    """A data set as the bytes of a DICOM file."""
    import pydicom

    buffer = io.BytesIO()
    pydicom.dcmwrite(buffer, made, enforce_file_format=True)
    return buffer.getvalue()
