"""Videos are the mean of overlapping triples, each step fed with the last."""

from __future__ import annotations

from typing import NamedTuple

import torch

from retina_fm.network.unrolling import generate_frames, predictions


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
