from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch
from PIL import Image

from retina_fm.errors import ConfigError
from retina_fm.pictures import Geometry
from retina_fm.pictures.geometry import crop_and_resize
from tests.pictures.drawn import disc, overlap


def random_geometries(number=60, seed=0):
    random = np.random.default_rng(seed)
    for _ in range(number):
        height, width = (int(n) for n in random.integers(40, 500, 2))
        yield Geometry(
            height,
            width,
            float(random.uniform(0.2, 0.8) * height),
            float(random.uniform(0.2, 0.8) * width),
            float(random.uniform(30, 400)),
            int(random.integers(32, 300)),
            margin=float(random.uniform(-0.3, 0.3)),
            circle=bool(random.integers(2)),
        )


def test_points_go_to_the_picture_and_back_exactly():
    random = np.random.default_rng(1)
    for geometry in random_geometries():
        points = random.uniform(-50, 600, (7, 5, 2))
        there = geometry.to_picture(points)
        back = np.linalg.inv(geometry.matrix())
        homogeneous = np.concatenate([points, np.ones((7, 5, 1))], axis=-1)
        assert np.allclose((homogeneous @ geometry.matrix().T)[..., :2], there, atol=1e-9)
        assert np.abs(there @ back[:2, :2].T + back[:2, 2] - points).max() < 1e-9


def test_the_views_corners_lie_on_the_crops_corners():
    for geometry in random_geometries():
        half = geometry.radius * (1 + geometry.margin)
        corners = geometry.to_picture(np.array([[0, 0], [geometry.size, geometry.size]]))
        middle = np.array([geometry.centre_y, geometry.centre_x])
        assert np.allclose(corners, [middle - half, middle + half])


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.int64], ids=str)
def test_maps_of_a_network_go_back_without_a_detour_through_numpy(dtype):
    geometry = Geometry(100, 120, 50, 60, 32, 64, margin=0)
    maps = torch.arange(2 * 64 * 64).reshape(2, 64, 64).remainder(200).to(dtype)
    if dtype.is_floating_point:
        maps.requires_grad_()
    back = geometry.picture_of(maps)
    assert np.array_equal(back[:, 18:82, 28:92], maps.detach().float().numpy())
    assert (back.dtype == np.int64) == (dtype == torch.int64)
    with pytest.raises(ValueError, match=r"maps\[0\]"):
        geometry.picture_of(maps[None])


def test_at_scale_one_everything_is_an_exact_crop():
    random = np.random.default_rng(2)
    array = random.integers(0, 255, (100, 120, 3)).astype(np.uint8)
    geometry = Geometry(100, 120, 50, 60, 32, 64, margin=0)
    crop = array[18:82, 28:92]
    for order in ("nearest", "bilinear", "area"):
        assert np.array_equal(geometry.view_of(array, order), crop)
    for order in ("nearest", "bilinear"):
        back = geometry.picture_of(crop, order, fill=9)
        assert np.array_equal(back[18:82, 28:92], crop)
        back[18:82, 28:92] = 9
        assert (back == 9).all()
    resized = crop_and_resize(Image.fromarray(array), geometry, "bilinear")
    assert np.array_equal(np.asarray(resized), crop)


@pytest.mark.parametrize("size", [256, 512])
def test_a_mask_survives_the_way_to_the_view_and_back(size):
    mask = disc(700, 900, (380, 500), 90)
    geometry = Geometry(700, 900, 350, 450, 330, size)
    back = geometry.picture_of(geometry.view_of(mask))
    assert back.dtype == bool and overlap(back, mask) > 0.97
    soft = geometry.picture_of(geometry.view_of(mask.astype(np.float32), "area"), "bilinear") > 0.5
    assert overlap(soft, mask) > 0.985


def test_nearest_keeps_labels_and_dtype():
    labels = np.random.default_rng(3).integers(0, 5, (90, 110)).astype(np.int16) * 7
    geometry = Geometry(90, 110, 40, 60, 70, 75)
    for mapped in (geometry.view_of(labels), geometry.picture_of(geometry.view_of(labels))):
        assert mapped.dtype == np.int16 and set(np.unique(mapped)) <= {0, 7, 14, 21, 28}


def test_a_video_and_maps_with_channels_go_back_to_the_picture():
    random = np.random.default_rng(4)
    geometry = Geometry(90, 110, 45, 55, 44, 64)
    video = random.random((12, 64, 64)).astype(np.float32)
    back = geometry.picture_of(video, "bilinear")
    assert back.shape == (12, 90, 110) and back.dtype == np.float32
    for frame, mapped in zip(video, back, strict=True):
        assert np.array_equal(geometry.picture_of(frame, "bilinear"), mapped)
    channels = geometry.picture_of(np.moveaxis(video, 0, -1), "bilinear")
    assert np.array_equal(np.moveaxis(channels, -1, 0), back)


def test_a_linear_ramp_stays_linear_at_any_resolution():
    geometry = Geometry(300, 400, 150, 200, 140, 128)
    for size in (32, 64, 128, 256):
        centres = (np.arange(size) + 0.5) / size * 128
        ramp = np.repeat(geometry.to_picture(np.stack([centres, centres], 1))[:, :1], size, axis=1)
        back = geometry.picture_of(ramp, "bilinear", fill=np.nan)
        expected = np.repeat((np.arange(300) + 0.5)[:, None], 400, axis=1)
        inside = np.isfinite(back)
        edge = 0.5 * geometry.side / size + 1  # the outer half pixels are held, not extrapolated
        near = np.abs(expected - 150) < geometry.side / 2 - edge
        assert (inside & near).sum() > 40_000
        assert np.abs(back - expected)[inside & near].max() < 1e-3


def test_area_keeps_the_mean_where_nearest_loses_it():
    stripes = np.zeros((512, 512), np.float32)
    stripes[::8] = 1
    geometry = Geometry(512, 512, 256, 256, 256, 64, margin=0, circle=False)
    assert np.abs(geometry.view_of(stripes, "area")[2:-2] - 1 / 8).max() < 0.01
    assert geometry.view_of(stripes, "nearest").mean() in (0, 1)


def test_the_masks_of_view_and_picture_are_the_same_place():
    for geometry in random_geometries(30, seed=5):
        y, x = np.mgrid[: geometry.size, : geometry.size] + 0.5
        at = geometry.to_picture(np.stack([y, x], -1))
        inside = (at >= 0).all(-1) & (at[..., 0] < geometry.height) & (at[..., 1] < geometry.width)
        if geometry.circle:
            inside &= (
                np.hypot(at[..., 0] - geometry.centre_y, at[..., 1] - geometry.centre_x) <= geometry.radius
            )
        assert np.array_equal(geometry.mask_in_view(), inside)
        assert geometry.mask_in_picture().shape == (geometry.height, geometry.width)
        assert geometry.circle or geometry.mask_in_picture().all()


def test_what_lies_beyond_the_frame_is_zero():
    geometry = Geometry(60, 200, 30, 100, 100, 100, margin=0, circle=False)
    for order in ("nearest", "bilinear"):
        view = geometry.view_of(np.ones((60, 200), np.float32), order)
        assert (view[35:65] == 1).all() and not view[:35].any() and not view[65:].any()
    view = geometry.view_of(np.ones((60, 200), np.float32), "area")
    assert (view[37:63] == 1).all() and not view[:33].any() and not view[67:].any()


def test_a_panorama_needs_no_square_of_its_longer_side():
    panorama = np.random.default_rng(6).integers(0, 255, (40, 60_000), dtype=np.uint8)
    geometry = Geometry(40, 60_000, 20, 30_000, 30_000, 64, circle=False)  # a padded square: 3.7 GB
    assert crop_and_resize(Image.fromarray(panorama), geometry, "bilinear").size == (64, 64)


def test_arrays_of_another_size_are_refused():
    geometry = Geometry(60, 80, 30, 40, 30, 64)
    with pytest.raises(ValueError, match="80"):
        geometry.view_of(np.zeros((80, 60)))
    with pytest.raises(ValueError, match="square"):
        geometry.picture_of(np.zeros((64, 63)))


def test_it_goes_through_json():
    for geometry in random_geometries(5):
        assert Geometry.from_dict(json.loads(json.dumps(geometry.as_dict()))) == geometry
    with pytest.raises(ConfigError, match="colour"):
        Geometry.from_dict({**geometry.as_dict(), "colour": 1})
    with pytest.raises(ConfigError, match="height"):
        Geometry.from_dict({"width": 3})
    with pytest.raises(dataclasses.FrozenInstanceError):
        geometry.size = 3
