from __future__ import annotations

import dataclasses
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures import Transform, read_picture
from tests.pictures.drawn import fundus


def test_the_hash_is_the_one_that_stored_embeddings_carry():
    assert Transform().hash == "172ae989a24632cd"


def test_the_hash_changes_with_every_field_and_not_with_spelling():
    changes = {
        "size": 256,
        "crop": "frame",
        "margin": 0.05,
        "resample": "bicubic",
        "mean": (0.5, 0.5, 0.4),
        "std": (0.5, 0.5, 0.4),
        "mask_outside": False,
    }
    assert set(changes) == {field.name for field in dataclasses.fields(Transform)} - {"version"}
    hashes = {Transform(**{name: value}).hash for name, value in changes.items()}
    assert len(hashes | {Transform().hash}) == len(changes) + 1
    assert Transform(margin=0).hash == Transform(margin=0.0).hash
    assert Transform(mean=(0, 0, 0)).hash == Transform(mean=(0.0, 0.0, 0.0)).hash


def test_it_goes_through_json_and_refuses_what_it_does_not_know():
    transform = Transform(size=384, crop="frame", mean=(0.1, 0.2, 0.3))
    assert Transform.from_dict(json.loads(json.dumps(transform.as_dict()))) == transform
    with pytest.raises(ConfigError, match="colour"):
        Transform.from_dict({**transform.as_dict(), "colour": 1})


@pytest.mark.parametrize(
    "field",
    [
        {"size": 0},
        {"size": 3.5},
        {"size": True},
        {"size": "512"},
        {"crop": "centre"},
        {"margin": float("nan")},
        {"margin": -0.9},
        {"margin": "wide"},
        {"resample": "nearest"},
        {"mean": (0.5, 0.5)},
        {"mean": (0.5, 0.5, float("inf"))},
        {"std": (0.5, 0.0, 0.5)},
        {"std": (0.5, -1.0, 0.5)},
        {"version": 2},
    ],
    ids=str,
)
def test_senseless_fields_are_refused_by_name(field):
    with pytest.raises(ConfigError, match=next(iter(field))):
        Transform(**field)


def test_the_view_is_the_disc_and_black_around():
    view, geometry = Transform(size=256).view(fundus())
    mask = geometry.mask_in_view()
    assert view.shape == (256, 256, 3) and view.dtype == np.uint8
    assert geometry.circle and abs(geometry.radius - 216) < 3
    assert not view[~mask].any()
    assert (view[mask].max(axis=1) > 10).mean() > 0.99
    assert abs(mask.mean() - np.pi / 4 / 1.02**2) < 0.01


def test_black_is_exactly_minus_one_and_channels_come_first():
    transform = Transform(size=64)
    view = np.zeros((2, 64, 64, 3), np.uint8)
    view[0, 5, 6] = (255, 0, 51)
    scaled = transform.normalise(view)
    assert scaled.shape == (2, 3, 64, 64) and scaled.dtype == np.float32 and scaled.flags.c_contiguous
    assert (scaled[1] == -1).all()
    assert scaled[0, :2, 5, 6].tolist() == [1, -1] and scaled[0, 2, 5, 6] == pytest.approx(-0.6)
    other = Transform(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)).normalise(view[0])
    assert other[:, 5, 6] == pytest.approx([(1 - 0.485) / 0.229, -0.456 / 0.224, (0.2 - 0.406) / 0.225])


@pytest.mark.parametrize("radius", [216, 300])
def test_doubling_the_black_border_gives_nearly_the_same_view(radius):
    picture = fundus(radius=radius, noise=0, surround=0)
    padded = np.pad(picture, ((240, 240), (320, 320), (0, 0)))
    (view, one), (wider, two) = (Transform(size=256).view(photo) for photo in (picture, padded))
    assert abs(one.radius - two.radius) < 0.01 * radius
    assert np.abs(view.astype(int) - wider).mean() < 3
    assert np.corrcoef(view.ravel(), wider.ravel())[0, 1] > 0.99


def test_a_frame_without_a_circle_is_padded_to_a_square():
    picture = fundus(240, 400, radius=900)
    for transform in (Transform(size=128), Transform(size=128, crop="frame")):
        view, geometry = transform.view(picture)
        assert not geometry.circle and geometry.radius == 200
        mask = geometry.mask_in_view()
        assert abs(mask.mean() - 0.6 / 1.02**2) < 0.01 and not view[~mask].any() and view[mask].any()


def test_outside_can_be_kept():
    bright = fundus(surround=40)
    kept, geometry = Transform(size=128, mask_outside=False).view(bright)
    masked, _ = Transform(size=128).view(bright)
    assert kept[~geometry.mask_in_view()].mean() > 20
    assert np.array_equal(kept[geometry.mask_in_view()], masked[geometry.mask_in_view()])


def test_a_negative_margin_cuts_into_the_circle():
    view, geometry = Transform(size=128, margin=-0.3).view(fundus())
    assert geometry.mask_in_view().all() and view.any(axis=-1).all()


def test_the_resize_is_antialiased():
    stripes = np.zeros((1024, 1024, 3), np.uint8)
    stripes[::2] = 200
    view, _ = Transform(size=128, crop="frame", margin=0).view(stripes)
    assert view[4:-4].std() < 3 and abs(float(view[4:-4].mean()) - 100) < 3


def test_every_form_gives_the_same_view(tmp_path):
    picture = fundus(120, 160)
    file = tmp_path / "eye.png"
    Image.fromarray(picture).save(file)
    transform = Transform(size=64)
    views = [transform.view(photo) for photo in (file, file.read_bytes(), picture, read_picture(file))]
    assert all(np.array_equal(view, views[0][0]) and where == views[0][1] for view, where in views)


def test_the_callers_array_is_left_alone():
    picture = fundus(120, 160)
    before = picture.copy()
    Transform(size=64).view(picture)
    assert np.array_equal(picture, before)


def test_panoramas_are_no_bomb():
    strip = np.random.default_rng(0).integers(0, 255, (64, 30_000, 3), dtype=np.uint8)
    view, geometry = Transform(size=64).view(strip)
    assert view.shape == (64, 64, 3) and geometry.width == 30_000


def test_bad_photos_are_refused_as_when_reading():
    with pytest.raises(PictureError, match="NaN"):
        Transform().view(np.full((64, 64), np.nan))


def test_a_call_gives_the_tensor_an_encoder_takes_and_the_way_back(tmp_path: Path) -> None:
    photo = fundus(120, 160)
    transform = Transform(size=64)
    one, geometry = transform(photo, return_geometry=True)
    view, expected = transform.view(photo)
    assert geometry == expected and one.shape == (3, 64, 64)
    assert torch.equal(one, torch.from_numpy(transform.normalise(view)))
    Image.fromarray(photo).save(tmp_path / "a.png")
    many, places = transform([tmp_path / "a.png", Image.fromarray(photo)], return_geometry=True)
    assert torch.equal(many, torch.stack([one, one])) and places == [geometry, geometry]
    assert torch.equal(pickle.loads(pickle.dumps(transform))(photo), one)
    with pytest.raises(ConfigError, match="no photo"):
        transform([])
