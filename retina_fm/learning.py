"""What everything that is trained here shares: schedule, average of the weights, overlap, seeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor

_EPS = 1e-6


def cosine(share: float) -> float:
    """Half a cosine: 1 where the share of a run that is done is 0, 0 where it is 1."""
    return (1 + math.cos(math.pi * share)) / 2


@torch.no_grad()
def follow(average: Mapping[str, Tensor], state: Mapping[str, Tensor], decay: float, step: int) -> None:
    """Move the average of the weights towards the weights; early steps weigh more, or it would lag.

    Args:
        average: changed in place; what is no number with a point is copied.
        state: of the same names.
        decay: share of the average that stays, once there have been many steps.
        step: done before this one.
    """
    share = 1 - min(decay, (1 + step) / (10 + step))
    floats = [name for name, value in average.items() if value.is_floating_point()]
    torch._foreach_lerp_(
        [average[name] for name in floats], [state[name].to(average[name].dtype) for name in floats], share
    )
    for name in average.keys() - set(floats):
        average[name].copy_(state[name])


def soft_dice(found: Tensor, wanted: Tensor, axes: tuple[int, ...] | None = None) -> Tensor:
    """Dice of probabilities and coverage, both 0 where nothing counts; over ``axes``, or over all."""
    sums = found.sum(axes) + wanted.sum(axes)
    return 2 * (found * wanted).sum(axes) / sums.clamp_min(_EPS)


def entropy_and_dice(logits: Tensor, wanted: Tensor, inside: Tensor) -> Tensor:
    """Mean cross-entropy inside plus one minus Dice.

    Args:
        logits: of any shape.
        wanted: coverage in [0, 1], same shape.
        inside: 0 or 1, same shape.
    """
    entropy = F.binary_cross_entropy_with_logits(logits, wanted, reduction="none")
    dice = soft_dice(logits.sigmoid() * inside, wanted * inside)
    return (entropy * inside).sum() / inside.sum().clamp_min(1) + 1 - dice


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Torch's generators seeded inside, as they were afterwards."""
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        torch.manual_seed(seed)
        yield
