"""A step in training may be fed with the generator's own last triple, or with a blurred one."""

from __future__ import annotations

from typing import NamedTuple

import torch
from crude_stream import CrudeStream

from retina_fm.network.memory import blurred_last
from retina_fm.network.unrolling import generate_frames
from retina_fm.training.pretraining.data.autoregression import other_last, own_last
from retina_fm.training.pretraining.presets import Curriculum


class Made(NamedTuple):
    frames: torch.Tensor


def photo(side=8):
    view = torch.zeros(2, 3, side, side)
    view[:, :, 0] = -1
    return view


def test_own_last_is_what_generation_feeds_into_each_step():
    seen = []

    def step(view, last):
        seen.append(None if last is None else last.clone())
        before = view if last is None else last
        offsets = torch.tensor([0.1, 0.05, -0.1]).view(1, 3, 1, 1)
        return Made(0.2 * view + 0.7 * before + offsets)

    view = photo().repeat(2, 1, 1, 1)
    view[1:] *= torch.tensor([0.9, 0.5, 0.3]).view(3, 1, 1, 1)
    view[:, :, 1:] += 0.1
    generate_frames(step, view)
    fed = list(seen)
    found = own_last(step, view, torch.tensor([4, 1, 9, 5]))
    for row, number in enumerate((4, 1, 9, 5)):
        assert torch.allclose(found[row], fed[number][row])
        assert not torch.allclose(found[row], fed[number - 1 or 2][row])


def test_a_blurred_triple_keeps_its_phase_and_loses_its_vessels():
    last = torch.full((1, 3, 40, 40), -0.5)
    last[:, :, :, 20] = 1.0
    inside = torch.ones(1, 1, 40, 40)
    inside[:, :, :4] = 0
    found = blurred_last(torch.where(inside > 0, last, -1.0), inside, 10)
    assert (found[:, :, :4] == -1).all()
    assert found[:, :, 4:].std() < 0.35 * last.std()
    assert abs(found[:, :, 4:].mean() - last.mean()) < 0.05
    flat = torch.where(inside > 0, -0.5, -1.0).expand(1, 3, -1, -1)
    assert torch.allclose(blurred_last(flat, inside, 10), flat, atol=1e-5), "nothing leaks in at the rim"


def test_step_0_keeps_its_photo_and_shares_are_as_asked():
    samples = CrudeStream(batch=200, side=32, eyes=2).batch_at(0)
    curriculum = Curriculum(blurred_last=0.5, own_frames=0.25, roll_out=9)

    def step(view, last):
        return Made(torch.zeros_like(view))

    def shares(started):
        found = other_last(samples, step, curriculum, started=started, seed=1).last
        first = samples.step == 0
        assert torch.equal(found[first], samples.last[first])
        own = (found.amax((1, 2, 3)) == 0) & ~first
        changed = (found != samples.last).flatten(1).any(1)
        return own.sum() / (~first).sum(), changed.sum() / (~first).sum()

    own, changed = shares(True)
    assert abs(own - 0.25) < 0.1
    assert abs(changed - 0.75) < 0.1
    own, changed = shares(False)
    assert own == 0
    assert abs(changed - 0.5) < 0.1
