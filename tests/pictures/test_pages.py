"""Files that hold several pictures: never one of them in silence."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import PictureError
from retina_fm.pictures import describe, read_picture
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus
from tests.pictures.raw_files import tiff

PHOTO = fundus(128, 160)
SMALL = np.asarray(Image.fromarray(PHOTO).resize((80, 64)))
OTHER = fundus(128, 160, seed=3, brightness=0.8)


def test_a_thumbnail_before_its_photo_is_passed_over():
    for data in (
        tiff(SMALL, PHOTO),
        tiff(PHOTO, SMALL),
        tiff(SMALL, PHOTO, tags=({254: 1}, {})),
        tiff(OTHER, PHOTO, tags=({254: 1}, {})),  # it says that it is a copy, whatever its size
        tiff(OTHER, PHOTO, tags=({254: 4}, {})),  # a mask
        tiff(OTHER, PHOTO, tags=({255: 2}, {255: 1})),
    ):
        assert (read_picture(data) == PHOTO).all()


def test_several_pages_are_refused_until_one_is_named(tmp_path):
    data = tiff(PHOTO, OTHER)
    file = tmp_path / "visit.tif"
    file.write_bytes(data)
    with pytest.raises(PictureError, match=r"visit\.tif.*2 frames.*'frame': 0"):
        read_picture(file)
    assert (read_picture({"path": file, "frame": 0}) == PHOTO).all()
    assert (read_picture({"bytes": data, "frame": 1}) == OTHER).all()
    with pytest.raises(PictureError, match="no frame 2"):
        read_picture({"path": file, "frame": 2})
    assert describe({"path": str(file), "frame": 1}).endswith("visit.tif frame 1")


@pytest.mark.parametrize("frame", [-1, 1.5, True, "1"])
def test_a_frame_that_is_no_number_is_refused(frame):
    with pytest.raises(PictureError, match="frame is"):
        read_picture({"bytes": tiff(PHOTO), "frame": frame})


@pytest.mark.parametrize("form", ["GIF", "PNG", "WEBP", "TIFF"])
def test_animations_are_refused_until_one_frame_is_named(form):
    frames = [Image.fromarray(PHOTO), Image.fromarray(OTHER)]
    settings = {"lossless": True} if form == "WEBP" else {}
    data = encoded(frames[0], form, save_all=True, append_images=frames[1:], **settings)
    with pytest.raises(PictureError, match="2 frames"):
        read_picture(data)
    first, second = (read_picture({"bytes": data, "frame": frame}) for frame in (0, 1))
    assert np.abs(first.astype(int) - PHOTO).mean() < 8 and (first != second).any()


def test_what_follows_a_photo_and_is_damaged_does_not_matter():
    data = bytearray(tiff(PHOTO))
    data[-4:] = b"\xf0\xff\xff\x7f"  # the next page lies nowhere
    assert (read_picture(bytes(data)) == PHOTO).all()


def test_a_tiff_of_endless_pages_is_refused():
    data = bytearray(tiff(PHOTO))
    first = int.from_bytes(data[4:8], "little")
    data[-4:] = first.to_bytes(4, "little")  # it goes on with itself
    assert (read_picture(bytes(data)) == PHOTO).all()
    tiny = np.zeros((1, 1), np.uint8)
    with pytest.raises(PictureError, match="more than 1000 pages"):
        read_picture(tiff(*[tiny] * 1100))


def test_frames_of_dicom_are_read_by_number_with_all_that_their_header_says(tmp_path):
    pytest.importorskip("pydicom")
    grey = [photo[..., 1].astype(np.uint16) * 16 for photo in (PHOTO, OTHER)]
    series = np.stack(grey)
    wanted = [np.repeat(np.rint(one / 4095 * 255)[..., None], 3, axis=2) for one in grey]
    for photometric, stored in (("MONOCHROME2", series), ("MONOCHROME1", 4095 - series)):
        made = dataset(stored.astype(np.uint16), photometric, stored=12, frames=2)
        file = tmp_path / f"{photometric}.dcm"
        file.write_bytes(dicom_bytes(made))
        with pytest.raises(PictureError, match=r"2 frames.*'frame': 0"):
            read_picture(file)
        for frame in (0, 1):
            for photo in ({"path": file, "frame": frame}, {"dataset": made, "frame": frame}):
                assert np.abs(read_picture(photo) - wanted[frame]).max() <= 1
        with pytest.raises(PictureError, match="no frame 2"):
            read_picture({"path": file, "frame": 2})
