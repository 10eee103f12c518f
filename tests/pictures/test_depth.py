"""Pictures of more than 8 bits mean what they show."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import PictureError
from retina_fm.pictures import read_picture
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus
from tests.pictures.raw_files import png, tiff

PICTURE = fundus(72, 96)
GREY = PICTURE[..., 1].copy()
THREE = np.repeat(GREY[..., None], 3, axis=2)


def spread(picture, bits):
    """A picture's values over so many bits, from darkest to brightest as a camera exposes."""
    top = 2**bits - 1
    stretched = picture.astype(np.float64) / picture.max()
    return np.rint(stretched * top).astype(np.uint16), np.rint(stretched * 255)


def near(photo, expected, within=1):
    read = read_picture(photo).astype(int)
    expected = np.asarray(expected, int)
    expected = np.repeat(expected[..., None], 3, axis=2) if expected.ndim == 2 else expected
    assert read.shape == expected.shape
    assert np.abs(read - expected).max() <= within


@pytest.mark.parametrize("bits", [8, 10, 12])
@pytest.mark.parametrize("form", [png, tiff], ids=["png", "tiff"])
def test_few_bits_in_sixteen_are_not_near_black(bits, form):
    for picture in (GREY, PICTURE):
        values, expected = spread(picture, bits)
        near(form(values), expected)


def test_few_bits_in_arrays_tensors_and_images_are_not_near_black():
    torch = pytest.importorskip("torch")
    values, expected = spread(PICTURE, 12)
    near(values, expected)
    near(torch.from_numpy(np.moveaxis(values, -1, 0).copy()), expected)
    grey, expected = spread(GREY, 12)
    near(Image.fromarray(grey), expected)
    near(Image.fromarray(grey.astype(np.int32)), expected)


def test_alpha_does_not_hide_how_few_bits_the_colours_use():
    values, expected = spread(PICTURE, 12)
    for top in (4095, 65535):
        alpha = np.full(GREY.shape, top, np.uint16)
        near(np.dstack([values, alpha]), expected)
        near(png(np.dstack([values, alpha])), expected)
    grey, _ = spread(GREY, 12)
    with pytest.raises(PictureError, match="at most 12 are used"):
        read_picture(png(np.dstack([grey, np.full(GREY.shape, 65535, np.uint16)])))


def test_what_a_tiff_declares_is_believed():
    values, _ = spread(GREY, 10)  # dark, of 12 bits by its tag
    near(tiff(values, tags=({281: 4095},)), np.rint(values / 4095 * 255))
    near(tiff(values, tags=({281: 65535},)), np.rint(values / 1023 * 255))  # the usual default tells nothing


@pytest.mark.parametrize("bits", [12, 16])
def test_a_tiff_where_zero_is_white_is_no_negative(bits):
    values, expected = spread(GREY, bits)
    near(tiff((2**bits - 1 - values).astype(np.uint16), tags=({262: 0},)), expected)


def test_colour_in_separate_planes_is_not_scrambled():
    values, expected = spread(PICTURE, 16)
    near(tiff(values, planes=True), expected)
    values, expected = spread(PICTURE, 12)
    near(tiff(values, planes=True), expected)
    near(tiff(PICTURE, planes=True), PICTURE, within=0)


def test_upright_and_deep_go_together():
    values, expected = spread(PICTURE, 12)
    for planes in (False, True):
        near(tiff(values, planes=planes, tags=({274: 6},)), np.rot90(expected, -1))


def test_sixteen_whole_bits_of_colour_are_what_they_were():
    values = PICTURE.astype(np.uint16) << 8 | 0x7F
    for photo in (png(values), tiff(values)):
        assert (read_picture(photo) == PICTURE).all()


def test_what_a_format_declares_is_left_alone():
    values, _ = spread(GREY, 12)
    dim = (values // 8).astype(np.uint16)
    head = f"P5 {dim.shape[1]} {dim.shape[0]} 4095\n".encode()
    near(head + dim.astype(">u2").tobytes(), np.rint(dim / 4095 * 255))


def test_dicom_of_twelve_bits_that_declares_sixteen_is_not_near_black():
    pytest.importorskip("pydicom")
    values, expected = spread(GREY, 12)
    near(dicom_bytes(dataset(values, "MONOCHROME2")), expected)
    near(dicom_bytes(dataset((4095 - values).astype(np.uint16), "MONOCHROME1")), expected)


def test_dicom_whose_bits_are_declared_is_believed():
    pytest.importorskip("pydicom")
    values, _ = spread(GREY, 10)
    near(dicom_bytes(dataset(values, "MONOCHROME2", stored=12)), np.rint(values / 4095 * 255))


def test_photographs_of_eight_bits_are_the_same_to_the_byte():
    for form in ("PNG", "TIFF", "BMP"):
        assert (read_picture(encoded(PICTURE, form)) == PICTURE).all()
    jpeg = encoded(PICTURE, "JPEG", quality=92)
    assert (read_picture(jpeg) == np.asarray(Image.open(io.BytesIO(jpeg)))).all()
    black = PICTURE // 32  # dark, but of 8 bits
    assert (read_picture(encoded(black, "PNG")) == black).all()
