"""What is fed into a step instead of the true last triple: the generator's own, or a blurred one."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.generation import Step, unroll
from retina_fm.training.presets import Curriculum
from retina_fm.training.samples import Samples

_LIKE = 3  # steps within which rows go on together
_REACHES = (6, 10, 16)  # pixels over which last triples are blurred


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
    height, width = last.shape[-2:]
    padding = (0, -width % reach, 0, -height % reach)

    def spread(values: Tensor) -> Tensor:
        means = F.avg_pool2d(F.pad(values, padding), reach)
        wide = F.interpolate(means, scale_factor=float(reach), mode="bilinear", align_corners=False)
        return wide[..., :height, :width]

    # Both are spread before they are divided: what lies outside must not leak in at the rim.
    grey, weight = spread(last * inside), spread(inside)
    return torch.where(inside > 0.5, (grey / weight.clamp_min(1e-6)).clamp(-1, 1), -1.0)


def other_last(
    samples: Samples, generator: Step, curriculum: Curriculum, *, started: bool, seed: int
) -> Samples:
    """Replace some samples' true last triple by the generator's own or by a blurred one.

    Step 0 has no last triple and stays as it is.

    Args:
        samples: a batch.
        generator: the one in training.
        curriculum: how many of each.
        started: whether own triples are fed back yet.
        seed: of the choice.
    """
    random = torch.Generator().manual_seed(seed)
    step = samples.step.cpu()
    choice = torch.rand(len(step), generator=random)
    reach = _REACHES[int(torch.randint(0, len(_REACHES), (1,), generator=random))]
    own = (choice < (curriculum.own_frames if started else 0.0)) & (step >= 1) & (step <= curriculum.roll_out)
    blurred = (choice >= 1 - curriculum.blurred_last) & (step >= 1) & ~own
    last = samples.last.clone()
    if bool(blurred.any()):
        rows = torch.nonzero(blurred)[:, 0].to(last.device)
        last[rows] = blurred_last(last[rows], samples.field_of_view[rows], reach)
    if bool(own.any()):
        chosen = torch.nonzero(own)[:, 0]
        rows = chosen.to(last.device)
        last[rows] = own_last(generator, samples.photo[rows], step[chosen])
    return dataclasses.replace(samples, last=last)
