"""Layers over a picture: inside the page, switched by their names, see-through where they are empty."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from PIL import Image

from retina_fm._io.layers import Layer, layered, overlay_url

PICTURE = np.full((32, 32, 3), 120, np.uint8)


def decoded(url: str) -> np.ndarray:
    with Image.open(io.BytesIO(base64.b64decode(url.split(",")[1]))) as image:
        return np.asarray(image.convert("RGBA"))


def test_a_map_becomes_its_colour_and_its_probability_the_opacity() -> None:
    pixels = decoded(overlay_url(np.array([[0.0, 0.5], [1.0, np.nan]]), "#3fb6ff"))
    assert pixels[1, 0].tolist() == [0x3F, 0xB6, 0xFF, 255]
    assert pixels[0, 0, 3] == 0
    assert pixels[1, 1, 3] == 0
    assert abs(int(pixels[0, 1, 3]) - 128) <= 9


def test_a_layer_with_colours_of_its_own_stays_as_it_is() -> None:
    overlay = np.random.default_rng(0).integers(0, 256, (5, 7, 4), np.uint8)
    assert np.array_equal(decoded(overlay_url(overlay, "")), overlay)


def test_what_is_no_layer_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\(4, 4, 3\)"):
        overlay_url(np.zeros((4, 4, 3)), "#ffffff")
    with pytest.raises(ValueError, match="'red'"):
        overlay_url(np.zeros((4, 4)), "red")


def test_each_layer_has_a_switch_and_those_off_at_first_are_hidden() -> None:
    layers = {
        "Vessels": Layer(np.ones((8, 8)), "#00ff00", shown=True),
        "<b>": Layer(np.ones((8, 8)), note="precision 0.2", doubtful=True),
    }
    text = str(layered(PICTURE, layers))
    overlays = text.split('class="overlays"')[1].split("</g>")[0].split("<image")[1:]
    assert ['display="none"' in one for one in overlays] == [False, True]
    assert [" checked" in one for one in re.findall("<input type=.checkbox.[^>]*", text)] == [True, False]
    assert "&lt;b&gt;" in text
    assert '<small class="doubtful">precision 0.2</small>' in text
    assert "animate" not in text
    assert not re.findall(r'(?:href|src)="(?!data:)', text)


def test_frames_stand_below_each_other_and_are_shown_one_by_one() -> None:
    frames = np.stack([np.full((16, 16), 40 * t, np.uint8) for t in range(3)])
    text = str(layered(PICTURE, {}, frames, seconds=3))
    assert 'values="0;-32;-64"' in text
    assert 'dur="3s"' in text
    strip = decoded(re.search(r'class="frames" href="([^"]*)"', text)[1])  # type: ignore[index]
    assert strip.shape[:2] == (48, 16)
    assert np.abs(strip[[8, 24, 40], 8, 0].astype(int) - [0, 40, 80]).max() <= 3
