"""One photo, in any accepted form, to a picture ``uint8 (H, W, 3)``."""

from __future__ import annotations

import io
import os
import re
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, JpegImagePlugin

from retina_fm.errors import PictureError
from retina_fm.pictures import dicom, vendor
from retina_fm.pictures.arrays import array_to_picture, checked, is_tensor, tensor_to_array
from retina_fm.pictures.depth import Depth, correct_colour, look
from retina_fm.pictures.files import Stamp, read_file, read_stream, stamped
from retina_fm.pictures.limits import SMALLEST, check_scans, check_size, is_uncommon_jpeg
from retina_fm.pictures.pages import checked_frame, opened_page

_FORMATS = (
    "JPEG", "PNG", "TIFF", "BMP", "DIB", "WEBP", "JPEG2000", "GIF", "PPM", "AVIF", "HEIF"
)  # fmt: skip
"""What is opened. Pillow knows more, but EPS starts Ghostscript on the file, and some have no signature."""


_COMMON = frozenset({"raw", "tiff_lzw", "tiff_adobe_deflate", "tiff_deflate", "packbits", "jpeg"})
"""Compressions of TIFF that every build of Pillow decodes."""
_WHOLE = re.compile(
    r"support|unknown|cannot handle|cannot read this|not available|not understood|too large", re.IGNORECASE
)
"""What decoders say of files that are whole, but beyond them."""


def read_picture(photo: Any, *, name: str | None = None) -> np.ndarray:
    """A photo as decoded RGB.

    Args:
        photo: path, bytes, binary file, PIL image, array ``(H, W)`` or ``(H, W, 1|3|4)``, tensor
            ``(3, H, W)``, DICOM (file or data set), a camera's own file, or a dict with ``bytes``, ``path``,
            ``dataset`` or ``photo``, which may say which ``frame`` of several is meant, counted from 0.
        name: what messages call it; found from the photo without it.

    Returns:
        ``uint8 (H, W, 3)``, upright by its EXIF orientation; grey is repeated, alpha laid over black.

    Raises:
        PictureError: it cannot be read; the message names it, the cause, and what to do.
        MissingDependencyError: it is DICOM, or a camera's own file, and what reads it is not installed.
    """
    name = name or describe(photo)
    frame = None
    if isinstance(photo, dict):
        frame = checked_frame(photo.get("frame"), name)
        photo = _from_dict(photo, name)
    if isinstance(photo, np.ndarray) and photo.ndim == 0 and photo.dtype.kind in "OSU":
        photo = photo.item()
    if isinstance(photo, str | os.PathLike):
        photo, _ = read_file(photo, name)
    elif isinstance(photo, bytearray | memoryview):
        photo = bytes(photo)
    elif hasattr(photo, "read") and not isinstance(photo, Image.Image):
        photo = read_stream(photo, name)
    if isinstance(photo, bytes):
        return _from_bytes(photo, name, frame)
    if isinstance(photo, Image.Image):
        return _from_image(photo, name)
    if is_tensor(photo):
        return array_to_picture(tensor_to_array(photo, name), name)
    if isinstance(photo, np.ndarray):
        return array_to_picture(photo, name)
    if dicom.is_dataset(photo):
        return dicom.dataset_to_picture(photo, name, frame)
    raise PictureError(
        f"{name}: a {type(photo).__name__} is no photo. Pass a path, bytes, PIL image, array or tensor."
    )


def opened(photo: Any) -> tuple[Any, Stamp | None]:
    """A photo whose file was read, with the stamp of these bytes; photos that are no files stay as they are.

    What is decoded from the result is what the stamp says, whatever becomes of the file.

    Raises:
        PictureError: the file cannot be read.
    """
    within = isinstance(photo, dict)
    if within and isinstance(photo.get("bytes"), bytes | bytearray | memoryview):
        return photo, None
    path = photo.get("path") if within else photo
    if not isinstance(path, str | os.PathLike):
        return photo, None
    data, status = read_file(path, describe(photo))
    return ({**photo, "bytes": data} if within else data), stamped(data, status)


def describe(photo: Any) -> str:
    """A short name of a photo for messages."""
    if isinstance(photo, dict):
        if photo.get("photo") is not None and not isinstance(photo["photo"], dict):
            return describe(photo["photo"])
        known = (photo.get("path"), photo.get("bytes"))
        frame = photo.get("frame")
        photo = next((one for one in known if isinstance(one, str | bytes | os.PathLike)), photo)
        if frame is not None and not isinstance(photo, dict):
            return f"{describe(photo)} frame {frame}"
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
    if dicom.is_dataset(photo.get("dataset")):
        return photo["dataset"]
    if photo.get("photo") is not None and not isinstance(photo["photo"], dict):
        return photo["photo"]
    raise PictureError(f"{name}: a dict needs 'bytes' or 'path'; this one has {sorted(map(str, photo))}.")


def read_image(path: str | os.PathLike[str], name: str) -> Image.Image:
    """A file as a decoded, upright Pillow image in its own mode: for masks, whose values have a meaning.

    Formats, limits, pages and messages are those of :func:`read_picture`; any size will do.

    Raises:
        PictureError: it cannot be read.
    """
    data, _ = read_file(path, name)
    image, depth = _from_file(data, name, None, smallest=1)
    if depth.inverted and image.mode.startswith("I;16"):
        return Image.fromarray(65535 - np.asarray(image))
    return image


def _from_bytes(data: bytes, name: str, frame: int | None) -> np.ndarray:
    if dicom.looks_like_dicom(data[: dicom.HEAD]):
        return dicom.read_dicom(data, name, frame)
    if vendor.is_vendor(data, name):
        return vendor.read_vendor(data, name, frame, _packed)
    image, depth = _from_file(data, name, frame, SMALLEST)
    return _converted(image, depth, name)


def _packed(data: bytes, name: str) -> np.ndarray:
    """A picture that lies in another file."""
    image, depth = _from_file(data, name, None, SMALLEST)
    return _converted(image, depth, name)


def _from_image(image: Image.Image, name: str) -> np.ndarray:
    upright, depth = _decoded(image, name, None, SMALLEST)
    return _converted(upright, depth, name)


def _from_file(data: bytes, name: str, frame: int | None, smallest: int) -> tuple[Image.Image, Depth]:
    if not data:
        raise PictureError(f"{name}: empty, 0 bytes. Fetch it again.")

    def start() -> Image.Image:
        return _opened(data, name)

    try:
        page = opened_page(start, frame, name)

        def reopened() -> Image.Image:
            return opened_page(start, page.tell(), name)

        return _decoded(page, name, reopened, smallest)
    except (PictureError, MemoryError):
        raise
    except Exception as error:  # damaged headers raise whatever the format's plugin stumbles over
        raise PictureError(_damaged(name, error)) from None


def _decoded(
    image: Image.Image, name: str, reopened: Callable[[], Image.Image] | None, smallest: int
) -> tuple[Image.Image, Depth]:
    check_size(*image.size, name, smallest)
    try:
        depth = look(image)
        image.load()
        if reopened is not None and (depth.raw or depth.planes):
            correct_colour(image, depth, reopened, name)
        return _upright(image), depth
    except PictureError:
        raise
    except MemoryError:
        width, height = image.size
        raise PictureError(
            f"{name}: memory ran out while {width} x {height} pixels were decoded. Use fewer workers, or "
            "reduce it."
        ) from None
    except Exception as error:  # decoders raise OSError, SyntaxError, struct.error, zlib.error and more
        raise PictureError(_damaged(name, error, image)) from None


def _converted(image: Image.Image, depth: Depth, name: str) -> np.ndarray:
    try:
        return _to_picture(image, depth, name)
    except PictureError:
        raise
    except MemoryError:
        raise PictureError(f"{name}: memory ran out while it was converted. Use fewer workers.") from None
    except (OSError, ValueError) as error:
        raise PictureError(_damaged(name, error)) from None


def _to_picture(image: Image.Image, depth: Depth, name: str) -> np.ndarray:
    if image.mode == "F" or image.mode.startswith("I"):
        picture = array_to_picture(_deep(image), name, depth.bits)
        return 255 - picture if depth.inverted else picture
    if image.mode in ("LA", "PA", "La", "RGBA", "RGBa") or "transparency" in image.info:
        return array_to_picture(np.asarray(image.convert("RGBA")), name)
    return checked(np.array(image.convert("RGB")), name)


class _Jpeg(JpegImagePlugin.JpegImageFile):
    """A JPEG that does not look for its resolution in EXIF, where a malformed block warns."""

    data = b""

    def _read_dpi_from_exif(self) -> None:
        pass


def _opened(data: bytes, name: str) -> Image.Image:
    # Image.open warns between once and twice Pillow's limit, and no filter silences it for one thread alone.
    # So its loop over the formats is repeated here; the size is checked by the caller, before any decoding.
    Image.init()
    for form in _FORMATS:
        factory, accepts = Image.OPEN.get(form, (None, None))
        if factory is None or accepts is None or accepts(data[:16]) is not True:
            continue
        if form == "JPEG":
            check_scans(data, name)
        try:
            image = (_Jpeg if form == "JPEG" else factory)(io.BytesIO(data), "")
            if isinstance(image, _Jpeg):
                image.data = data
            return image
        except (SyntaxError, IndexError, TypeError, struct.error) as error:
            # a compression of TIFF that Pillow has no name for is a KeyError there
            rare = " is not supported" if isinstance(error.__cause__, KeyError) else ""
            raise OSError(f"{form} header: {error}{rare}") from error
    raise PictureError(_unknown(data, name))


def _unknown(data: bytes, name: str) -> str:
    if Path(name).suffix.lower() in dicom.SUFFIXES:
        return f"{name}: no DICOM file, its mark is missing. Export it again."
    if data[4:8] == b"ftyp" and data[8:11] in (b"hei", b"hev", b"mif", b"msf"):
        return (
            f"{name}: HEIF, which is read once a plugin is there: pip install pillow-heif, then "
            "pillow_heif.register_heif_opener(). Or convert it to PNG or JPEG."
        )
    return (
        f"{name}: no picture in a format that is read here (it begins with {data[:4]!r}). Convert it to PNG "
        "or JPEG."
    )


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
        raise ValueError(
            f"whole numbers up to {high} are not supported; 16 bits are the most of a photograph"
        )
    return values.astype(np.uint16)


def _damaged(name: str, error: Exception, image: Image.Image | None = None) -> str:
    lines = str(error).strip().splitlines()
    short = lines[0][:160] if lines else type(error).__name__
    if _WHOLE.search(short) or (image is not None and _rare(image)):
        return (
            f"{name}: in a variant of its format that is not supported ({short}). Save it as plain PNG, JPEG "
            "or TIFF with the program that made it."
        )
    return f"{name}: damaged or truncated ({short}). Fetch it again."


def _rare(image: Image.Image) -> bool:
    """Whether decoding depends on how Pillow was built, or is beyond it: the file itself may be whole."""
    if image.format == "TIFF":
        return image.info.get("compression") not in _COMMON
    return isinstance(image, _Jpeg) and is_uncommon_jpeg(image.data)
