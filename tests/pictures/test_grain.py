"""A camera's grain depends on a seed and a place alone, and is as strong as it says."""

from __future__ import annotations

import pytest
import torch

from retina_fm.pictures.grain import NOISE, angiograph_noise, gaussian_noise, with_grain


def test_noise_is_standard_normal_and_seeded() -> None:
    noise = gaussian_noise(torch.tensor([1, 2]), 200, 200)
    assert noise.mean().abs() < 0.02
    assert noise.std().item() == pytest.approx(1.0, abs=0.02)
    assert torch.corrcoef(noise.flatten(1))[0, 1].abs() < 0.02
    assert torch.equal(noise[:1], gaussian_noise(torch.tensor([1]), 200, 200))
    row = noise[0, 0]
    assert torch.corrcoef(torch.stack([row[:, 1:].flatten(), row[:, :-1].flatten()]))[0, 1].abs() < 0.02


def test_bright_places_have_more_noise_and_neighbours_share_it() -> None:
    grey = torch.tensor([0.04, 0.64]).view(2, 1, 1, 1).expand(2, 1, 200, 200)
    same = torch.tensor([5, 5])
    noise = angiograph_noise(grey, torch.full((2, 1, 1, 1), 0.02), same, torch.tensor([3, 3]))
    for spread, light in zip(noise.std((1, 2, 3)).tolist(), (0.2, 0.8), strict=True):
        assert spread == pytest.approx(0.02 * (1.1 * light + 0.5), rel=0.05)
    side = torch.corrcoef(torch.stack([noise[0, 0, :, 1:].flatten(), noise[0, 0, :, :-1].flatten()]))[0, 1]
    assert side.item() == pytest.approx(0.5, abs=0.03)


def test_frames_of_a_sequence_get_grain_of_their_own_about_the_mean_they_had() -> None:
    frames = torch.full((12, 200, 200), 0.4)
    grained = with_grain(frames, 7)
    assert torch.equal(grained, with_grain(frames, 7))
    assert not torch.equal(grained, with_grain(frames, 8))
    assert grained.mean((1, 2)).sub(0.4).abs().max() < 0.002
    assert torch.corrcoef((grained - 0.4).flatten(1)).fill_diagonal_(0).abs().max() < 0.05
    assert torch.equal(with_grain(frames, 7, 0.0), frames)
    assert torch.isfinite(with_grain(frames - 0.4 - 1e-6, 7)).all()
    ends = torch.tensor([0.0, 1.0]).repeat_interleave(100 * 100).view(2, 100, 100)
    assert with_grain(ends, 7, 4.0).min() >= 0 and with_grain(ends, 7, 4.0).max() <= 1


def test_angiographs_differ_within_what_real_ones_are() -> None:
    frames = torch.full((1, 64, 64), 0.25)
    spreads = torch.stack([with_grain(frames, seed).std() for seed in range(60)])
    least, most = (1.3 * (1.1 * 0.5 + 0.5) * end for end in NOISE)
    assert spreads.max() < 1.05 * most and spreads.min() > 0.5 * least  # focus takes up to half
    assert spreads.max() > 2 * spreads.min()
    twice = torch.stack([with_grain(frames, seed, 2.0).std() for seed in range(60)])
    assert torch.allclose(twice, 2 * spreads, rtol=0.05)
