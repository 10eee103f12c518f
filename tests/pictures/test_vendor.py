"""Cameras' own files: pictures, what they say beside them, and what is wrong with damaged ones."""

from __future__ import annotations

import contextlib
import datetime
import struct
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import MissingDependencyError, PictureError
from retina_fm.pictures import count, expand, read_picture, vendor
from retina_fm.pictures.tags import Tags, tags_of
from tests.pictures import camera_files as made
from tests.pictures.drawn import encoded, fundus

PHOTO = fundus(96, 128)
GREY = PHOTO[..., 1]


def saved(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("build", [made.fda, made.fds])
def test_topcon_files_give_picture_eye_patient_and_time(build: Any, tmp_path: Path) -> None:
    path = saved(tmp_path / f"a.{build.__name__}", build(PHOTO, eye=0))
    for photo in (path, path.read_bytes(), {"path": str(path)}):
        assert (read_picture(photo) == PHOTO).all(), "red is red again"
        assert tags_of(photo) == Tags("right", "P-007", "2021-03-04T05:06:07", None, "camera file")


def test_a_topcon_file_without_a_colour_picture_gives_its_grey_one_or_says_so(tmp_path: Path) -> None:
    packed = encoded(Image.fromarray(GREY), "PNG")
    head = struct.pack("<IIIIBI", 128, 96, 8, 1, 0, len(packed))
    grey = saved(tmp_path / "a.fda", made.topcon([(b"@IMG_TRC_02", head + packed)]))
    assert (read_picture(grey) == GREY[..., None]).all()
    scan = saved(tmp_path / "b.fda", made.topcon(made.about()))
    with pytest.raises(PictureError, match=r"b\.fda: it holds no fundus picture, an OCT scan alone"):
        read_picture(scan)
    assert tags_of(grey) == Tags()


@pytest.mark.parametrize("skip", [False, True])
def test_a_heidelberg_file_is_its_frames(tmp_path: Path, skip: bool) -> None:
    ticks = (
        int((datetime.datetime(2020, 5, 6, 7, 8, 9) - datetime.datetime(1601, 1, 1)).total_seconds()) * 10**7
    )
    data = made.e2e([(GREY, "R"), (GREY[::-1].copy(), "L")], ticks=ticks, skip=skip)
    path = saved(tmp_path / "two.e2e", data)
    with pytest.raises(PictureError, match="it holds 2 frames"):
        read_picture(path)
    photos = list(expand(tmp_path))
    assert (
        photos == [{"path": str(path), "frame": 0}, {"path": str(path), "frame": 1}] and count(tmp_path) == 2
    )
    assert (read_picture(photos[1])[..., 0] == GREY[::-1]).all()
    said = [tags_of(photo) for photo in photos]
    assert [tags.eye for tags in said] == ["right", "left"]
    assert {tags[1:4] for tags in said} == {("H123", "2020-05-06T07:08:09", None)}
    with pytest.raises(PictureError, match="it has no frame 2"):
        read_picture({"path": str(path), "frame": 2})


def test_a_heidelberg_file_that_runs_in_circles_ends(tmp_path: Path) -> None:
    data = bytearray(made.e2e([(GREY, "R")]))
    data[36 + 52 + 44 : 36 + 52 + 48] = (36 + 52).to_bytes(4, "little")  # its directory comes before itself
    assert (read_picture(bytes(data))[..., 0] == GREY).all()
    data[36 + 52 + 36 : 36 + 52 + 40] = (2**32 - 1).to_bytes(4, "little")  # and has no end
    with pytest.raises(PictureError):
        read_picture(bytes(data))


def test_a_chunk_that_is_named_very_often_is_read_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = made.e2e([(GREY, "R")], again=50_000)
    calls = 0
    parsed = vendor._parsed

    def counted(*given: Any) -> Any:
        nonlocal calls
        calls += 1
        return parsed(*given)

    monkeypatch.setattr(vendor, "_parsed", counted)
    assert (read_picture(many)[..., 0] == GREY).all()
    assert calls < 20
    with pytest.raises(PictureError, match="does not end"):
        read_picture(many[:40_000])


def test_a_zeiss_cube_is_seen_from_above(tmp_path: Path) -> None:
    lit = np.tile(np.linspace(10, 200, 512).astype(np.uint8), (32, 1))
    path = saved(tmp_path / "P12_Macular Cube_6-20-2011_10-9-8_OS_sn3_cube_z.img", made.cube(lit))
    picture = read_picture(path)
    assert picture.shape == (512, 512, 3) and picture[0, 0, 0] == 0 and picture[-1, -1, 0] == 255
    assert tags_of(path) == Tags("left", "P12", "2011-06-20T10:09:08", None, "camera file")
    (tmp_path / "disk.img").write_bytes(b"\0" * 1000)
    assert list(expand(tmp_path)) == [path], "another .img is passed over"


@pytest.mark.parametrize("build", [made.fda, made.fds, lambda: made.e2e([(GREY, "R")])])
def test_damaged_files_are_pictures_errors(build: Any) -> None:
    whole = build()
    for length in (10, 20, 40, 100, 500, len(whole) // 2, len(whole) * 9 // 10):
        try:
            read_picture(whole[:length])
        except PictureError as error:
            assert str(error).endswith(".")
        tags_of(whole[:length])
    random = np.random.default_rng(0)
    for _ in range(60):
        data = bytearray(whole)
        for place in random.integers(4, min(400, len(whole)), 4):
            data[place] = random.integers(256)
        with contextlib.suppress(PictureError):
            read_picture(bytes(data))
        tags_of(bytes(data))


def test_without_the_extra_the_command_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "oct_converter", None)
    path = saved(tmp_path / "a.fda", made.fda())
    with pytest.raises(MissingDependencyError, match=r"pip install oct-converter \(or '\.\[vendor\]'"):
        read_picture(path)
    assert tags_of(path) == Tags()


def test_a_broken_installation_is_not_called_a_missing_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "oct_converter").mkdir()
    (tmp_path / "oct_converter" / "__init__.py").touch()
    monkeypatch.delitem(sys.modules, "oct_converter", raising=False)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(
        MissingDependencyError, match=r"is there, but its layouts cannot be loaded .*reinstall"
    ):
        read_picture(made.fda())
