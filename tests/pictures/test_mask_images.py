"""Masks mean what they show, and are opened by the same rules as photos."""

from __future__ import annotations

import unicodedata
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.evaluation.video_sources import read_video
from retina_fm.pictures import masks as coverages
from retina_fm.pictures.masks import mask_classes, pair_by_name, read_mask
from tests.pictures.drawn import encoded
from tests.pictures.raw_files import png, tiff

SHAPE = (16, 24)
LESION = np.zeros(SHAPE, np.uint8)
LESION[4:9, 5:12] = 1


def palette(indices, *colours):
    image = Image.frombytes("P", indices.shape[::-1], indices.astype(np.uint8).tobytes())
    image.putpalette([value for colour in colours for value in colour])
    return image


def both(image, folder):
    """As an image and as a file."""
    path = folder / "mask.png"
    image.save(path)
    return image, path


BLACK, WHITE, RED, GREEN = (0, 0, 0), (255, 255, 255), (128, 0, 0), (0, 128, 0)


def test_a_palette_whose_first_colour_is_white_is_no_negative(tmp_path):
    for mask in both(palette(1 - LESION, WHITE, BLACK), tmp_path):
        values = read_mask(mask, SHAPE, "photo")
        assert (values == LESION * 255).all()
        assert mask_classes([values], ["photo"], None).tolist() == [0, 255]  # background first


def test_a_palette_after_black_is_read_by_its_classes(tmp_path):
    for mask in both(palette(LESION * 2, BLACK, RED, GREEN), tmp_path):
        assert (read_mask(mask, SHAPE, "photo") == LESION * 2).all()
    for mask in both(palette(LESION, BLACK, WHITE), tmp_path):
        assert (read_mask(mask, SHAPE, "photo") == LESION).all()


def test_a_coloured_palette_without_a_known_background_is_refused(tmp_path):
    for colours in ((RED, BLACK), (WHITE, RED), (GREEN, RED)):
        for mask in both(palette(1 - LESION, *colours), tmp_path):
            with pytest.raises(ConfigError, match="colour 0 is not black"):
                read_mask(mask, SHAPE, "photo")


def test_a_palette_with_black_twice_is_read_by_what_it_shows(tmp_path):
    for mask in both(palette(np.where(LESION, 1, 2), BLACK, WHITE, BLACK), tmp_path):
        assert (read_mask(mask, SHAPE, "photo") == LESION * 255).all()


def test_what_is_transparent_is_background(tmp_path):
    white = np.full((*SHAPE, 3), 255, np.uint8)
    for mask in both(Image.fromarray(np.dstack([white, LESION * 255])), tmp_path):
        assert (read_mask(mask, SHAPE, "photo") == LESION * 255).all()


def test_masks_of_sixteen_bits_keep_their_values_and_are_no_negatives(tmp_path):
    path = tmp_path / "mask.tif"
    path.write_bytes(tiff(LESION.astype(np.uint16) * 300))
    assert (read_mask(path, SHAPE, "photo") == LESION.astype(int) * 300).all()
    path.write_bytes(tiff((65535 - LESION.astype(np.uint16) * 65535).astype(np.uint16), tags=({262: 0},)))
    assert (read_mask(path, SHAPE, "photo") == LESION.astype(int) * 65535).all()


def test_soft_masks_of_twelve_bits_are_not_near_nothing():
    soft = np.rint(np.linspace(0, 4095, LESION.size)).reshape(SHAPE).astype(np.uint16)
    assert np.allclose(coverages.coverage(soft), soft / 4095, atol=1e-3)


def test_masks_lie_upright(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    path = tmp_path / "mask.png"
    path.write_bytes(encoded(Image.fromarray(np.rot90(LESION, 1) * 255), "PNG", exif=exif))
    assert (read_mask(path, SHAPE, "photo") == LESION * 255).all()


@pytest.fixture
def ghostscript(monkeypatch):
    started = []
    monkeypatch.setattr(
        EpsImagePlugin, "Ghostscript", lambda *_, **__: started.append(1) or Image.new("RGB", (24, 16)).im
    )
    return started


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 24 16\n%%EndComments\nshowpage\n%%EOF\n"


def test_postscript_under_another_name_never_starts_ghostscript(tmp_path, ghostscript):
    path = tmp_path / "mask.png"
    path.write_bytes(EPS)
    for read in (lambda: read_mask(path, SHAPE, "photo"), lambda: coverages.read_coverage(path)):
        with pytest.raises(PictureError, match="no picture in a format"):
            read()
    frames = tmp_path / "videos" / "one"
    frames.mkdir(parents=True)
    (frames / "1.png").write_bytes(EPS)
    with pytest.raises(PictureError, match="no picture in a format"):
        read_video(tmp_path / "videos", "one")
    (tmp_path / "videos" / "two.gif").write_bytes(EPS)
    with pytest.raises(OSError, match="cannot identify"):
        read_video(tmp_path / "videos", "two")
    assert not ghostscript


def test_bombs_and_pages_are_refused_as_masks_too(tmp_path):
    path = tmp_path / "mask.png"
    rows = {
        "at most 65535 a side": png(LESION.astype(np.uint16), 89_478_485, 1),
        "pixels, the limit is": png(LESION.astype(np.uint16), 60_000, 60_000),
        "2 frames": tiff(LESION * 255, 255 - LESION * 255),
        "damaged": encoded(LESION * 255, "PNG")[:60],
    }
    for words, data in rows.items():
        path.write_bytes(data)
        for read in (lambda: read_mask(path, SHAPE, "photo"), lambda: coverages.read_coverage(path)):
            with pytest.raises(PictureError, match=words):
                read()


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_are_matched_whatever_their_spelling(forms):
    photo, mask = (unicodedata.normalize(form, "Müller") for form in forms)
    assert pair_by_name([f"{photo}.jpg"], [f"{mask}.png"]) == [(f"{photo}.jpg", Path(f"{mask}.png"))]
    assert pair_by_name([f"{photo}.jpg"], [f"{mask}_1.png"]) == [(f"{photo}.jpg", Path(f"{mask}_1.png"))]
    two = [f"{photo}.jpg", f"{mask}.jpg"]  # of different photos
    pairs = pair_by_name(two, [f"{mask}.png", f"{photo}.png"])
    assert pairs == [(two[0], Path(f"{photo}.png")), (two[1], Path(f"{mask}.png"))]
