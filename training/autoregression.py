"""Scheduled sampling: what a generator would itself feed into a step, against errors that grow in a video."""

from __future__ import annotations

import torch
from torch import Tensor

from retina_fm.generation import Step, unroll


def own_last(generator: Step, photo: Tensor, step: Tensor) -> Tensor:
    """The generator's own last triple for each sample's step.

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
    lengths = step.tolist()
    found = torch.empty_like(photo)
    # All rows go on together to the deepest; a row's triple is taken when its steps are done.
    for number, triple in unroll(generator, photo, max(lengths)):
        done = [row for row, length in enumerate(lengths) if length == number + 1]
        found[done] = triple[done]
    return found
