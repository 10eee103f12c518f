"""A picture under layers that a reader switches, with a loop of frames in its place, as a piece of a page.

    piece = layered(picture, {"Vessels": Layer(vessels, "#3fb6ff", shown=True)}, frames=frames)
    render("page.html", photo=piece)  # {{ photo }} in the template

Everything that is laid over the picture covers the same square, at any resolution of its own. The piece holds
its pictures, needs nothing from elsewhere, and may stand on a page any number of times.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.pages import data_url, picture_url, render

_STEPS = 16  # of opacity in a layer of one colour: four bits a pixel
_COLOUR = re.compile(r"#[0-9a-f]{6}", re.IGNORECASE)


@dataclass(frozen=True)
class Layer:
    """What may be laid over a picture.

    Attributes:
        overlay: what is opaque, ``bool (h, w)`` or float in [0, 1], in one colour; or ``uint8 (h, w, 4)``,
            red, green, blue and opacity.
        colour: of the layer, ``#rrggbb``; of one with colours of its own, the one beside its name (none: "").
        shown: whether it is on at first.
        note: said below its name.
        doubtful: whether the note warns.
    """

    overlay: NDArray[Any]
    colour: str = "#ffffff"
    shown: bool = False
    note: str = ""
    doubtful: bool = False


def layered(
    picture: NDArray[np.uint8],
    layers: Mapping[str, Layer],
    frames: NDArray[np.uint8] | None = None,
    *,
    alt: str = "Retina",
    frames_name: str = "Angiogram, generated",
    frames_note: str = "",
    frames_shown: bool = False,
    seconds: float = 6.0,
) -> Markup:
    """A picture with a switch for each layer.

    Args:
        picture: square, ``uint8 (S, S, 3)``.
        layers: by the name that the reader sees, the lowest first.
        frames: ``uint8 (T, h, w)`` or ``(T, h, w, 3)``, looped in the picture's place under the same layers.
        alt: what the picture shows, for readers who do not see it.
        frames_name: of their switch.
        frames_note: below it.
        frames_shown: whether they are on at first.
        seconds: of one turn of the loop.

    Raises:
        ValueError: a layer that is none, or a colour that is not ``#rrggbb``.
    """
    return Markup(
        render(
            "layers.html",
            side=picture.shape[1],
            alt=alt,
            picture=picture_url(Image.fromarray(picture), quality=90),
            layers=[
                {
                    "name": name,
                    "url": overlay_url(layer.overlay, layer.colour),
                    "colour": layer.colour,
                    "shown": layer.shown,
                    "note": layer.note,
                    "doubtful": layer.doubtful,
                }
                for name, layer in layers.items()
            ],
            frames=None
            if frames is None
            else {
                "url": picture_url(Image.fromarray(frames.reshape(-1, *frames.shape[2:])), quality=80),
                "count": len(frames),
                "seconds": seconds,
                "name": frames_name,
                "note": frames_note,
                "shown": frames_shown,
            },
        )
    )


def overlay_url(overlay: NDArray[Any], colour: str) -> str:
    """A layer as PNG inside an address; arguments as in :class:`Layer`."""
    if overlay.ndim == 3 and overlay.shape[2] == 4 and overlay.dtype == np.uint8:
        return _png(Image.fromarray(overlay))
    if overlay.ndim != 2:
        raise ValueError(
            f"A layer has the shape (h, w) or uint8 (h, w, 4), not {overlay.dtype} {overlay.shape}"
        )
    if not _COLOUR.fullmatch(colour):
        raise ValueError(f"The colour of a layer is written #rrggbb, not {colour!r}")
    steps = np.clip(np.nan_to_num(overlay.astype(np.float32)), 0, 1) * (_STEPS - 1)
    image = Image.fromarray(steps.round().astype(np.uint8), "P")
    image.putpalette(bytes.fromhex(colour[1:]) * _STEPS)
    return _png(image, bits=4, transparency=bytes(round(255 * i / (_STEPS - 1)) for i in range(_STEPS)))


def _png(image: Image.Image, **settings: Any) -> str:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", optimize=True, **settings)
    return data_url(buffer.getvalue(), "png")
