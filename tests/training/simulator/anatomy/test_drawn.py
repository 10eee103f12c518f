"""Drawn retinas are repeatable, anatomically plausible and say the truth about their pixels."""

from __future__ import annotations

import hashlib
import subprocess
import sys

import numpy as np
import pytest
from scipy import ndimage

from retina_fm.errors import ConfigError
from retina_fm.training import draw_patient, draw_retina
from retina_fm.training.simulator.anatomy.vessel_trees import murray_angles


@pytest.fixture(scope="module")
def retina():
    return draw_retina(7, 256, eye="right", lesions={"haemorrhage": 8, "hard_exudate": 20})


def test_same_seed_gives_same_bytes_in_another_process(retina):
    code = (
        "import hashlib; from retina_fm.training import draw_retina;"
        "r = draw_retina(7, 256, eye='right', lesions={'haemorrhage': 8, 'hard_exudate': 20});"
        "print(hashlib.sha256(r.photo.tobytes() + r.arteries.tobytes()).hexdigest())"
    )
    there = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    ).stdout.strip()
    assert there == hashlib.sha256(retina.photo.tobytes() + retina.arteries.tobytes()).hexdigest()


def test_another_seed_gives_another_eye(retina):
    assert (draw_retina(8, 256, eye="right").photo != retina.photo).mean() > 0.3


def test_shapes_and_types_are_as_promised(retina):
    assert retina.photo.shape == (256, 256, 3)
    assert retina.photo.dtype == np.uint8
    assert retina.field_of_view.dtype == np.bool_
    for map_ in (retina.arteries, retina.veins, retina.disc, *retina.lesions.values()):
        assert map_.shape == (256, 256)
        assert map_.dtype == np.float32
        assert map_.min() >= 0
        assert map_.max() <= 1


def test_veins_are_darker_than_arteries_and_both_darker_than_background():
    differences = []
    for seed in range(6):
        r = draw_retina(seed, 384, lesions={})
        green = r.photo[..., 1].astype(float)
        inside = r.field_of_view & (r.disc < 0.01)
        artery = green[inside & (r.arteries > 0.9) & (r.veins < 0.01)].mean()
        vein = green[inside & (r.veins > 0.9) & (r.arteries < 0.01)].mean()
        background = green[inside & (r.vessels < 0.01)].mean()
        assert vein < background
        assert artery < background
        differences.append(artery - vein)
    assert np.mean(differences) > 3


def test_disc_is_nasal_and_fovea_is_dark():
    for seed in range(6):
        right = draw_retina(seed, 256, eye="right", lesions={})
        left = draw_retina(seed, 256, eye="left", lesions={})
        assert right.disc_centre[1] > right.fovea_centre[1]
        assert left.disc_centre[1] < left.fovea_centre[1]
        y, x = (int(v) for v in right.fovea_centre)
        green = right.photo[..., 1].astype(float)
        ring = green[y - 40 : y + 41, x - 40 : x + 41]
        assert np.median(green[y - 4 : y + 5, x - 4 : x + 5]) < np.median(ring)


def test_disc_is_brighter_than_its_surroundings():
    for seed in range(6):
        r = draw_retina(seed, 256, lesions={})
        green = r.photo[..., 1].astype(float)
        near = r.field_of_view & (
            np.hypot(*(np.mgrid[:256, :256] - np.array(r.disc_centre)[:, None, None])) < 40
        )
        clear = r.vessels < 0.05
        assert (
            green[near & clear & (r.disc > 0.9)].mean() > 1.2 * green[near & clear & (r.disc < 0.05)].mean()
        )


def test_haemorrhages_are_dark_and_exudates_bright(retina):
    green = retina.photo[..., 1].astype(float)
    plain = green[retina.field_of_view & (retina.vessels < 0.01) & (retina.disc < 0.01)].mean()
    assert green[retina.lesions["haemorrhage"] > 0.9].mean() < 0.8 * plain
    assert green[retina.lesions["hard_exudate"] > 0.9].mean() > 1.1 * plain


def test_healthy_eyes_have_no_lesions():
    assert all(not m.any() for m in draw_retina(3, 128, lesions={}).lesions.values())


def test_fellow_eyes_share_traits_and_mirror_the_plan():
    right, left = draw_patient(11, 256, lesions={})
    assert (right.eye, left.eye) == ("right", "left")
    assert right.pigmentation == left.pigmentation
    assert right.disc_centre[1] > right.fovea_centre[1]
    assert left.disc_centre[1] < left.fovea_centre[1]
    assert (right.photo != left.photo).any()


def test_fellow_eyes_are_closer_in_colour_than_strangers():
    people = [draw_patient(seed, 128, lesions={}) for seed in range(10)]
    colour = np.array([[eye.photo[eye.field_of_view].mean(0) for eye in pair] for pair in people])
    fellows = np.linalg.norm(colour[:, 0] - colour[:, 1], axis=1).mean()
    strangers = np.linalg.norm(colour[:, 0] - np.roll(colour[:, 1], 1, axis=0), axis=1).mean()
    assert fellows < strangers


def test_pigmentation_darkens():
    light, dark = (draw_retina(5, 128, pigmentation=p, lesions={}) for p in (0.0, 1.0))
    assert light.photo[light.field_of_view].mean() > 1.3 * dark.photo[dark.field_of_view].mean()


def test_outside_the_field_of_view_is_black():
    r = draw_retina(2, 256)
    outside = ~ndimage.binary_dilation(r.field_of_view, iterations=4)
    assert r.photo[outside].max() <= 40
    assert r.photo[outside].mean() < 8


def test_murray_angles_of_equal_daughters_are_equal_and_of_a_twig_steep():
    parent = 2.0 ** (1 / 3)
    first, second = murray_angles(parent, 1.0, 1.0)
    assert first == pytest.approx(second)
    assert np.degrees(first + second) == pytest.approx(74.9, abs=0.5)  # Murray's own figure
    twig = 0.2
    trunk_angle, twig_angle = murray_angles((1 + twig**3) ** (1 / 3), 1.0, twig)
    assert twig_angle > 5 * trunk_angle


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [({"lesions": {"haemorhage": 3}}, "haemorrhage"), ({"eye": "middle"}, "right"), ({"size": 16}, "64")],
)
def test_wrong_arguments_are_named(arguments, hint):
    with pytest.raises(ConfigError, match=hint):
        draw_retina(0, **arguments)


def test_importing_training_and_drawing_loads_no_torch():
    code = (
        "import sys; from retina_fm.training import draw_retina;"
        "draw_retina(0, 64); print('torch' in sys.modules)"
    )
    there = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert there.stdout.strip() == "False"


def test_every_public_name_can_be_loaded():
    import retina_fm.training as training

    for name in training.__all__:
        assert getattr(training, name) is not None
    with pytest.raises(AttributeError, match="drawn_retina"):
        training.drawn_retina  # noqa: B018
