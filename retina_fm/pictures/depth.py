"""More than 8 bits: how many of them a file uses, and what Pillow makes of them.

Cameras and angiographs deliver 10 or 12 bits in files of 16, which are near black when they are read as 16.
What a file declares is believed; else a picture whose largest value needs at most 8, 10 or 12 bits is taken
to have so many, for as 16 bits nothing could be seen in it.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, ImageFile, ImageOps

from retina_fm.errors import PictureError

_BITS, _PHOTOMETRIC, _PLANAR, _LARGEST_VALUE, _TILE_WIDTH = 258, 262, 284, 281, 322  # tags of TIFF
_WIDTH, _HEIGHT, _ORIENTATION = 256, 257, 274
_MIN_IS_WHITE, _SEPARATE = 0, 2
_SEEN = (8, 10, 12)
_ORDERED = re.compile(r"(.*;16)([BLN])")
_NATIVE = "L" if sys.byteorder == "little" else "B"


class Depth(NamedTuple):
    """What a file says of its values, before they are decoded.

    Attributes:
        bits: that a value has, or None where only the values tell.
        inverted: whether 0 is white, and Pillow leaves it so.
        raw: Pillow's word for 16 bits a channel of a coloured picture, or nothing.
        planes: whether uncompressed planes of 16 bits follow each other, which Pillow scrambles.
    """

    bits: int | None = None
    inverted: bool = False
    raw: str = ""
    planes: bool = False


def look(image: Image.Image) -> Depth:
    """How deep an image is; it must not be loaded yet."""
    tiles = getattr(image, "tile", None) or [("", (), 0, "")]
    codec, arguments = tiles[0][0], tiles[0][3]
    raw = str(arguments[0] if isinstance(arguments, tuple) and arguments else arguments)
    grey = image.mode == "F" or image.mode.startswith("I")
    if image.format in ("JPEG2000", "PPM") and codec != "raw":
        return Depth(bits=16)  # Pillow scales by what the file declares
    tags: Any = getattr(image, "tag_v2", {}) if image.format == "TIFF" else {}
    deep = max(tags.get(_BITS, (1,)), default=1) > 8 if tags else False
    return Depth(
        bits=_declared(tags),
        inverted=grey and tags.get(_PHOTOMETRIC) == _MIN_IS_WHITE,
        raw=raw if not grey and ";16" in raw else "",
        planes=deep and not grey and tags.get(_PLANAR) == _SEPARATE and codec == "raw",
    )


def narrowed(values: np.ndarray, bits: int | None = None) -> np.ndarray:
    """Whole numbers of at most 16 bits as ``uint8``, by the bits that they have."""
    top = 2 ** (bits or seen_bits(values)) - 1
    scaled = (values.astype(np.uint32) * 255 + top // 2) // top
    return np.asarray(np.minimum(scaled, 255), np.uint8)


def seen_bits(values: np.ndarray) -> int:
    """Bits that the largest value asks for: 8, 10 or 12, else 16."""
    most = int(values.max(initial=0))
    return next((bits for bits in _SEEN if most < 1 << bits), 16)


def correct_colour(image: Image.Image, depth: Depth, reopened: Callable[[], Image.Image], name: str) -> None:
    """Mend a loaded coloured image in place where Pillow lost or scrambled its bits.

    Args:
        image: of a depth with ``raw`` or ``planes``.
        depth: what :func:`look` said of it.
        reopened: gives the same page again, not loaded.
        name: for messages.

    Raises:
        PictureError: its low bits are needed, and cannot be had.
    """
    if depth.planes:
        again: Any = reopened()
        mended = Image.fromarray(narrowed(_planes(again, name), depth.bits))
        mended.getexif()[_ORIENTATION] = again.tag_v2.get(_ORIENTATION, 1)
        image.paste(ImageOps.exif_transpose(mended))  # Pillow turns a TIFF when it loads it
        return
    high = np.asarray(image)
    colours = slice(0, 3 if high.shape[2] == 4 and image.mode.startswith(("RGBA", "LA")) else None)
    if high[..., colours].max(initial=0) >> 4:
        return  # more than 12 bits: the high bytes are the picture
    low = _low_bytes(reopened(), depth.raw, name)
    values = high.astype(np.uint16) << 8 | low
    whole = high.copy()
    whole[..., colours] = narrowed(values[..., colours], depth.bits)
    if colours.stop and high[..., 3].max(initial=0) >> 4 == 0:
        whole[..., 3] = narrowed(values[..., 3], depth.bits)
    image.paste(Image.frombytes(image.mode, image.size, whole.tobytes()))


def _declared(tags: Any) -> int | None:
    """Bits by a TIFF's tags: of a sample that has fewer than 16, or of the largest value that may come."""
    bits = tags.get(_BITS, (16,))
    if isinstance(bits, tuple) and bits and 8 < bits[0] < 16:
        return int(bits[0])
    largest = tags.get(_LARGEST_VALUE)
    largest = largest[0] if isinstance(largest, tuple) and largest else largest
    possible = {2**count - 1: count for count in range(9, 16)}
    return possible.get(largest) if isinstance(largest, int) else None


def _low_bytes(image: Any, raw: str, name: str) -> np.ndarray:
    """The bytes that Pillow drops of 16-bit channels: it takes the first or the second, by the order told."""
    order = _ORDERED.fullmatch(raw)
    refused = PictureError(
        f"{name}: 16 bits a channel, of which at most 12 are used, and these cannot be had. Save it with 8 "
        "bits a channel, or as grey."
    )
    if order is None:
        raise refused
    stated = _NATIVE if order[2] == "N" else order[2]
    swapped = order[1] + ("B" if stated == "L" else "L")
    image.tile = [
        _tile(*start, (swapped, *rest[1:]) if isinstance(rest, tuple) else swapped)
        for *start, rest in image.tile
    ]
    try:
        return np.asarray(image)
    except (OSError, ValueError, KeyError):
        raise refused from None


def _tile(*parts: Any) -> Any:
    kind = getattr(ImageFile, "_Tile", None)  # a plain tuple before Pillow 11
    return kind(*parts) if kind else parts


def _planes(image: Any, name: str) -> np.ndarray:
    """``uint16 (H, W, C)`` of planes that lie one after the other, uncompressed."""
    if _TILE_WIDTH in image.tag_v2:
        raise PictureError(
            f"{name}: a TIFF of separate, tiled planes of 16 bits is not supported. Save it interleaved."
        )
    width, height = image.tag_v2[_WIDTH], image.tag_v2[_HEIGHT]  # the image's own size is turned already
    kind = np.dtype(np.uint16).newbyteorder("<" if image.tag_v2.prefix == b"II" else ">")
    channels = len(image.getbands())
    planes = np.zeros((channels, height, width), np.uint16)
    channel = -1
    for _, (_, top, _, bottom), offset, _ in image.tile:
        channel += top == 0
        image.fp.seek(offset)
        data = image.fp.read((bottom - top) * width * 2)
        if channel >= channels or len(data) < (bottom - top) * width * 2:
            raise PictureError(f"{name}: damaged or truncated (planes of a TIFF). Fetch it again.")
        planes[channel, top:bottom] = np.frombuffer(data, kind).reshape(bottom - top, width)
    return np.moveaxis(planes, 0, -1)
