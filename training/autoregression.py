"""What is fed into a step instead of the true last triple: the generator's own, or a blurred one."""

from __future__ import annotations

import torch
import torch.nn.functional as F
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


def blurred_last(last: Tensor, inside: Tensor, reach: int) -> Tensor:
    """Last triples without anything finer than ``reach`` pixels: the phase shows, vessels do not.

    Args:
        last: ``(B, 3, H, W)`` in [-1, 1], -1 outside the field of view.
        inside: field of view ``(B, 1, H, W)``, 0 or 1.
        reach: side of the squares whose means are taken, in pixels.
    """
    size = (last.shape[-2], last.shape[-1])
    grey, weight = (F.avg_pool2d(x, reach, ceil_mode=True) for x in (last * inside, inside))
    smooth = F.interpolate(grey / weight.clamp_min(1e-3), size, mode="bilinear", align_corners=False)
    return torch.where(inside > 0.5, smooth.clamp(-1, 1), -1.0)
