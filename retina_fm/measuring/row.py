"""One photo's numbers, and the reason for each that cannot be said."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from retina_fm.measuring import calibre, vessels
from retina_fm.measuring.eye_side import said_of, seen_in
from retina_fm.measuring.lesions import lesion_shares
from retina_fm.measuring.quality import Quality, quality
from retina_fm.measuring.reading import Reading
from retina_fm.models.reliability import Reliability, fault_of
from retina_fm.pictures import Geometry
from retina_fm.pictures.tags import Tags
from retina_fm.vocabulary import LESION_TYPES

LEAST_QUALITY = 0.25
"""Quality below which vessels, landmarks and lesions are not measured."""
_LEAST_FUNDUS = 0.3
_LEAST_CONFIDENCE = 0.55  # of the eye: of 35 photos in which the disc alone was seen, the two wrong had less

Values = dict[str, Any]
Stated = Mapping[str, Reliability]
Faults = Callable[[str], str | None]


def measured(
    reading: Reading,
    geometry: Geometry,
    photo: Any,
    tags: Tags,
    stated: Stated,
    allow_unreliable: bool = False,
) -> Values:
    """A row of the table of measurements, without its key.

    Args:
        reading: the photo's view and maps.
        geometry: of the view in the picture.
        photo: as it was handed in: its name may tell the eye.
        tags: what is said of it: eye, patient, day, spacing.
        stated: how far the maps can be believed.
        allow_unreliable: whether that matters not.
    """

    def fault(name: str) -> str | None:
        return None if allow_unreliable else fault_of(stated, name)

    spacing = tags.spacing_um
    values: Values = {"width": geometry.width, "height": geometry.height, "spacing_um": spacing}
    values |= {"patient_id": tags.patient_id, "acquired": tags.acquired}
    reasons: dict[str, str] = {}
    judged = quality(reading)
    values |= _quality(judged)
    values |= _eye(reading, said_of(photo, tags), reasons)
    poor = _too_poor(judged)
    if poor is not None:
        reasons["disc, fovea, vessels, lesions"] = poor
    else:
        values |= _landmarks(reading, geometry, reasons)
        values |= _tree(reading, reasons)
        values |= _calibres(reading, geometry, fault, reasons)
        values |= _lesions(reading, stated, fault, reasons)
    for name in [name for name in values if values[name] is not None]:
        if (why := fault(name)) is not None:
            values[name], reasons[name] = None, why
    values |= _micrometres(values, spacing, reasons)
    return {**values, "reasons": "; ".join(f"{name}: {why}" for name, why in reasons.items()) or None}


def _quality(judged: Quality) -> Values:
    return {"quality": judged.whole, **{f"quality_{part}": value for part, value in judged._asdict().items()}}


def _too_poor(judged: Quality) -> str | None:
    if judged.fundus < _LEAST_FUNDUS:
        return f"no colour photograph of a retina is seen (quality_fundus {judged.fundus:.2f})"
    if judged.whole < LEAST_QUALITY:
        return f"quality is {judged.whole:.2f}, {LEAST_QUALITY} is needed"
    return None


def _eye(reading: Reading, said: Any, reasons: dict[str, str]) -> Values:
    seen = seen_in(reading)
    if seen is None:
        reasons["eye_in_picture"] = "no disc is seen"
    elif seen.confidence < _LEAST_CONFIDENCE:
        reasons["eye_in_picture"] = "no fovea is seen, and the disc lies in the middle"
    sure = seen is not None and seen.confidence >= _LEAST_CONFIDENCE
    values: Values = {"eye_in_picture": seen.eye if seen is not None and sure else None}
    if said is not None:
        return values | {"eye": said.eye, "eye_source": said.source}
    if seen is not None and sure:
        values |= {"eye": seen.eye, "eye_confidence": seen.confidence, "eye_source": "picture"}
    return values


def _landmarks(reading: Reading, geometry: Geometry, reasons: dict[str, str]) -> Values:
    values: Values = {}
    disc, fovea = reading.disc, reading.fovea
    if disc is None:
        reasons["disc"] = "no disc is seen"
    else:
        y, x = geometry.to_picture(np.array(disc.centre))
        values |= {"disc_y": y, "disc_x": x, "disc_confidence": disc.sureness}
        if float(reading.depth_inside[disc.piece].min()) > 1.5:
            values["disc_diameter"] = 2 * disc.radius * geometry.scale
        else:
            reasons["disc_diameter"] = "the disc is cut by the edge of the field"
    if fovea is None:
        reasons["fovea"] = "no fovea is seen"
    else:
        y, x = geometry.to_picture(np.array(fovea.centre))
        values |= {"fovea_y": y, "fovea_x": x, "fovea_confidence": fovea.sureness}
    if disc is not None and fovea is not None:
        down, right = (f - d for f, d in zip(fovea.centre, disc.centre, strict=True))
        values["disc_fovea_distance"] = float(np.hypot(down, right)) * geometry.scale
        values["disc_fovea_angle"] = float(np.degrees(np.arctan2(down, abs(right))))
    return values


def _tree(reading: Reading, reasons: dict[str, str]) -> Values:
    dense = vessels.density(reading)
    values: Values = {"vessel_density": dense}
    if reading.disc is None:
        reasons["vessel_density in zones"] = "no disc is seen"
    else:
        for zone, found in vessels.zone_densities(reading).items():
            values[f"vessel_density_{zone}"] = found
            if found is None:
                reasons[f"vessel_density_{zone}"] = "less than half of the zone lies in the field"
    if dense < vessels.LEAST_VESSELS:
        reasons["tortuosity, fractal_dimension"] = f"vessels cover {100 * dense:.1f} % of the field"
        return values
    values["tortuosity"] = vessels.tortuosity(vessels.lines(reading), reading.radius)
    values["fractal_dimension"] = vessels.fractal_dimension(reading)
    return values


def _calibres(reading: Reading, geometry: Geometry, fault: Faults, reasons: dict[str, str]) -> Values:
    if reading.disc is None:
        reasons["vessel_width, crae, crve, avr"] = "no disc is seen"
        return {}
    unreliable = {kind: fault(kind) for kind in ("artery", "vein")}
    why = next((reason for reason in unreliable.values() if reason), None)
    if why is not None:
        reasons["crae, crve, avr"] = f"arteries and veins are not told apart well enough: {why}"
        if (width := fault("vessel_width")) is not None:  # nothing is left to be given
            reasons["vessel_width"] = width
            return {}
    crossing = calibre.calibres(reading)
    values: Values = {}
    if crossing:
        values["vessel_width"] = float(np.mean([one.width for one in crossing])) * geometry.scale
    else:
        reasons["vessel_width"] = "no vessel crosses the zone"
    if why is not None:
        return values
    for name, arteries, factor in (("crae", True, calibre.ARTERIOLES), ("crve", False, calibre.VENULES)):
        widths = calibre.largest(crossing, arteries=arteries)
        if len(widths) < calibre.LARGEST:
            kind = "arterioles" if arteries else "venules"
            reasons[name] = f"{len(widths)} {kind} cross the zone, {calibre.LARGEST} are needed"
        else:
            values[name] = calibre.equivalent(widths, factor) * geometry.scale
    if "crae" in values and "crve" in values:
        values["avr"] = values["crae"] / values["crve"]
    return values


def _lesions(reading: Reading, stated: Stated, fault: Faults, reasons: dict[str, str]) -> Values:
    values: Values = {}
    shares = lesion_shares(reading, stated)
    for name in LESION_TYPES:
        why = fault(name) if name in shares else "the model does not map it"
        if why is None:
            values[f"lesion_{name}"] = shares[name]
        else:
            reasons[f"lesion_{name}"] = why
    return values


def _micrometres(values: Mapping[str, Any], spacing: float | None, reasons: dict[str, str]) -> Values:
    names: Sequence[str] = ("disc_diameter", "disc_fovea_distance", "crae", "crve")
    if spacing is None:
        reasons["micrometres"] = "the photo states no spacing of its pixels"
        return {}
    return {f"{name}_um": values[name] * spacing for name in names if values.get(name) is not None}
