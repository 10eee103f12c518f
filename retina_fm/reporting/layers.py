"""What was read of a photo, as layers over its view: only what can be relied on, unless asked for more."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from retina_fm._io.layers import Layer
from retina_fm.explaining.heat_map import HeatMap, heat_colours
from retina_fm.measuring.lesions import RIM
from retina_fm.measuring.reading import VESSEL_FROM, Reading
from retina_fm.models.reliability import fault_of, threshold_in
from retina_fm.reporting.reading import ReadPhoto
from retina_fm.vocabulary import LESION_TYPES

LESION_COLOURS = {
    "microaneurysm": "#ff3fa4",
    "haemorrhage": "#d11f3a",
    "hard_exudate": "#ffe14d",
    "cotton_wool_spot": "#ffffff",
    "drusen": "#ffb347",
    "scar": "#7ddc6f",
}
_VESSELS, _ARTERIES, _VEINS, _DISC, _HEAT = "#4fd1ff", "#ff4d4d", "#5a7bff", "#7dffa8", "#ff6010"
_SMOOTH = 4  # drawn so much larger and shrunk: lines without steps
_CLEAR, _LINE = 2.0, 1.2  # pixels between a spot and the line round it, and the line


class Layers(NamedTuple):
    """Layers to show, and what is not shown with the reason."""

    shown: dict[str, Layer]
    left_out: dict[str, str]


def layers_of(read: ReadPhoto, heat: HeatMap | None = None, *, allow_unreliable: bool = False) -> Layers:
    """Layers over the view of a photo.

    A map whose stated reliability is not enough is left out with its figures; with ``allow_unreliable`` it is
    there, off at first, and its figures stand below its name. So is everything of a photo too poor to be
    measured.

    Args:
        read: the photo.
        heat: to lay over it too, in the photo's pixels.
        allow_unreliable: whether to have maps that are not to be relied on.
    """
    reading, found = read.reading, Layers({}, {})
    poor = _poor(read)

    def add(name: str, layer: Layer, fault: str | None) -> None:
        why = fault or poor
        if why is None:
            found.shown[name] = layer
        elif allow_unreliable:
            found.shown[name] = Layer(
                layer.overlay, layer.colour, note=f"not to be relied on: {why}", doubtful=True
            )
        else:
            found.left_out[name] = why

    vessels = np.where(reading.vessels, reading.maps["vessel"], 0)
    add("Vessels", Layer(vessels, _VESSELS, note=f"probability of {VESSEL_FROM} and more"), None)
    unsure = next((why for kind in ("artery", "vein") if (why := fault_of(read.stated, kind))), None)
    share = np.where(reading.vessels, reading.artery_share, 0)
    add("Arteries", Layer(vessels * (share > 0.5), _ARTERIES), unsure)
    add("Veins", Layer(vessels * (share <= 0.5), _VEINS), unsure)
    for name in LESION_TYPES:
        if name in reading.maps:
            words = name.replace("_", " ").capitalize()
            spots = _lesion(reading, name, threshold_in(read.stated, name))
            layer = Layer(_ringed(spots), LESION_COLOURS[name], note=_found(spots, read, name))
            add(words, layer, fault_of(read.stated, name))
    if reading.disc is None and reading.fovea is None:
        found.left_out["Disc and fovea"] = "neither is seen"
    else:
        add("Disc and fovea", Layer(_landmarks(reading), _DISC, shown=True, note=_seen_of(reading)), None)
    if heat is not None:
        seen = read.geometry.view_of(heat.heat, "bilinear")
        note = f"{heat.predicted}; {heat.method}, strongest {heat.strongest}"
        found.shown[f"Heat map: {heat.target}"] = Layer(
            heat_colours(seen, heat.least), _HEAT, shown=True, note=note
        )
    return found


def _poor(read: ReadPhoto) -> str | None:
    """Why nothing of a photo is measured, in the words of its row."""
    head = "disc, fovea, vessels, lesions: "
    reasons = (read.values.get("reasons") or "").split("; ")
    return next((one.removeprefix(head) for one in reasons if one.startswith(head)), None)


def _lesion(reading: Reading, name: str, threshold: float) -> NDArray[np.bool_]:
    deep = max(1, round(RIM * reading.inside.shape[0]))
    return np.asarray((reading.maps[name] >= threshold) & (reading.depth_inside > deep))


def _ringed(spots: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """A line round each spot that leaves the spot itself to be looked at."""
    from scipy import ndimage

    if not spots.any():
        return spots
    away = ndimage.distance_transform_edt(~spots)
    return np.asarray((away > _CLEAR) & (away <= _CLEAR + _LINE))


def _found(spots: NDArray[np.bool_], read: ReadPhoto, name: str) -> str:
    """How much is marked, and how far marks of this kind are right."""
    share = 100 * spots.sum() / max(1, read.reading.inside.sum())
    marked = f"ringed, {share:.2f} % of the field" if spots.any() else "none marked"
    stated = read.stated.get(name)
    if stated is None or stated.precision is None or stated.recall is None:
        return marked
    return f"{marked}; precision {stated.precision:.2f}, recall {stated.recall:.2f} ({stated.on})"


def _landmarks(reading: Reading) -> NDArray[np.float32]:
    """The disc as a circle, the fovea as a cross."""
    size = reading.view.shape[0]
    image = Image.new("L", (size * _SMOOTH, size * _SMOOTH))
    draw, width = ImageDraw.Draw(image), max(2, size // 180) * _SMOOTH
    if reading.disc is not None:
        (y, x), r = (value * _SMOOTH for value in reading.disc.centre), reading.disc.radius * _SMOOTH
        draw.ellipse((x - r, y - r, x + r, y + r), outline=255, width=width)
    if reading.fovea is not None:
        y, x = (value * _SMOOTH for value in reading.fovea.centre)
        arm = size * _SMOOTH / 40
        draw.line((x - arm, y, x + arm, y), fill=255, width=width)
        draw.line((x, y - arm, x, y + arm), fill=255, width=width)
    small = image.resize((size, size), Image.Resampling.BOX)
    return np.asarray(np.asarray(small) / 255, np.float32)


def _seen_of(reading: Reading) -> str:
    disc = "no disc" if reading.disc is None else f"disc {reading.disc.sureness:.2f} sure"
    fovea = "no fovea" if reading.fovea is None else f"fovea {reading.fovea.sureness:.2f} sure"
    return f"{disc}, {fovea}"
