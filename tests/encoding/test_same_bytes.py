"""A row says of which bytes it is, whatever becomes of the file meanwhile, and whatever its name is."""

from __future__ import annotations

import hashlib
import os
import sys
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

import retina_fm
from conftest import disc_picture
from retina_fm.encoding import resumable
from retina_fm.encoding.work import decode
from retina_fm.errors import PictureError
from retina_fm.pictures import Transform, files, reading
from tests.pictures.drawn import encoded
from tests.pictures.raw_files import tiff

TINY = "fundus2video-tiny"
ONE, OTHER = disc_picture(1), disc_picture(2)


def saved(path: Path, picture: np.ndarray) -> Path:
    path.write_bytes(encoded(picture, "PNG"))
    return path


def encode_to(photos: Any, out: Path, **settings: Any) -> resumable.TableReport:
    return retina_fm.encode_to(photos, out, TINY, dtype="float32", **settings)


def test_what_is_hashed_is_what_is_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = saved(tmp_path / "eye.png", ONE)
    before, status = path.read_bytes(), path.stat()
    from_bytes = reading._from_bytes

    def swapped(*arguments: Any) -> np.ndarray:
        saved(path, OTHER)
        return from_bytes(*arguments)

    monkeypatch.setattr(reading, "_from_bytes", swapped)
    for photo in (path, str(path), {"path": str(path)}):
        path.write_bytes(before)
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
        item = decode(0, photo, Transform())
        assert item.view is not None and (item.view == Transform().view(ONE)[0]).all()
        assert item.stamp == (len(before), status.st_mtime_ns, hashlib.sha256(before).hexdigest())
    assert decode(0, before, Transform()).stamp is None


def test_a_file_that_is_swapped_after_it_was_looked_at_is_encoded_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, out = saved(tmp_path / "eye.png", ONE), tmp_path / "emb.parquet"
    content, status = path.read_bytes(), path.stat()
    key_of = resumable.key_of

    def swapped(photo: Any, *arguments: Any) -> Any:
        key = key_of(photo, *arguments)
        saved(path, OTHER)
        os.utime(path, ns=(5, 5))
        return key

    with monkeypatch.context() as patched:
        patched.setattr(resumable, "key_of", swapped)
        encode_to([path], out)
    row = pq.read_table(out).to_pylist()[0]
    assert (row["file_size"], row["file_mtime_ns"]) == (path.stat().st_size, 5)
    assert np.allclose(row["embedding"], retina_fm.encode(path, TINY, dtype="float32"), atol=1e-4)
    assert encode_to([path], out).reused == 1
    path.write_bytes(content)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))  # the first photo is back
    assert encode_to([path], out).reused == 0
    row = pq.read_table(out).to_pylist()[0]
    assert np.allclose(row["embedding"], retina_fm.encode(path, TINY, dtype="float32"), atol=1e-4)


@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_while_it_is_read_is_read_again_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, times: int
) -> None:
    path, left, fstat = saved(tmp_path / "eye.png", ONE), [times], os.fstat

    def changing(handle: int) -> os.stat_result:
        found = fstat(handle)
        if left[0] and left[0] == int(left[0]):
            left[0] -= 0.5  # type: ignore[call-overload]
        elif left[0]:
            left[0] = int(left[0])
            saved(path, OTHER)
            os.utime(path, ns=(left[0], left[0]))
            found = fstat(handle)
        return found

    monkeypatch.setattr(files.os, "fstat", changing)
    if times == 2:
        with pytest.raises(PictureError, match="changes while it is read"):
            reading.read_picture(path)
    else:
        assert (reading.read_picture(path) == OTHER).all()


def test_frames_of_one_file_are_rows_of_their_own(tmp_path: Path) -> None:
    path, out = tmp_path / "visit.tif", tmp_path / "emb.parquet"
    path.write_bytes(tiff(ONE, OTHER))
    photos = [{"path": str(path), "frame": frame} for frame in (0, 1)]
    assert encode_to(photos, out).rows == 2
    rows = pq.read_table(out).to_pylist()
    assert [row["path"] for row in rows] == ["visit.tif#frame=0", "visit.tif#frame=1"]
    for row, picture in zip(rows, (ONE, OTHER), strict=True):
        assert np.allclose(row["embedding"], retina_fm.encode(picture, TINY, dtype="float32"), atol=1e-4)
    assert encode_to(photos, out).reused == 2
    data = path.read_bytes()
    inline = [{"bytes": data, "frame": frame} for frame in (0, 1)]
    assert encode_to(inline, tmp_path / "inline.parquet", overwrite=True).rows == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems have no such names")
def test_no_name_ends_a_run(tmp_path: Path) -> None:
    photos, out = tmp_path / "photos", tmp_path / "emb.parquet"
    photos.mkdir()
    composed = unicodedata.normalize("NFC", "é.png")
    names = [
        os.fsdecode(b"\xe9t\xe9.png"), "x" * 245 + ".png", composed, unicodedata.normalize("NFD", composed),
        "a\x1b[2Jb.png", "line\nbreak.png", "=1+1.png", "-v.png", " .png", "#frame=1.png", "a%00b.png",
    ]  # fmt: skip
    for seed, name in enumerate(names):
        saved(photos / name, disc_picture(seed))
    assert encode_to(photos, out, on_error="raise").rows == len(names)
    rows = {row["path"]: row for row in pq.read_table(out).to_pylist()}
    assert len(rows) == len(names) and "photos/\\xe9t\\xe9.png" in rows
    for seed, name in enumerate(names[1:], 1):
        wanted = retina_fm.encode(disc_picture(seed), TINY, dtype="float32")
        assert np.allclose(rows[f"photos/{name}"]["embedding"], wanted, atol=1e-4)
    report = encode_to(photos, out)
    assert report.reused == report.rows == len(names)
