"""What one angiography camera makes of a mean frame: always the same, as far as asked, near that mean."""

from __future__ import annotations

import pytest
import torch

from retina_fm.pictures.angiograph import NOISE, as_taken, draw_angiograph, draw_light, vignette
from retina_fm.pictures.draws import Draws
from retina_fm.vocabulary import FRAMES_A_VIDEO


def _flat(grey: float = 0.4) -> torch.Tensor:
    return torch.full((FRAMES_A_VIDEO, 128, 128), grey)


def _quarters(frame: torch.Tensor) -> torch.Tensor:
    return frame.view(2, 64, 2, 64).mean((1, 3)).flatten()


def test_a_camera_is_its_seeds_and_takes_as_far_as_asked() -> None:
    whole = as_taken(_flat(), 7)
    assert torch.equal(whole, as_taken(_flat(), 7)) and not torch.equal(whole, as_taken(_flat(), 8))
    assert torch.equal(as_taken(_flat(), 7, 0.0), _flat())
    half = as_taken(_flat(), 7, 0.5)
    shares = [(taken - 0.4).abs().mean().item() for taken in (half, whole)]
    assert 0.3 * shares[1] < shares[0] < 0.7 * shares[1]


def test_one_sequence_has_one_light_and_each_frame_its_own_grain() -> None:
    taken = as_taken(_flat(), 11)
    light = torch.stack([_quarters(frame) / frame.mean() for frame in taken])
    assert light.std(0).max() < 0.1 * light.std(1).min()  # uneven, and evenly so
    fine = taken[:, 1:, 1:] - taken[:, :-1, :-1]
    assert torch.corrcoef(fine.flatten(1)).fill_diagonal_(0).abs().max() < 0.1


def test_cameras_differ_about_the_mean_of_all() -> None:
    taken = torch.stack([as_taken(_flat(), seed)[5] for seed in range(80)])
    means = taken.mean((1, 2))
    assert means.mean().item() == pytest.approx(0.4, abs=0.05) and means.std() > 0.03
    uneven = torch.stack([_quarters(frame).std() / frame.mean() for frame in taken])
    assert uneven.median() > 0.06  # real frames: 0.06 to 0.37
    smooth = torch.nn.functional.avg_pool2d(taken[:, None], 9, 1, 4)[:, 0]
    grain = (taken - smooth)[:, 9:-9, 9:-9].std((1, 2))
    assert NOISE[0] / 2 < grain.min() and grain.max() < 2 * NOISE[1]
    assert grain.max() > 2 * grain.min()


def test_what_rounds_beyond_black_and_white_stays_a_grey() -> None:
    ends = torch.tensor([-1e-6, 1.0]).repeat_interleave(64 * 64).view(2, 64, 64)
    taken = as_taken(ends, 3)
    assert torch.isfinite(taken).all() and taken.min() >= 0 and taken.max() <= 1


def test_light_falls_off_from_where_the_camera_points() -> None:
    shade = vignette(
        torch.zeros(1, 1, 65, 65), torch.tensor([0.8]), torch.tensor([[-0.5, 0.25]]), torch.zeros(1, 1, 6, 6)
    )[0, 0]
    row, column = divmod(int(shade.argmax()), 65)
    assert (row, column) == (16, 40) and shade.max() == pytest.approx(1.0, abs=1e-3)
    assert shade.min() == pytest.approx(1 - 0.4 * 1.6, abs=1e-3)  # and no further


def test_a_batch_is_drawn_as_one_source_says() -> None:
    drawn = [Draws(torch.Generator().manual_seed(4), 3) for _ in range(2)]
    one, two = (draw_angiograph(draw) | {"light": draw_light(draw)} for draw in drawn)
    assert all(torch.equal(one[name], two[name]) for name in one)
    assert one["exposure"].shape == (3, FRAMES_A_VIDEO) and one["light"].shape == (3, 1, 6, 6)
    assert {len(value) for value in one.values()} == {3}
