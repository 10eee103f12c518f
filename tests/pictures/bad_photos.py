"""A table of photos that must be refused: name, photo, and what the message must say.

Run it to print the table: ``python -m tests.pictures.bad_photos``.
"""

from __future__ import annotations

import io
import os
import struct
import tempfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus

Row = tuple[str, Any, str]

_CUTS = (0.001, 0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.65, 0.8, 0.95)
"""Where files are cut, as shares of their length."""


def bad_photos(folder: Path) -> list[Row]:
    """All rows; files are written into ``folder``."""
    return [
        *_truncated(),
        *_files(folder),
        *_headers(),
        *_arrays(),
        *_objects(folder),
        *_dicom(),
    ]


def _truncated() -> list[Row]:
    picture = fundus(96, 96)
    rows: list[Row] = []
    for form in ("JPEG", "PNG"):
        whole = encoded(picture, form)
        rows += [
            (f"{form} cut at {share:.1%}", whole[: max(1, int(share * len(whole)))], "bytes: ")
            for share in _CUTS
        ]
    return rows


def _files(folder: Path) -> list[Row]:
    empty = folder / "empty.jpg"
    empty.write_bytes(b"")
    text = folder / "text.jpg"
    text.write_text("this is no picture")
    nested = folder / "a_folder.png"
    nested.mkdir()
    broken = folder / "broken.png"
    data = bytearray(encoded(fundus(96, 96), "PNG"))
    data[len(data) // 2] ^= 0xFF
    broken.write_bytes(data)
    rows: list[Row] = [
        ("empty file", empty, "empty.jpg: empty"),
        ("wrong magic", text, "text.jpg: no picture"),
        ("folder as picture", nested, "a_folder.png: a folder"),
        ("missing file", folder / "missing.png", "missing.png: there is no such file"),
        ("file below a file", empty / "x.png", "x.png"),
        ("flipped byte in a PNG", broken, "broken.png: damaged"),
        ("name too long", "x" * 5000, "cannot be read"),
        ("null byte in the path", "a\0b.png", "cannot be read"),
        ("empty path", "", "folder"),
        ("address", "https://example.org/eye.jpg", "no such file"),
    ]
    if hasattr(os, "mkfifo"):
        os.mkfifo(folder / "pipe.png")
        rows.append(("named pipe", folder / "pipe.png", "not a regular file"))
    return rows


def _headers() -> list[Row]:
    rgba = np.zeros((64, 64, 4), np.uint8)
    rgba[..., :3] = 200
    return [
        ("50000 x 50000 header", _png_header(50_000, 50_000), "50000 x 50000"),
        ("10000 x 10000 header", _png_header(10_000, 10_000), "10000 x 10000"),
        ("0 x 0 header", _png_header(0, 0), "bytes: "),
        ("1 x 1 PNG", encoded(np.zeros((1, 1, 3), np.uint8), "PNG"), "1 x 1 pixels"),
        ("31 px high", encoded(fundus(64, 64)[:31], "PNG"), "64 x 31 pixels"),
        ("blank", encoded(np.full((64, 64, 3), 7, np.uint8), "PNG"), "blank"),
        ("wholly transparent", encoded(rgba, "PNG"), "blank"),
        ("EPS", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 99 99\n%%EOF\n", "no picture"),
        ("SVG", b"<svg xmlns='http://www.w3.org/2000/svg'/>", "no picture"),
        ("32-bit integers over 16 bits", Image.fromarray(np.full((64, 64), 10**6, np.int32)), "16 bits"),
    ]


def _arrays() -> list[Row]:
    picture = fundus(64, 64)
    unit = picture.astype(np.float32) / 255
    hole = unit.copy()
    hole[3, 4, 1] = np.nan
    endless = unit.copy()
    endless[0, 0, 0] = np.inf
    return [
        ("NaN", hole, "NaN"),
        ("infinity", endless, "infinity"),
        ("floats to 255", unit * 255, "floats from"),
        ("floats in [-1, 1]", unit * 2 - 1, "floats from -1"),
        ("rank 1", picture.ravel(), "shape"),
        ("rank 4", picture[None], "shape (1, 64, 64, 3)"),
        ("rank 0", np.array(5, np.uint8), "shape ()"),
        ("channels first", picture.transpose(2, 0, 1), "shape (3, 64, 64)"),
        ("two channels", picture[..., :2], "shape (64, 64, 2)"),
        ("no pixels", np.zeros((0, 0, 3), np.uint8), "no pixels"),
        ("no columns", np.zeros((64, 0), np.uint8), "no pixels"),
        ("too small", picture[:4, :4], "4 x 4 pixels"),
        ("blank array", np.full((64, 64), 9, np.uint8), "blank"),
        ("int64", picture.astype(np.int64), "int64"),
        ("bool", picture > 9, "bool"),
        ("complex", picture.astype(complex), "complex"),
        ("object", picture.astype(object), "object"),
    ]


def _objects(folder: Path) -> list[Row]:
    closed = io.BytesIO(b"x")
    closed.close()
    shut = Image.open(io.BytesIO(encoded(fundus(64, 64), "PNG")))
    shut.close()
    return [
        ("None", None, "NoneType is no photo"),
        ("int", 7, "int is no photo"),
        ("list", [1, 2], "list is no photo"),
        ("tuple", (1, 2), "tuple is no photo"),
        ("object", object(), "object is no photo"),
        ("empty dict", {}, "'bytes' or 'path'"),
        ("dict without keys", {"image": 3}, "'image'"),
        ("dict of None", {"bytes": None, "path": None}, "'bytes' or 'path'"),
        ("dict with an array", {"bytes": np.zeros((4, 4))}, "'bytes' or 'path'"),
        ("dict with a missing path", {"path": str(folder / "gone.png")}, "gone.png: there is no such file"),
        ("closed file object", closed, "cannot be read"),
        ("text file object", io.StringIO("text"), "binary mode"),
        ("closed PIL image", shut, "damaged"),
        ("empty bytes", b"", "empty"),
    ]


def _dicom() -> list[Row]:
    grey = fundus(64, 64)[..., 0]
    no_pixels = dataset(grey, "MONOCHROME2")
    del no_pixels.PixelData
    short = dataset(grey, "MONOCHROME2")
    short.PixelData = short.PixelData[:100]
    return [
        ("DICOM garbage", b"\0" * 128 + b"DICM" + b"\xff" * 300, "bytes: "),
        ("DICOM cut short", dicom_bytes(dataset(grey, "MONOCHROME2"))[:-2000], "bytes: "),
        ("DICOM without pixels", dicom_bytes(no_pixels), "bytes: "),
        ("DICOM with too few pixels", dicom_bytes(short), "bytes: "),
        (
            "DICOM of 3 frames",
            dicom_bytes(dataset(np.stack([grey] * 3), "MONOCHROME2", frames=3)),
            "3 frames",
        ),
    ]


def _png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"0"))
        + chunk(b"IEND", b"")
    )


def main() -> None:
    """Print the table as Markdown."""
    from retina_fm.pictures import read_picture

    with tempfile.TemporaryDirectory() as folder:
        print("| input | error | message |\n|---|---|---|")
        for name, photo, _ in bad_photos(Path(folder)):
            try:
                read_picture(photo)
                print(f"| {name} | **none** | |")
            except Exception as error:  # noqa: PERF203  whatever comes is the finding
                message = str(error).replace(folder + os.sep, "").replace("\0", "\\0")
                print(f"| {name} | {type(error).__name__} | {message[:140]} |")


if __name__ == "__main__":
    main()
