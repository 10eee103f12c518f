"""Videos, three frames at a time: overlapping triples, averaged, each step fed with the last.

Step 0 turns the photo into frames 0 to 2; step t turns the photo and frames t - 1 to t + 1 into frames t to
t + 2. A frame is the mean of its up to three predictions (the paper, Methods: triple-frame averaging).
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from retina_fm.network import Generator
from retina_fm.network.masks import OUTSIDE, field_of_view

FRAMES_A_VIDEO = 12
STEPS_A_VIDEO = FRAMES_A_VIDEO - 2


def predictions(frame: int, step: int) -> int:
    """How many predictions of a frame there are once steps 0 to ``step`` are done."""
    return min(step, frame) - max(0, frame - 2) + 1


@torch.no_grad()
def unroll(generator: Generator, photo: Tensor, steps: int = STEPS_A_VIDEO) -> Iterator[tuple[int, Tensor]]:
    """Run a video step by step.

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


def generate_frames(generator: Generator, photo: Tensor, steps: int = STEPS_A_VIDEO) -> Tensor:
    """The frames of a video ``(N, steps + 2, H, W)`` in [-1, 1]; all twelve by default."""
    frames: list[Tensor] = []
    for step, triple in unroll(generator, photo, steps):
        frames[step:] = triple.unbind(1)
    return torch.stack(frames, 1)


def own_last(generator: Generator, photo: Tensor, step: Tensor) -> Tensor:
    """What a generator would itself feed into each sample's step: scheduled sampling.

    A network that only ever saw true triples lets its artefacts grow from step to step. The triple is
    generated from the photo alone, as in use, at the price of ``step`` passes without gradient.

    Source: Bengio et al., "Scheduled Sampling for Sequence Prediction" (NeurIPS 2015).

    Args:
        generator: the one in training.
        photo: ``(B, 3, H, W)``.
        step: int64 ``(B,)`` on any device, each at least 1.

    Returns:
        ``(B, 3, H, W)``, the last triple of each.
    """
    wanted = step.tolist()
    rows = torch.tensor(sorted(range(len(wanted)), key=lambda row: -wanted[row]), device=photo.device)
    lengths = sorted(wanted, reverse=True)
    found = torch.empty_like(photo[:, :3])
    # Rows that need equally many steps run together; deeper ones pass through the same steps.
    for number, triple in unroll(generator, photo[rows], lengths[0]):
        done = [place for place, length in enumerate(lengths) if length == number + 1]
        found[rows[done]] = triple[done]
    return found
