from __future__ import annotations

import io
import os
import subprocess
import sys
import threading
import warnings

import numpy as np
import pytest
from PIL import Image

from retina_fm.errors import MissingDependencyError, NoPicturesError, PictureError, PictureTooLargeError
from retina_fm.pictures import describe, read_picture
from tests.pictures.bad_photos import bad_photos
from tests.pictures.drawn import dataset, dicom_bytes, encoded, fundus

PICTURE = fundus(72, 96)
GREY = PICTURE[..., 1].copy()


def same(photo, picture=PICTURE, within=0):
    read = read_picture(photo)
    assert read.dtype == np.uint8 and read.shape == picture.shape and read.flags.c_contiguous
    assert np.abs(read.astype(int) - picture).max() <= within


def test_files_bytes_streams_and_dicts_give_the_same_picture(tmp_path):
    data = encoded(PICTURE, "PNG")
    file = tmp_path / "eye.png"
    file.write_bytes(data)
    with file.open("rb") as stream:
        same(stream)
        same(stream)  # read twice
    for photo in (str(file), file, data, bytearray(data), memoryview(data), io.BytesIO(data)):
        same(photo)
    for photo in ({"bytes": data, "path": None}, {"bytes": None, "path": str(file)}, {"path": file}):
        same(photo)
    same({"bytes": data, "path": "only-a-name.png"})


@pytest.mark.parametrize("form", ["PNG", "TIFF", "BMP", "PPM"])
def test_lossless_formats_give_the_same_picture(form):
    same(encoded(PICTURE, form))


def test_webp_gif_and_jpeg_2000_are_read():
    same(encoded(PICTURE, "WEBP", lossless=True))
    same(encoded(PICTURE, "JPEG2000"))
    assert read_picture(encoded(Image.fromarray(GREY), "GIF")).shape == PICTURE.shape


def test_pil_images_of_every_mode_are_read():
    image, grey = Image.fromarray(PICTURE), Image.fromarray(GREY)
    three = np.repeat(GREY[..., None], 3, axis=2)
    same(image)
    same(image.convert("RGBA"))
    same(grey, three)
    same(grey.convert("LA"), three)
    same(grey.convert("I"), three)
    palette = image.quantize(64)
    same(palette, np.asarray(palette.convert("RGB")))
    cmyk = image.convert("CMYK")
    same(cmyk, np.asarray(cmyk.convert("RGB")))
    same(image.convert("YCbCr"), PICTURE, within=3)
    bits = grey.convert("1")
    same(bits, np.repeat(np.asarray(bits)[..., None], 3, axis=2).astype(np.uint8) * 255)
    same(Image.fromarray(GREY.astype(np.float32) / 255), three)


def test_sixteen_bits_are_scaled_not_clipped(tmp_path):
    deep = GREY.astype(np.uint16) * 257
    three = np.repeat(GREY[..., None], 3, axis=2)
    for form in ("PNG", "TIFF"):
        same(encoded(Image.fromarray(deep), form), three)
    same(Image.fromarray(deep.astype(np.int32)), three)
    same(deep, three)
    same(PICTURE.astype(np.uint16) * 257)


def test_arrays_and_tensors_give_the_same_picture():
    torch = pytest.importorskip("torch")
    three = np.repeat(GREY[..., None], 3, axis=2)
    unit = PICTURE.astype(np.float64) / 255
    for kind in (np.float64, np.float32, np.float16):
        same(unit.astype(kind))
    same(GREY, three)
    same(GREY[..., None], three)
    same(PICTURE[:, ::-1][:, ::-1])
    first = torch.from_numpy(PICTURE.transpose(2, 0, 1).copy())
    for tensor in (first, first / 255, (first / 255).half(), first.to(torch.uint16) * 257):
        same(tensor)
    same((first / 255).to(torch.bfloat16), PICTURE, within=1)
    same((first / 255).requires_grad_())
    same(torch.from_numpy(GREY)[None], three)


def test_floats_may_overshoot_by_rounding_but_not_by_scale():
    unit = PICTURE.astype(np.float32) / 255
    unit[0, 0], unit[1, 1] = -1e-6, 1 + 1e-6
    assert read_picture(unit)[1, 1].tolist() == [255, 255, 255]
    unit[0, 0] = -0.01
    with pytest.raises(PictureError, match=r"floats from -0\.01"):
        read_picture(unit)


def test_transparency_becomes_black_whatever_lies_below():
    alpha = np.zeros(GREY.shape, np.uint8)
    alpha[20:50, 30:60] = 255
    rgba = np.dstack([PICTURE, alpha])
    expected = PICTURE * (alpha > 0)[..., None]
    for photo in (rgba, rgba / 255.0, Image.fromarray(rgba), encoded(Image.fromarray(rgba), "PNG")):
        same(photo, expected)
    keyed = Image.fromarray(GREY)
    data = encoded(keyed, "PNG", transparency=int(GREY[0, 0]))
    assert not read_picture(data)[GREY[0, 0] == GREY].any()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied_once(orientation, form):
    turns = {2: [0], 3: [3], 4: [1], 5: [5], 6: [4], 7: [6], 8: [2]}  # how a camera stored it: the inverse
    inverse = {2: 0, 3: 3, 4: 1, 5: 5, 6: 2, 7: 6, 8: 4}
    image = Image.fromarray(fundus(80, 112, noise=0))
    stored = image
    if orientation > 1:
        assert turns[orientation]
        stored = image.transpose(Image.Transpose(inverse[orientation]))
        back = stored.transpose(Image.Transpose(turns[orientation][0]))
        assert back.size == image.size or orientation in (6, 8)
    exif = Image.Exif()
    exif[274] = orientation
    settings = {"JPEG": {"quality": 95}, "WEBP": {"lossless": True}}.get(form, {})
    read = read_picture(encoded(stored, form, exif=exif, **settings))
    upright = _by_hand(np.asarray(stored), orientation)
    assert read.shape == upright.shape
    assert np.abs(read.astype(int) - upright).mean() < (4 if form == "JPEG" else 0.01)


def _by_hand(stored, orientation):
    """The table of the EXIF standard: what row 0 and column 0 of the stored picture mean."""
    return {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: a.swapaxes(0, 1)[:, ::-1],
        7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
        8: lambda a: a.swapaxes(0, 1)[::-1],
    }[orientation](stored)


def test_malformed_exif_is_ignored():
    plain = encoded(PICTURE, "JPEG", quality=95)
    for block in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\0\x05\x01\x12"):
        segment = b"\xff\xe1" + (len(block) + 2).to_bytes(2, "big") + block
        same(plain[:2] + segment + plain[2:], read_picture(plain))


def test_bad_photos_are_refused_with_name_and_cause(tmp_path):
    rows = bad_photos(tmp_path)
    assert len(rows) >= 60
    wrong = []
    for name, photo, fragment in rows:
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", module="pydicom")  # says the same, less clearly
                read_picture(photo)
            wrong.append(f"{name}: accepted")
        except PictureError as error:  # noqa: PERF203
            if fragment not in str(error):
                wrong.append(f"{name}: {error}")
            if ("missing" in name) != isinstance(error, NoPicturesError) and name != "address":
                wrong.append(f"{name}: {type(error).__name__}")
        except Exception as error:
            wrong.append(f"{name}: {type(error).__name__} {error}")
    assert not wrong, "\n".join(wrong)


def test_a_missing_file_is_also_a_file_not_found_error(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_picture(tmp_path / "gone.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read any file")
def test_a_file_without_permission_is_refused(tmp_path):
    file = tmp_path / "locked.png"
    file.write_bytes(encoded(PICTURE, "PNG"))
    file.chmod(0)
    with pytest.raises(PictureError, match=r"locked\.png.*permission"):
        read_picture(file)


@pytest.mark.parametrize("times", [1.5, 3.0])
def test_pillows_limit_holds_without_a_warning_in_any_thread(monkeypatch, times):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", int(PICTURE[..., 0].size / times))
    data, caught = encoded(PICTURE, "PNG"), []

    def read():
        try:
            read_picture(data)
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=read)
    thread.start()
    thread.join()
    read()
    assert len(caught) == 2
    assert all(type(error) is PictureTooLargeError and "96 x 72" in str(error) for error in caught)


def test_names_of_photos_are_short_and_can_be_given():
    assert describe("a/b.png") == "a/b.png"
    assert describe(np.zeros((4, 4))) == "array (4, 4)"
    assert describe({"bytes": b"123", "path": "x.png"}) == "x.png"
    assert describe(b"123") == "3 bytes"
    assert isinstance(describe(object()), str) and isinstance(describe(None), str)
    with pytest.raises(PictureError, match="row 7: empty"):
        read_picture(b"", name="row 7")


def test_dicom_grey_colour_and_bits_are_read(tmp_path):
    pytest.importorskip("pydicom")
    three = np.repeat(GREY[..., None], 3, axis=2)
    file = tmp_path / "eye.dcm"
    file.write_bytes(dicom_bytes(dataset(PICTURE, "RGB")))
    for photo in (file, file.read_bytes(), io.BytesIO(file.read_bytes()), dataset(PICTURE, "RGB")):
        same(photo)
    same(dataset(GREY, "MONOCHROME2"), three)
    same(dataset(255 - GREY, "MONOCHROME1"), three)
    twelve = np.rint(GREY.astype(np.float64) * 4095 / 255).astype(np.uint16)
    same(dataset(twelve, "MONOCHROME2", stored=12), three)
    ybr = np.asarray(Image.fromarray(PICTURE).convert("YCbCr"))
    same(dataset(ybr, "YBR_FULL"), PICTURE, within=4)
    same(dicom_bytes(dataset(ybr, "YBR_FULL")), PICTURE, within=4)


def test_dicom_jpeg_is_converted_to_rgb_once():
    pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEGBaseline8Bit

    made = dataset(PICTURE, "YBR_FULL_422")
    made.file_meta.TransferSyntaxUID = JPEGBaseline8Bit
    jpeg = encoded(PICTURE, "JPEG", quality=95)
    made.PixelData = encapsulate([jpeg])
    made["PixelData"].VR = "OB"
    made["PixelData"].is_undefined_length = True
    assert np.abs(read_picture(dicom_bytes(made)).astype(int) - read_picture(jpeg)).max() <= 6


@pytest.mark.parametrize("bits", [8, 16])
def test_dicom_palettes_are_applied(bits):
    pytest.importorskip("pydicom")
    made = dataset(GREY, "PALETTE COLOR")
    ramp = np.arange(256, dtype=np.uint16)
    for colour, table in (("Red", ramp), ("Green", 255 - ramp), ("Blue", ramp // 2)):
        setattr(made, f"{colour}PaletteColorLookupTableDescriptor", [256, 0, bits])
        entries = table.astype(np.uint8) if bits == 8 else table * 257
        setattr(made, f"{colour}PaletteColorLookupTableData", entries.tobytes())
    same(made, np.dstack([GREY, 255 - GREY, GREY // 2]), within=1)


def test_dicom_without_pydicom_names_the_extra(monkeypatch):
    data = b"\0" * 128 + b"DICM" + b"\0" * 64
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(MissingDependencyError, match=r"\[dicom\]"):
        read_picture(data)


def test_reading_needs_neither_torch_nor_pydicom_nor_scipy():
    code = (
        "import sys, numpy; from retina_fm.pictures import read_picture; "
        "read_picture(numpy.arange(4096, dtype='uint16').reshape(64, 64)); "
        "sys.exit(' '.join({'torch', 'pydicom', 'scipy'} & set(sys.modules)) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
