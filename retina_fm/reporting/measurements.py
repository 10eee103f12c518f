"""Measurements as a reader sees them: in words, with units, beside those of healthy photographs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from retina_fm.measuring import COLUMNS
from retina_fm.measuring.vessels import ZONES
from retina_fm.models.reliability import Reliability, fault_of
from retina_fm.reporting.ranges import HealthyRange
from retina_fm.vocabulary import LESION_TYPES

IN_DISCS = ("disc_fovea_distance",)
"""Lengths that are compared as shares of the disc's diameter: pixels differ from camera to camera."""
UNSTABLE = ("quality", "fractal_dimension")
"""Differ between two photographs of one eye nearly as much as between eyes (docs/measuring.md, Repeats)."""
RANGED = (
    "disc_fovea_distance", "disc_fovea_angle",
    "vessel_density", *(f"vessel_density_{name}" for name in ZONES), "tortuosity", "fractal_dimension", "avr",
    *(f"lesion_{name}" for name in LESION_TYPES),
)  # fmt: skip
"""What is compared with healthy photographs; quality says nothing of health."""
_SECTIONS = {
    "Quality": ("quality",),
    "Disc and fovea": ("disc", "fovea"),
    "Vessels": ("vessel", "tortuosity", "fractal", "crae", "crve", "avr"),
    "Lesions": ("lesion",),
}
_OF_BOTH_KINDS = ("crae", "crve", "avr")
_HIDDEN = re.compile(r".*_[yx]$")  # places are on the picture
_WORDS = {
    "quality": "overall",
    "quality_fundus": "a colour photograph of a retina",
    "quality_field": "share of the circle in the picture",
    "quality_vessels": "reach of the vessels",
    "avr": "arterioles over venules (AVR)",
    "crae": "arteriolar equivalent (CRAE)",
    "crve": "venular equivalent (CRVE)",
    **{
        f"vessel_density_{name}": f"vessel density, {low:g} to {high:g} disc diameters off the disc"
        for name, (low, high) in ZONES.items()
    },
}
_REASON = re.compile(r"; (?=[a-z][a-z_0-9, ]*: )")


class Row(NamedTuple):
    """One measurement.

    Attributes:
        name: in words.
        value: with its unit.
        healthy: the range, in the same unit; empty where there is none.
        place: of the value, the low, the middle and the high end of the range on a line of 0 to 100; None
            without a range.
        outside: ``below`` or ``above`` the range, or empty.
        note: what speaks against the number.
        doubtful: whether the model's own figures say that it is not to be relied on.
    """

    name: str
    value: str
    healthy: str
    place: tuple[float, float, float, float] | None
    outside: str
    note: str
    doubtful: bool = False


def rows_of(
    values: Mapping[str, Any],
    ranges: Mapping[str, HealthyRange],
    stated: Mapping[str, Reliability] | None = None,
) -> dict[str, list[Row]]:
    """Measurements by section, those alone that could be said.

    Args:
        values: of a photo by column, as ``retina_fm.measure`` gives them.
        ranges: of healthy photographs, by column.
        stated: reliability of the model's maps: a number that fails it, and is there since it was asked for,
            is marked.
    """
    found: dict[str, list[Row]] = {}
    for section, beginnings in _SECTIONS.items():
        names = [
            name
            for name in COLUMNS
            if name.startswith(beginnings) and not _HIDDEN.match(name) and values.get(name) is not None
        ]
        if names:
            found[section] = [
                _marked(_row(name, values, ranges.get(name)), _fault(name, stated or {})) for name in names
            ]
    return found


def reasons_of(values: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What is not said of a photo, each with the reason."""
    reasons = _REASON.split(values.get("reasons") or "")
    return [(words_of(name), why) for name, _, why in (one.partition(": ") for one in reasons) if why]


def words_of(name: str) -> str:
    """A column, or several, in words."""
    if ", " in name:
        return ", ".join(words_of(one) for one in name.split(", "))
    plain = _WORDS.get(name, name.removeprefix("lesion_").removeprefix("quality_").removesuffix("_um"))
    return plain.replace("_", " ")


def _fault(name: str, stated: Mapping[str, Reliability]) -> str | None:
    """Why a number is not to be relied on."""
    if name.startswith(_OF_BOTH_KINDS):
        return next((why for kind in ("artery", "vein") if (why := fault_of(stated, kind))), None)
    return fault_of(stated, name.removeprefix("lesion_"))


def _marked(row: Row, why: str | None) -> Row:
    if why is None:
        return row
    return row._replace(note=f"not to be relied on: {why}", doubtful=True, place=None, healthy="", outside="")


def _row(name: str, values: Mapping[str, Any], healthy: HealthyRange | None) -> Row:
    value, unit = values[name], COLUMNS[name].unit
    shown = _shown(value, unit)
    if name in IN_DISCS and values.get("disc_diameter"):
        value, unit = value / values["disc_diameter"], "discs"
        shown = f"{shown}, {_shown(value, unit)}"
    elif name in IN_DISCS:
        healthy = None
    note = "differs between visits of one eye as between eyes" if name in UNSTABLE else ""
    if healthy is None:
        return Row(words_of(name), shown, "", None, "", note)
    outside = "below" if value < healthy.low else "above" if value > healthy.high else ""
    span = f"{_shown(healthy.low, unit, bare=True)} to {_shown(healthy.high, unit)}"
    return Row(words_of(name), shown, span, _place(value, healthy), outside, note)


def _place(value: float, healthy: HealthyRange) -> tuple[float, float, float, float]:
    """On a line that reaches as far beyond the range on both sides as it is wide."""
    width = max(healthy.high - healthy.low, 1e-9)
    begin = healthy.low - width

    def at(one: float) -> float:
        return round(min(98.0, max(2.0, 100 * (one - begin) / (3 * width))), 1)

    return at(value), at(healthy.low), at(healthy.median), at(healthy.high)


def _shown(value: float, unit: str, *, bare: bool = False) -> str:
    if unit == "0 to 1":
        return _plain(100 * value) if bare else f"{_plain(100 * value)} %"
    number = (
        f"{value:.0f}" if unit in ("px", "um") else f"{value:.1f}" if unit == "degrees" else f"{value:.3f}"
    )
    if unit == "discs":
        number = f"{value:.2f}"
    words = {"px": "px", "um": "µm", "degrees": "°", "discs": "discs"}.get(unit, "")
    return number if bare or not words else f"{number} {words}".replace(" °", "°")


def _plain(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"
