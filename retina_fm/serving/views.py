"""A photo's view for the page, and what was found in it as a layer to lay over it."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageDraw

from retina_fm._io.pages import data_url, picture_url
from retina_fm.encoding.work import Decoded
from retina_fm.measuring.reading import Reading

_VESSEL, _DISC, _FOVEA = (64, 224, 160), (255, 214, 64, 255), (255, 255, 255, 255)


def view_url(item: Decoded) -> str:
    """The view as a JPEG inside an address."""
    assert item.view is not None
    return picture_url(Image.fromarray(item.view))


def overlay_url(reading: Reading) -> str:
    """Vessels, the ring of the disc and a cross on the fovea, a transparent PNG inside an address."""
    alpha = np.rint(np.clip(reading.maps["vessel"], 0, 1) * 200).astype(np.uint8)
    colour = np.broadcast_to(np.array(_VESSEL, np.uint8), (*alpha.shape, 3))
    layer = Image.fromarray(np.concatenate([colour, alpha[..., None]], axis=2), "RGBA")
    draw = ImageDraw.Draw(layer)
    if reading.disc is not None:
        (y, x), r = reading.disc.centre, reading.disc.radius
        draw.ellipse((x - r, y - r, x + r, y + r), outline=_DISC, width=2)
    if reading.fovea is not None:
        (y, x), r = reading.fovea.centre, 6
        draw.line((x - r, y, x + r, y), fill=_FOVEA, width=2)
        draw.line((x, y - r, x, y + r), fill=_FOVEA, width=2)
    buffer = io.BytesIO()
    layer.save(buffer, "PNG")
    return data_url(buffer.getvalue(), "png")
