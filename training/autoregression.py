"""Scheduled sampling: what a generator would itself feed into a step, against errors that grow in a video."""

from __future__ import annotations

import torch
from torch import Tensor

from retina_fm.generation import Step, unroll

_LIKE = 3


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
    # Rows of like depth go on together to the deepest of them: a third of the passes of all together.
    for depth in sorted({length // _LIKE for length in lengths}):
        rows = [row for row, length in enumerate(lengths) if length // _LIKE == depth]
        for number, triple in unroll(generator, photo[rows], max(lengths[row] for row in rows)):
            done = [place for place, row in enumerate(rows) if lengths[row] == number + 1]
            found[[rows[place] for place in done]] = triple[done]
    return found
