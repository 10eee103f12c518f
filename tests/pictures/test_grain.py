"""A camera's grain depends on a seed and a place alone, and is as strong as it says."""

from __future__ import annotations

import pytest
import torch

from retina_fm.pictures.grain import angiograph_noise, gaussian_noise


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
