"""Vessels, arteries and landmarks are found without labels, measured on drawn retinas and on real data."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.metrics import roc_auc_score

from retina_fm.training.simulator.eyes.arteries_veins import artery_probability
from retina_fm.training.simulator.eyes.landmarks import find_landmarks
from retina_fm.vessels.line_maps import vessel_coverage

DATA = os.environ.get("RETINA_FM_TEST_DATA")
needs_data = pytest.mark.skipif(
    DATA is None, reason="RETINA_FM_TEST_DATA names no folder of real photographs"
)


def test_vessels_of_drawn_retinas_are_found(drawn_retinas):
    for retina in drawn_retinas:
        found = vessel_coverage(retina.photo, retina.field_of_view, retina.field_radius)
        inside = retina.field_of_view
        assert found.dtype == np.float32
        assert roc_auc_score(retina.vessels[inside] > 0.5, found[inside]) > 0.9
        assert found[~inside].max() == 0


def test_a_blank_picture_has_no_sure_vessels():
    photo = np.full((128, 128, 3), 120, np.uint8)
    found = vessel_coverage(photo, np.ones((128, 128), bool), 64.0)
    assert np.isfinite(found).all()


def test_arteries_differ_from_veins_and_doubt_is_kept(drawn_retinas):
    areas = []
    for retina in drawn_retinas:
        probability = artery_probability(
            retina.photo, retina.field_of_view, retina.vessels, retina.field_radius
        )
        one = (retina.arteries > 0.5) ^ (retina.veins > 0.5)
        areas.append(roc_auc_score(retina.arteries[one] > 0.5, probability[one]))
        assert probability.min() > 0.01
        assert probability.max() < 0.99
    assert np.mean(areas) > 0.65


def test_disc_and_fovea_are_found(drawn_retinas):
    for retina in drawn_retinas:
        vessels = vessel_coverage(retina.photo, retina.field_of_view, retina.field_radius)
        found = find_landmarks(retina.photo, retina.field_of_view, vessels)
        assert np.hypot(*np.subtract(found.disc, retina.disc_centre)) < 0.1 * retina.field_radius
        assert np.hypot(*np.subtract(found.fovea, retina.fovea_centre)) < 0.25 * retina.field_radius


def _photos(name):
    folder = Path(str(DATA)) / name
    for path in sorted((folder / "images").iterdir()):
        picture = Image.open(path).convert("RGB")
        scale = min(1.0, 600 / max(picture.size))
        size = (round(picture.width * scale), round(picture.height * scale))

        def mask(kind, path=path, size=size):
            file = next((folder / kind).glob(f"{path.stem}*"))
            return np.asarray(Image.open(file).convert("L").resize(size, Image.Resampling.BILINEAR)) > 127

        yield np.asarray(picture.resize(size, Image.Resampling.BICUBIC)), mask


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize(("name", "least"), [("rite_train", 0.92), ("pretrain/chase_db1", 0.93)])
def test_vessels_of_real_photographs(name, least):
    areas = []
    for photo, mask in _photos(name):
        field = mask("masks")
        found = vessel_coverage(photo, field, field.any(0).sum() / 2)
        areas.append(roc_auc_score(mask("vessels")[field], found[field]))
    assert np.mean(areas) >= least


@needs_data
@pytest.mark.slow
@pytest.mark.parametrize("name", ["rite_train", "les_av"])
def test_arteries_of_real_photographs(name):
    areas = []
    for photo, mask in _photos(name):
        field, artery, vein = mask("masks"), mask("arteries"), mask("veins")
        found = artery_probability(photo, field, (artery | vein).astype(np.float32), field.any(0).sum() / 2)
        one = (artery ^ vein) & field
        areas.append(roc_auc_score(artery[one], found[one]))
    assert np.mean(areas) > 0.78
