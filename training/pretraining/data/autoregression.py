"""What is fed into a step instead of the true last triple: the generator's own, or a blurred one."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor

from retina_fm.network.memory import blurred_last
from retina_fm.network.unrolling import Step, unroll
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.pretraining.presets import Curriculum

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
