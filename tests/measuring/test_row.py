"""One photo's numbers against those of what was drawn."""

from __future__ import annotations

import numpy as np
import pytest
from measuring.made import RADIUS, SIDE, reading

from retina_fm.measuring.calibre import ARTERIOLES, VENULES, calibres, equivalent, largest
from retina_fm.measuring.columns import COLUMNS
from retina_fm.measuring.quality import quality
from retina_fm.measuring.reading import Reading
from retina_fm.measuring.row import measured
from retina_fm.models.reliability import Reliability
from retina_fm.pictures import Geometry
from retina_fm.pictures.tags import NOTHING

# a picture twice as large as its view
GEOMETRY = Geometry(2 * SIDE, 2 * SIDE, SIDE, SIDE, 2 * RADIUS, SIDE, margin=SIDE / (2 * RADIUS) - 1)
PHOTO = np.zeros((4, 4, 3), np.uint8)
SURE = {
    "artery": Reliability(on="drawings", balanced_accuracy=1.0),
    "vein": Reliability(on="drawings", balanced_accuracy=1.0),
    "hard_exudate": Reliability(on="drawings", threshold=0.1, healthy_share=0, precision=0.9, recall=0.5),
    "scar": Reliability(on="drawings", healthy_share=0.0),
}


def test_equivalents_are_those_of_the_formulas() -> None:
    # by hand: 13 with 8 and 12 with 9 and 11 with 10, the middle one waits, the two left are joined
    first = [0.88 * np.hypot(8, 13), 0.88 * np.hypot(9, 12), 0.88 * np.hypot(10, 11)]
    low, middle, high = sorted(first)
    wanted = 0.88 * np.hypot(middle, 0.88 * np.hypot(low, high))
    assert equivalent([10, 13, 8, 12, 9, 11], ARTERIOLES) == pytest.approx(wanted)
    assert equivalent([7.0], VENULES) == 7.0


def test_a_drawn_eye_has_its_numbers() -> None:
    values = measured(reading(), GEOMETRY, PHOTO, NOTHING, SURE)
    assert set(values) <= {*COLUMNS, "width", "height", "spacing_um", "patient_id", "acquired", "reasons"} | {
        "eye", "eye_confidence", "eye_source", "eye_in_picture",
    }  # fmt: skip
    assert (values["disc_y"], values["disc_x"]) == pytest.approx((256, 120), abs=1)
    assert values["disc_diameter"] == pytest.approx(72, abs=1.5)
    assert (values["fovea_y"], values["fovea_x"]) == pytest.approx((264, 280), abs=3)
    assert values["disc_fovea_distance"] == pytest.approx(160.2, abs=3)
    assert values["disc_fovea_angle"] == pytest.approx(2.9, abs=0.7)
    assert (values["eye"], values["eye_source"]) == ("left", "picture")
    assert 0.05 < values["vessel_density"] < 0.12
    assert values["vessel_density_zone_1"] > values["vessel_density_zone_2"]
    assert values["tortuosity"] < 0.01
    assert values["lesion_hard_exudate"] == pytest.approx(np.pi * 36 / (np.pi * RADIUS**2), rel=0.1)
    assert values.get("lesion_scar") is None and "lesion_scar: it was never measured" in values["reasons"]
    assert values.get("disc_diameter_um") is None and "states no spacing" in values["reasons"]


def test_calibres_of_drawn_vessels() -> None:
    found = calibres(reading())
    assert len(found) == 12
    arteries, veins = (largest(found, arteries=kind) for kind in (True, False))
    assert len(arteries) == len(veins) == 6
    assert np.mean(arteries) == pytest.approx(4, rel=0.08) and np.mean(veins) == pytest.approx(5, rel=0.08)
    values = measured(reading(), GEOMETRY, PHOTO, NOTHING, SURE)
    assert values["crae"] == pytest.approx(2 * equivalent([4.0] * 6, ARTERIOLES), rel=0.08)
    assert values["avr"] == pytest.approx(values["crae"] / values["crve"])


def test_calibres_are_not_taken_where_all_they_give_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    coin = {**SURE, "vein": Reliability(on="labels", balanced_accuracy=0.51)}
    given = measured(reading(), GEOMETRY, PHOTO, NOTHING, coin)
    assert given["vessel_width"] is not None and given.get("crve") is None

    def refuse(_: Reading) -> None:
        raise AssertionError("measured for nothing")

    monkeypatch.setattr("retina_fm.measuring.calibre.calibres", refuse)
    none = {**coin, "vessel_width": Reliability(on="labels", agreement=0.1)}
    refused = measured(reading(), GEOMETRY, PHOTO, NOTHING, none)
    assert refused.get("vessel_width") is None and "vessel_width: its correlation" in refused["reasons"]
    assert "crae, crve, avr: arteries and veins" in refused["reasons"]
    with pytest.raises(AssertionError, match="for nothing"):
        measured(reading(), GEOMETRY, PHOTO, NOTHING, none, allow_unreliable=True)


def test_what_maps_cannot_support_is_null_with_the_figures() -> None:
    coin = {
        **SURE,
        "vein": Reliability(on="labels", balanced_accuracy=0.51),
        "tortuosity": Reliability(on="labels", agreement=0.1),
    }
    values = measured(reading(), GEOMETRY, PHOTO, NOTHING, coin)
    assert (
        values.get("crae") is None and "balanced accuracy 0.51, 0.8 is needed (labels)" in values["reasons"]
    )
    assert values["tortuosity"] is None and "tortuosity: its correlation" in values["reasons"]
    assert measured(reading(), GEOMETRY, PHOTO, NOTHING, coin, allow_unreliable=True)["crae"] is not None
    assert (
        "no reliability of the artery map is stated"
        in measured(reading(), GEOMETRY, PHOTO, NOTHING, {})["reasons"]
    )


def test_without_a_disc_what_needs_one_is_null() -> None:
    drawn = reading()
    maps = {**drawn.maps, "disc": np.zeros_like(drawn.maps["disc"])}
    values = measured(Reading(drawn.view, drawn.inside, drawn.radius, maps), GEOMETRY, PHOTO, NOTHING, SURE)
    assert values["vessel_density"] > 0.05 and values.get("crae") is None and values.get("disc_y") is None
    assert "disc: no disc is seen" in values["reasons"]


def test_quality_falls_with_blur_darkness_and_a_cut_field() -> None:
    good = reading()
    assert quality(good).whole > 0.6
    dark = Reading((good.view * 0.2).astype(np.uint8), good.inside, good.radius, good.maps)
    assert quality(dark).illumination < 0.2 * quality(good).illumination
    grey = Reading(np.full_like(good.view, 120), good.inside, good.radius, good.maps)
    assert quality(grey).fundus == 0 and quality(grey).focus == 0
    cut = good.inside.copy()
    cut[:, :100] = False
    maps = {name: layer * cut for name, layer in good.maps.items()}
    assert quality(Reading(good.view * cut[..., None], cut, good.radius, maps)).field < 0.7


def test_a_photo_of_nothing_is_not_measured() -> None:
    grey = Reading(np.full_like(reading().view, 120), reading().inside, RADIUS, reading().maps)
    values = measured(grey, GEOMETRY, PHOTO, NOTHING, SURE)
    assert values["quality"] == 0 and "vessel_density" not in values
    assert "no colour photograph of a retina is seen" in values["reasons"]
