from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import retina_fm
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models import fit_whitening, fit_within_persons, read_whitening, resolve, save_whitening


def stretched(count: int, seed: int = 0) -> np.ndarray:
    scales = np.array([10.0, 3.0, 1.0, 0.5])
    return (np.random.default_rng(seed).standard_normal((count, 4)) * scales + 7).astype(np.float32)


def own_first(points: np.ndarray) -> float:
    """Share of pictures whose nearest is the other one of the same pair."""
    points = points / np.linalg.norm(points, axis=1, keepdims=True)
    nearest = (points @ points.T - 9 * np.eye(len(points))).argmax(1)
    return float((nearest // 2 == np.arange(len(points)) // 2).mean())


def test_whitened_directions_vary_alike() -> None:
    whitened = fit_whitening(stretched(5000)).apply(stretched(5000, 1))
    covariance = np.cov(whitened.T)
    assert np.allclose(whitened.mean(0), 0, atol=0.05 * np.sqrt(covariance[0, 0]))
    assert np.allclose(covariance / covariance[0, 0], np.eye(4), atol=0.1)


def test_few_pictures_of_many_dimensions_leave_unseen_directions_alone() -> None:
    seen = np.random.default_rng(0).standard_normal((6, 50)).astype(np.float32)
    whitening = fit_whitening(seen)
    assert whitening.directions.shape == (5, 50) and (whitening.gains < 1).all()
    assert np.isfinite(whitening.apply(seen)).all()


def test_what_differs_within_persons_is_taken_away_and_what_tells_them_apart_stays() -> None:
    random = np.random.default_rng(0)
    own = np.repeat(random.standard_normal((200, 40)), 2, axis=0)
    loud = np.where(np.arange(40) < 4, 9.0, 0.3)
    seen = (own + random.standard_normal((400, 40)) * loud + 7).astype(np.float32)
    whitened = fit_within_persons(seen, [row // 2 for row in range(400)]).apply(seen)
    assert own_first(whitened) > 0.9
    assert own_first(seen - seen.mean(0)) < 0.5


def test_whitening_within_persons_asks_for_two_pictures_of_one() -> None:
    for rows, persons in ((stretched(3), "abc"), (stretched(3), "ab"), (np.ones((2, 4), np.float32), "aa")):
        with pytest.raises(ConfigError):
            fit_within_persons(rows, persons)


def test_it_ships_beside_the_weights_and_leaves_their_hash_alone(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    shutil.copytree(resolve("fundus2video-tiny"), folder)
    before = retina_fm.load(str(folder)).weights_sha256
    whitening = fit_whitening(np.random.default_rng(1).standard_normal((9, 64)).astype(np.float32))
    save_whitening(folder, whitening)
    loaded = retina_fm.load(str(folder))
    assert loaded.weights_sha256 == before and loaded.whitening is not None
    for key in ("mean", "directions", "gains"):
        assert np.array_equal(getattr(loaded.whitening, key), getattr(whitening, key))
    data = bytearray((folder / "whitening.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "whitening.safetensors").write_bytes(data)
    with pytest.raises(WeightsError, match="fetch the folder again"):
        read_whitening(folder)


def test_what_cannot_be_fitted_or_applied_is_refused() -> None:
    for bad in (np.ones((5, 3)), np.ones((1, 3)), np.full((4, 3), np.nan)):
        with pytest.raises(ConfigError):
            fit_whitening(bad.astype(np.float32))
    with pytest.raises(ConfigError, match="another model"):
        fit_whitening(stretched(10)).apply(np.ones((2, 5), np.float32))
