"""No file takes the machine's memory or time, and what is said of it is true."""

from __future__ import annotations

import io
import os
import socket
import struct
import subprocess
import sys
import textwrap
import time
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import PictureError
from retina_fm.pictures import read_picture
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus
from tests.pictures.raw_files import many_scans, png, tiff

PICTURE = fundus(96, 96)
ROOT = Path(__file__).resolve().parents[2]


def grown(code: str, *arguments: str) -> int:
    """Megabytes by which reading grew a process of its own; it ends when that takes over a minute."""
    script = f"""
        import resource, sys
        import numpy, PIL.Image
        from retina_fm.errors import PictureError
        from retina_fm.pictures import read_picture
        try:
            import pydicom.pixels
        except ImportError:
            pass
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            {code}
            sys.exit("nothing was refused")
        except PictureError as error:
            print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024, error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True, text=True, timeout=120, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return int(done.stdout.split()[0])


def test_dicom_that_claims_a_giant_is_refused_before_it_takes_memory(tmp_path):
    pytest.importorskip("pydicom")
    made = dataset(PICTURE[..., 0], "MONOCHROME2")
    made.Rows = made.Columns = 60_000
    with pytest.raises(PictureError, match="60000 x 60000"):
        read_picture(dicom_bytes(made))
    with pytest.raises(PictureError, match="60000 x 60000"):
        read_picture(made)
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.5"  # run lengths: small file, large picture
    run = struct.pack("<16I", 1, 64, *[0] * 14) + b"\x81\x00" * 250_000
    from pydicom.encaps import encapsulate

    made.PixelData = encapsulate([run])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    file = tmp_path / "giant.dcm"
    file.write_bytes(dicom_bytes(made))
    assert grown("read_picture(sys.argv[1])", str(file)) < 100


def test_deflated_dicom_does_not_grow_without_end(tmp_path, monkeypatch):
    pytest.importorskip("pydicom")
    from retina_fm.pictures import dicom

    made = dataset(PICTURE[..., 0], "MONOCHROME2")
    made.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1.99"
    whole = dicom_bytes(made)
    assert (read_picture(whole)[..., 0] == PICTURE[..., 0]).all()
    monkeypatch.setattr(dicom, "LARGEST", 5000)
    with pytest.raises(PictureError, match="deflated, over 5000 bytes"):
        read_picture(whole)


@pytest.mark.parametrize(("width", "height"), [(89_478_485, 1), (1, 89_478_485), (2_000_000, 40)])
def test_a_thin_giant_is_refused_before_it_takes_memory(tmp_path, width, height):
    file = tmp_path / "thin.png"
    file.write_bytes(png(PICTURE.astype(np.uint16), width, height))
    with pytest.raises(PictureError, match=f"{width} x {height}"):
        read_picture(file)
    assert grown("read_picture(sys.argv[1])", str(file)) < 100


def test_a_jpeg_of_many_scans_is_refused_at_once():
    plain = encoded(np.asarray(Image.fromarray(PICTURE).resize((2048, 2048))), "JPEG", progressive=True)
    started = time.monotonic()
    with pytest.raises(PictureError, match="scans"):
        read_picture(many_scans(plain, 2000))
    assert time.monotonic() - started < 2
    assert read_picture(plain).shape == (2048, 2048, 3)


def test_scans_of_what_follows_a_jpeg_are_not_counted():
    plain = encoded(PICTURE, "JPEG", progressive=True)
    film = b"\xff\xda" * 5000
    assert (read_picture(plain + film) == read_picture(plain)).all()
    segment = b"\xff\xef" + struct.pack(">H", 2 + 20_000) + film[:10_000] * 2
    assert (read_picture(plain[:2] + segment + plain[2:]) == read_picture(plain)).all()


@pytest.mark.skipif(sys.platform != "linux", reason="pipes and devices of Linux")
def test_pipes_sockets_and_devices_are_refused_and_never_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket.png"))
        for photo in (tmp_path / "pipe.png", tmp_path / "socket.png", "/dev/zero", "/dev/tty"):
            with pytest.raises(PictureError, match=r"regular|no such|cannot"):
                read_picture(photo)
            with pytest.raises(PictureError, match=r"regular|no such|cannot"):
                read_picture({"path": str(photo)})


def test_files_and_streams_without_end_are_refused(tmp_path, monkeypatch):
    from retina_fm.pictures import files

    monkeypatch.setattr(files, "LARGEST", 1 << 20)
    file = tmp_path / "sparse.png"
    with file.open("wb") as stream:
        stream.truncate(1 << 30)
    with pytest.raises(PictureError, match="too large"):
        read_picture(file)

    class Endless(io.RawIOBase):
        def read(self, size=-1):
            assert size > 0, "it was asked for everything"
            return b"\0" * size

    with pytest.raises(PictureError, match="too large"):
        read_picture(Endless())


def test_running_out_of_memory_is_the_photos_error(monkeypatch):
    def full(self):
        raise MemoryError

    monkeypatch.setattr(Image.Image, "load", full)
    with pytest.raises(PictureError, match=r"memory ran out while 96 x 96"):
        read_picture(Image.fromarray(PICTURE))


def test_whole_files_of_unsupported_kinds_are_not_called_damaged():
    jpeg = encoded(PICTURE, "JPEG")
    place = jpeg.index(b"\xff\xc0")
    twelve = bytearray(jpeg)
    twelve[place + 4] = 12
    arithmetic = bytearray(jpeg)
    arithmetic[place + 1] = 0xCB
    heif = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + b"\0" * 64
    rows = {
        "12-bit JPEG": (bytes(twelve), "not supported"),
        "lossless arithmetic JPEG": (bytes(arithmetic), "not supported"),
        "TIFF of an unknown compression": (tiff(PICTURE, tags=({259: 34887},)), "not supported"),
        "TIFF of 64-bit samples": (tiff(PICTURE, tags=({339: 6},)), "not supported"),
        "32-bit integers": (Image.fromarray(np.full((64, 64), 10**6, np.int32)), "not supported"),
        "PNG with much text": (_much_text(), "not supported"),
        "HEIF without a plugin": (heif, "pillow-heif"),
    }
    wrong = {}
    for name, (photo, words) in rows.items():
        with pytest.raises(PictureError) as caught:
            read_picture(photo)
        if words not in str(caught.value) or "etch it again" in str(caught.value):
            wrong[name] = str(caught.value)
    assert not wrong
    with pytest.raises(PictureError, match="damaged or truncated"):
        read_picture(jpeg[: len(jpeg) // 2])


def test_dicom_without_pixels_is_not_told_to_fetch_a_codec():
    pytest.importorskip("pydicom")
    made = dataset(PICTURE[..., 0], "MONOCHROME2")
    del made.PixelData
    with pytest.raises(PictureError, match="holds no pixels") as caught:
        read_picture(dicom_bytes(made))
    assert "pip" not in str(caught.value)
    short = dataset(PICTURE[..., 0], "MONOCHROME2")
    short.PixelData = short.PixelData[:100]
    with pytest.raises(PictureError, match="cannot be decoded") as caught:
        read_picture(dicom_bytes(short))
    assert "pip" not in str(caught.value)


def _much_text() -> bytes:
    whole = encoded(PICTURE, "PNG")
    text = b"note\0\0" + zlib.compress(b"a" * (80 << 20))
    chunk = struct.pack(">I", len(text)) + b"zTXt" + text + struct.pack(">I", zlib.crc32(b"zTXt" + text))
    return whole[:33] + chunk + whole[33:]
