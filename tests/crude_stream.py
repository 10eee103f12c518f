"""A stream of small samples that needs neither simulator nor disk: tests of the loop stand on it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.training.pretraining.data.samples import (
    MASK_THRESHOLD,
    Samples,
    _assemble,
    draw_steps,
)
from retina_fm.training.pretraining.data.streams import seed_of
from retina_fm.vocabulary import FRAMES_A_VIDEO, LESION_TYPES


def sample_steps(
    frames: Tensor,
    photo: Tensor,
    generator: torch.Generator,
    *,
    field_of_view: Tensor | None = None,
    lesions: Tensor | None = None,
    lesion_known: Tensor | None = None,
    steps: Sequence[int] | None = None,
) -> Samples:
    """Cuts one sample out of each whole sequence.

    Step 0 predicts frames 0 to 2 from the photo, given twice; step t predicts t to t + 2 from the three
    frames t - 1 to t + 1.
    """
    step = draw_steps(generator, len(frames), steps).to(frames.device)
    field = (photo > -1).any(1, keepdim=True).float() if field_of_view is None else field_of_view
    mask = ((frames[:, :1] - frames[:, -1:]).abs() > MASK_THRESHOLD).float() * field
    rows = torch.arange(len(frames), device=frames.device).unsqueeze(1)
    triple = torch.arange(3, device=frames.device)
    last = frames[rows, (step.unsqueeze(1) - 1 + triple).clamp(min=0)]
    target = frames[rows, step.unsqueeze(1) + triple]
    return _assemble(photo, last, target, step, field, mask, lesions, lesion_known)


def crude_sequence(number: int, side: int):
    """Photo (3, H, W), frames (12, H, W) in [0, 1] and lesions of one crude eye: dark lines that light up."""
    random = torch.Generator().manual_seed(seed_of(9, number))
    y, x = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(-1, 1, side), indexing="ij")
    inside = (x**2 + y**2 < 0.95).float()
    vessels = torch.zeros(side, side)
    for _ in range(5):
        a, b, c, d = (torch.rand(4, generator=random) * 2 - 1).tolist()
        distance = (x * torch.cos(torch.tensor(3 * a)) + y * torch.sin(torch.tensor(3 * a)) + 0.6 * b).abs()
        vessels = torch.maximum(vessels, torch.exp(-(((distance + 0.1 * c * d * x) / 0.05) ** 2)))
    lesions = torch.zeros(len(LESION_TYPES), side, side)
    for kind in (0, 1, 2):
        row, column = (torch.rand(2, generator=random) * side * 0.5 + side * 0.25).long().tolist()
        lesions[kind, row : row + 4, column : column + 4] = 1
    photo = torch.stack([0.7 - 0.2 * vessels, 0.45 - 0.3 * vessels, 0.25 - 0.1 * vessels])
    photo = (photo + 0.3 * lesions[2] - 0.2 * lesions[1]).clamp(0, 1)
    time = torch.linspace(0, 1, FRAMES_A_VIDEO).view(-1, 1, 1)
    frames = (
        0.1 + 0.8 * vessels * (1 - (time - 0.4).abs() * 1.2) + 0.5 * time * lesions[0] - 0.08 * lesions[1]
    )
    return photo * inside, frames.clamp(0, 1) * inside, lesions * inside, inside


class CrudeStream:
    """Batches of crude eyes; batch n depends on the seed and n alone.

    Args:
        batch: samples a batch.
        side: of the pictures.
        eyes: how many different ones there are.
        broken: number of a batch whose photo holds NaN, if any.
    """

    def __init__(self, batch=2, side=64, eyes=8, seed=0, broken=None, with_lesions=True):
        self.batch, self.side, self.seed, self.broken, self.index = batch, side, seed, broken, 0
        self.with_lesions = with_lesions
        self.eyes = [crude_sequence(number, side) for number in range(eyes)]

    def batch_at(self, index) -> Samples:
        random = torch.Generator().manual_seed(seed_of(self.seed, 5, index))
        rows = torch.randint(0, len(self.eyes), (self.batch,), generator=random).tolist()
        photo, frames, lesions, inside = (torch.stack([self.eyes[row][k] for row in rows]) for k in range(4))
        photo = torch.where(inside[:, None] > 0, photo * 2 - 1, -1.0)
        if index == self.broken:
            photo = photo * torch.nan
        return sample_steps(
            frames,
            photo,
            random,
            field_of_view=inside[:, None],
            lesions=lesions if self.with_lesions else None,
            lesion_known=torch.ones(self.batch, dtype=torch.bool) if self.with_lesions else None,
        )

    def state_dict(self):
        return {"seed": self.seed, "index": self.index, "batch": self.batch}

    def load_state_dict(self, state):
        if state["batch"] != self.batch:
            raise ConfigError("another batch")
        self.seed, self.index = state["seed"], state["index"]
