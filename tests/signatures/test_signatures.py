"""Signatures of drawn eyes: one eye is found again in whatever form, another is not."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from drawn_eyes import angiogram, eye, view_of
from PIL import Image, ImageOps

from retina_fm.errors import ConfigError, WeightsError
from retina_fm.signatures import (
    SignatureBasis,
    default_basis,
    fit_basis,
    inverted,
    read_patterns,
    signatures_of,
)
from retina_fm.signatures.fitting import best_cosines
from retina_fm.signatures.spectrum import harmonics
from retina_fm.signatures.vessel_maps import SIDE, map_vessels, with_network

EYES = 6


@pytest.fixture(scope="module")
def eyes() -> list[Image.Image]:
    return [eye(seed) for seed in range(EYES)]


@pytest.fixture(scope="module")
def signatures(eyes: list[Image.Image]) -> np.ndarray:
    return signed(eyes)


def signed(photos: list[Image.Image]) -> np.ndarray:
    return signatures_of(np.stack([view_of(photo) for photo in photos]), default_basis())


def test_a_signature_has_length_one_and_its_own_eye_nearest(signatures: np.ndarray) -> None:
    assert signatures.shape == (EYES, default_basis().length) and signatures.dtype == np.float32
    assert np.allclose(np.linalg.norm(signatures, axis=1), 1, atol=1e-5)
    others = signatures @ signatures.T - np.eye(EYES)
    assert others.max() < 0.7


@pytest.mark.parametrize("way", ["turned", "zoomed", "angiogram"])
def test_an_eye_is_found_again(eyes: list[Image.Image], signatures: np.ndarray, way: str) -> None:
    changed = {
        "turned": lambda photo: photo.rotate(20, Image.Resampling.BICUBIC),
        "zoomed": lambda photo: zoomed(photo, 0.8),
        "angiogram": angiogram,
    }[way]
    found = best_cosines(default_basis(), signed([changed(photo) for photo in eyes]), signatures)
    assert (found.argmax(axis=1) == np.arange(EYES)).all()


def zoomed(photo: Image.Image, share: float) -> Image.Image:
    """Less of the retina in the same aperture."""
    side, cut = photo.width, round(photo.width * (1 - share) / 2)
    picture = np.array(
        photo.crop((cut, cut, side - cut, side - cut)).resize(photo.size, Image.Resampling.BICUBIC)
    )
    picture[~np.array(photo).any(axis=2)] = 0
    return Image.fromarray(picture)


def test_a_mirror_image_is_found_on_request_alone(eyes: list[Image.Image], signatures: np.ndarray) -> None:
    basis, mirrored = default_basis(), signed([ImageOps.mirror(photo) for photo in eyes])
    own = best_cosines(basis, mirrored, signatures, mirrored=True).diagonal()
    assert own.min() > 0.8
    assert best_cosines(basis, mirrored, signatures).diagonal().max() < own.min()


def test_a_turn_of_a_stored_signature_is_the_signature_of_a_turned_picture(eyes: list[Image.Image]) -> None:
    basis, angle = default_basis(), 22.5
    spectra = read_patterns(
        np.stack([view_of(eyes[0]), view_of(eyes[0].rotate(angle, Image.Resampling.BICUBIC))])
    )
    plain, turned = basis.project(spectra.spectra)
    variants = basis.variants(plain[None])[0]
    assert float(plain @ turned) < 0.5 < 0.85 < float((variants @ turned).max())
    assert np.allclose(variants[0], plain, atol=1e-5)


def test_dark_or_bright_is_decided_picture_by_picture(eyes: list[Image.Image]) -> None:
    photo, dyed = view_of(eyes[1]), view_of(angiogram(eyes[1]))
    red_free = view_of(Image.fromarray(np.repeat(np.array(eyes[1])[:, :, 1:2], 3, axis=2)))
    assert [map_vessels(view).bright for view in (photo, red_free, dyed)] == [False, False, True]
    assert np.array_equal(inverted(inverted(dyed)), np.where(dyed == 255, 0, dyed))


def test_no_retina_has_no_signature() -> None:
    haze = np.zeros((256, 256, 3), np.uint8)
    rows, columns = np.mgrid[:256, :256] - 127.5
    inside = np.hypot(rows, columns) < 125
    noise = np.random.default_rng(0).normal(0, 2, (256, 256, 1))
    haze[inside] = np.clip(np.array([150, 120, 90]) + noise, 1, 255)[inside]
    strict = replace(default_basis(), gate=np.array([5.0], np.float32))
    assert not signatures_of(np.stack([haze, np.zeros_like(haze)]), strict).any()


def test_a_shift_changes_nothing() -> None:
    vessels, field = np.zeros((SIDE, SIDE), np.float32), np.ones((SIDE, SIDE), bool)
    vessels[90:150, 100:104] = vessels[100:104, 90:150] = 1
    one, other = harmonics(vessels, field), harmonics(np.roll(vessels, (13, -9), (0, 1)), field)
    assert float(np.vdot(one, other).real) > 0.999
    assert not harmonics(np.zeros_like(vessels), field).any()


def test_a_network_map_leaves_what_both_see(eyes: list[Image.Image]) -> None:
    seen = map_vessels(view_of(eyes[2]))
    assert np.array_equal(with_network(seen, np.zeros((SIDE, SIDE))).vessels, np.zeros((SIDE, SIDE)))
    assert np.allclose(with_network(seen, seen.vessels).vessels, seen.vessels, atol=1e-6)


def test_false_accepts_fall_as_cosines_rise() -> None:
    basis = default_basis()
    for turned in (False, True):
        rates = [basis.false_accept(cosine, turned=turned) for cosine in (-0.2, 0.2, 0.4, 0.6, 0.99)]
        assert (
            rates == sorted(rates, reverse=True)
            and rates[0] == 1
            and rates[-1] == pytest.approx(1e-6, rel=1e-3)
        )
        assert basis.false_accept(basis.threshold(1e-4, turned=turned), turned=turned) == pytest.approx(
            1e-4, rel=0.01
        )


def test_a_basis_is_fitted_and_survives_its_file(eyes: list[Image.Image]) -> None:
    found = read_patterns(np.stack([view_of(photo) for photo in eyes]))
    basis = fit_basis(found.spectra, found.strength, np.arange(EYES), gate=0.0, directions=16)
    for harmonic in np.unique(basis.harmonic):
        profiles = basis.profile[basis.harmonic == harmonic]
        assert np.allclose(profiles @ profiles.T, np.eye(len(profiles)), atol=1e-5)
    again = SignatureBasis.from_bytes(basis.to_bytes(), "basis")
    assert again.hash == basis.hash != default_basis().hash
    with pytest.raises(WeightsError, match="no basis"):
        SignatureBasis.from_bytes(b"something else", "x")
    with pytest.raises(ConfigError, match="different eyes"):
        fit_basis(found.spectra, found.strength, [0] * EYES, gate=0.0)
