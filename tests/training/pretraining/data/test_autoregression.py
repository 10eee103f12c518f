"""Videos are the mean of overlapping triples, each step fed with the last."""

from __future__ import annotations

from typing import NamedTuple

import torch
from crude_stream import CrudeStream

from retina_fm.models.generation import generate_frames, predictions
from retina_fm.network.memory import blurred_last
from retina_fm.training.pretraining.data.autoregression import other_last, own_last
from retina_fm.training.pretraining.presets import Curriculum


class Made(NamedTuple):
    frames: torch.Tensor


class Counter:
    """Stands in for a generator: each call gives its number as the value of its first frame, and so on."""

    def __init__(self):
        self.seen = []

    def __call__(self, photo, last):
        self.seen.append(None if last is None else last.clone())
        step = len(self.seen) - 1
        values = torch.tensor([step, step + 0.5, step + 0.25]).view(1, 3, 1, 1) / 20
        return Made(values.expand(photo.shape[0], 3, *photo.shape[2:]).clone())


def photo(side=8):
    view = torch.zeros(2, 3, side, side)
    view[:, :, 0] = -1
    return view


def test_a_frame_is_the_mean_of_its_up_to_three_predictions():
    frames = generate_frames(Counter(), photo())
    assert frames.shape == (2, 12, 8, 8)
    for frame in range(12):
        made = [(step + (0, 0.5, 0.25)[frame - step]) / 20 for step in range(10) if step <= frame <= step + 2]
        assert len(made) == predictions(frame, 9)
        assert torch.allclose(frames[:, frame, 1:], torch.tensor(sum(made) / len(made)))


def test_frames_are_black_outside_the_field_of_view():
    assert (generate_frames(Counter(), photo())[:, :, 0] == -1).all()


def test_the_first_step_has_no_last_triple_and_later_ones_the_means_so_far():
    counter = Counter()
    generate_frames(counter, photo(), 3)
    assert counter.seen[0] is None
    second = counter.seen[2][0, :, 1, 0] * 20  # frames 1 to 3 after steps 0 and 1
    assert torch.allclose(second, torch.tensor([(0.5 + 1) / 2, (0.25 + 1.5) / 2, 1.25]))


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
