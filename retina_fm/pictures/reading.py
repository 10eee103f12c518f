"""One photo, in any accepted form, to a picture ``uint8 (H, W, 3)``."""

from __future__ import annotations

import io
import os
import stat
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin, UnidentifiedImageError

from retina_fm.errors import NoPicturesError, PictureError
from retina_fm.pictures import dicom
from retina_fm.pictures.arrays import array_to_picture, checked, is_tensor, tensor_to_array

_HEAD = 132
"""Bytes that show whether a file is DICOM."""
_FORMATS = (
    "JPEG", "PNG", "TIFF", "BMP", "DIB", "WEBP", "JPEG2000", "GIF", "PPM", "AVIF", "HEIF"
)  # fmt: skip
"""What is opened. Pillow knows more, but EPS starts Ghostscript on the file, and some have no signature."""


def read_picture(photo: Any, *, name: str | None = None) -> np.ndarray:
    """A photo as decoded RGB.

    Args:
        photo: path, bytes, binary file, PIL image, array ``(H, W)`` or ``(H, W, 1|3|4)``, tensor
            ``(3, H, W)``, dict with ``bytes`` or ``path``, or DICOM (file or data set).
        name: what messages call it; found from the photo without it.

    Returns:
        ``uint8 (H, W, 3)``, upright by its EXIF orientation; grey is repeated, alpha laid over black.

    Raises:
        PictureError: it cannot be read; the message names it, the cause, and what to do.
        MissingDependencyError: it is DICOM and pydicom is not installed.
    """
    name = name or describe(photo)
    if isinstance(photo, dict):
        photo = _from_dict(photo, name)
    if isinstance(photo, str | os.PathLike):
        photo = _read_file(Path(photo), name)
    elif isinstance(photo, bytearray | memoryview):
        photo = bytes(photo)
    elif hasattr(photo, "read") and not isinstance(photo, Image.Image):
        photo = _read_stream(photo, name)
    if isinstance(photo, bytes):
        return _from_bytes(photo, name)
    if isinstance(photo, Image.Image):
        return _from_image(photo, name)
    if is_tensor(photo):
        return array_to_picture(tensor_to_array(photo, name), name)
    if isinstance(photo, np.ndarray):
        return array_to_picture(photo, name)
    if dicom.is_dataset(photo):
        return dicom.dataset_to_picture(photo, name)
    raise PictureError(
        f"{name}: a {type(photo).__name__} is no photo. Pass a path, bytes, PIL image, array or tensor."
    )


def describe(photo: Any) -> str:
    """A short name of a photo for messages."""
    if isinstance(photo, dict):
        known = (photo.get("path"), photo.get("bytes"))
        photo = next((one for one in known if isinstance(one, str | bytes | os.PathLike)), photo)
    if isinstance(photo, str | os.PathLike):
        return os.fspath(photo)
    if isinstance(photo, bytes | bytearray | memoryview):
        return f"{len(photo)} bytes"
    if isinstance(photo, Image.Image):
        return getattr(photo, "filename", "") or f"{type(photo).__name__} {photo.size[0]} x {photo.size[1]}"
    if isinstance(photo, np.ndarray):
        return f"array {photo.shape}"
    if is_tensor(photo):
        return f"tensor {tuple(photo.shape)}"
    return str(getattr(photo, "name", "") or type(photo).__name__)


def _from_dict(photo: dict[str, Any], name: str) -> Any:
    if isinstance(photo.get("bytes"), bytes | bytearray | memoryview):
        return photo["bytes"]
    if isinstance(photo.get("path"), str | os.PathLike):
        return photo["path"]
    raise PictureError(f"{name}: a dict needs 'bytes' or 'path'; this one has {sorted(map(str, photo))}.")


def _read_file(path: Path, name: str) -> bytes:
    try:
        kind = path.stat().st_mode
        if not (stat.S_ISREG(kind) or stat.S_ISDIR(kind)):  # reading a named pipe would wait for ever
            raise PictureError(f"{name}: not a regular file. Pass a picture file, or its bytes.")
        return path.read_bytes()
    except FileNotFoundError:
        raise NoPicturesError(
            f"{name}: there is no such file. Check the path and the working folder."
        ) from None
    except IsADirectoryError:
        raise PictureError(
            f"{name}: a folder, where one picture is needed. Pass the folder by itself."
        ) from None
    except PictureError:
        raise
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise PictureError(f"{name}: cannot be read ({reason}). Check its permissions.") from None


def _read_stream(stream: Any, name: str) -> bytes:
    try:
        if hasattr(stream, "seekable") and stream.seekable():
            stream.seek(0)  # the same object read twice is the same picture
        data = stream.read()
    except (OSError, ValueError) as error:
        raise PictureError(f"{name}: the file object cannot be read ({error}). Open it anew.") from None
    if not isinstance(data, bytes):
        raise PictureError(f"{name}: the file object gives text; open it in binary mode, 'rb'.")
    return data


def _from_bytes(data: bytes, name: str) -> np.ndarray:
    if not data:
        raise PictureError(f"{name}: empty, 0 bytes. Fetch it again.")
    if dicom.looks_like_dicom(data[:_HEAD]):
        return dicom.read_dicom(data, name)
    try:
        image = _opened(data)
    except MemoryError:
        raise
    except UnidentifiedImageError:
        if Path(name).suffix.lower() in dicom.SUFFIXES:
            raise PictureError(f"{name}: no DICOM file, its mark is missing. Export it again.") from None
        raise PictureError(
            f"{name}: no picture in a format that Pillow knows (it begins with {data[:4]!r}). "
            "Convert it to PNG or JPEG."
        ) from None
    except Exception as error:  # damaged headers raise whatever the format's plugin stumbles over
        raise PictureError(_damaged(name, error)) from None
    return _from_image(image, name)


def _from_image(image: Image.Image, name: str) -> np.ndarray:
    width, height = image.size
    if width < 1 or height < 1:
        raise PictureError(f"{name}: it has no pixels ({width} x {height}).")
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and width * height > limit:
        raise PictureError(_bomb(name, f"{width} x {height} pixels, the limit is {limit}"))
    try:
        image.load()
    except MemoryError:
        raise
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error and more
        raise PictureError(_damaged(name, error)) from None
    upright = _upright(image)
    try:
        if upright.mode == "F" or upright.mode.startswith("I"):
            return array_to_picture(_deep(upright), name)
        if upright.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in upright.info:
            return array_to_picture(np.asarray(upright.convert("RGBA")), name)
        return checked(np.array(upright.convert("RGB")), name)
    except PictureError:
        raise
    except (OSError, ValueError) as error:
        raise PictureError(_damaged(name, error)) from None


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG that does not look for its resolution in EXIF, where a malformed block warns."""

    def _read_dpi_from_exif(self) -> None:
        pass


def _opened(data: bytes) -> Image.Image:
    # Image.open warns between once and twice Pillow's limit, and no filter silences it for one thread alone.
    # So its loop over the formats is repeated here; the size is checked by the caller, before any decoding.
    Image.init()
    for form in _FORMATS:
        factory, accepts = Image.OPEN.get(form, (None, None))
        if factory is None or accepts is None or accepts(data[:16]) is not True:
            continue
        try:
            return (_Jpeg if form == "JPEG" else factory)(io.BytesIO(data), "")
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            raise OSError(f"{form} header: {error}") from error
    raise UnidentifiedImageError


def _upright(image: Image.Image) -> Image.Image:
    try:
        return ImageOps.exif_transpose(image)
    except Exception:  # a damaged EXIF block says nothing about the pixels
        return image


def _deep(image: Image.Image) -> np.ndarray:
    """16-bit, 32-bit and float modes as an array that :func:`array_to_picture` scales."""
    values = np.asarray(image)
    if values.dtype.kind == "f":
        return values
    high = int(values.max())
    if int(values.min()) < 0 or high > 65535:
        raise ValueError(f"whole numbers up to {high}; 16 bits are the most that a photograph has")
    # Pillow opens some 8-bit files as 32-bit integers; only larger numbers show that 16 bits are meant
    deep = image.mode != "I" or high > 255
    return values.astype(np.uint16 if deep else np.uint8)


def _bomb(name: str, what: str) -> str:
    return f"{name}: too large ({what}). Reduce it, or raise PIL.Image.MAX_IMAGE_PIXELS if you trust it."


def _damaged(name: str, error: Exception) -> str:
    lines = str(error).strip().splitlines()
    short = lines[0][:160] if lines else type(error).__name__
    return f"{name}: damaged or truncated ({short}). Fetch it again."
