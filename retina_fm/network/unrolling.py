"""A video, step by step: each pass of the generator is fed with the frames of the last."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from retina_fm.network.generator import Generated, Generator
from retina_fm.network.masks import OUTSIDE, field_of_view

FRAMES_A_VIDEO = 12
STEPS_A_VIDEO = FRAMES_A_VIDEO - 2
Step = Callable[[Tensor, Tensor | None], Generated]
"""A generator, or its forward pass: photo and last triple to the next one."""


def predictions(frame: int, step: int) -> int:
    """How many predictions of a frame there are once steps 0 to ``step`` are done."""
    return min(step, frame) - max(0, frame - 2) + 1


@torch.no_grad()
def unroll(generator: Step, photo: Tensor, steps: int = STEPS_A_VIDEO) -> Iterator[tuple[int, Tensor]]:
    """Run a video step by step, each step fed with the last.

    Step 0 turns the photo into frames 0 to 2; step t turns the photo and frames t - 1 to t + 1 into frames
    t to t + 2. A frame is the mean of its up to three predictions (the paper, Methods: triple-frame
    averaging).

    Args:
        generator: in evaluation mode or not; it has no dropout.
        photo: ``(N, 3, H, W)`` in [-1, 1], -1 outside the field of view.
        steps: how many.

    Yields:
        The step t and frames t to t + 2 so far ``(N, 3, H, W)``: means of the predictions of each, -1
        outside the field of view.
    """
    inside = field_of_view(photo)[:, None]
    total = photo.new_zeros(photo.shape[0], steps + 2, *photo.shape[2:])
    last: Tensor | None = None
    for step in range(steps):
        triple = generator(photo, last).frames.to(photo.dtype)
        total[:, step : step + 3] += torch.where(inside, triple, OUTSIDE)
        counts = [predictions(frame, step) for frame in range(step, step + 3)]
        last = total[:, step : step + 3] / total.new_tensor(counts).view(1, 3, 1, 1)
        yield step, last


def step_in(generator: Generator, dtype: torch.dtype) -> Step:
    """A generator that computes in ``dtype`` and is fed with float32, so that means of frames stay exact."""
    narrow = generator.to(dtype)

    def step(photo: Tensor, last: Tensor | None) -> Generated:
        made: Generated = narrow(photo.to(dtype), None if last is None else last.to(dtype))
        return made

    return step


def generate_frames(generator: Step, photo: Tensor, steps: int = STEPS_A_VIDEO) -> Tensor:
    """The frames of a video ``(N, steps + 2, H, W)`` in [-1, 1]; all twelve by default."""
    frames: list[Tensor] = []
    for step, triple in unroll(generator, photo, steps):
        frames[step:] = triple.unbind(1)
    return torch.stack(frames, 1)
