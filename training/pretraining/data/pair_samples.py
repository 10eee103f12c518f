"""Training samples from paired videos on disk: views, common field of view, synchronous augmentation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.pictures.grain import gaussian_noise
from retina_fm.training.pairs.opening import PairView, load_pair, open_pair
from retina_fm.training.pairs.table import PairSequence
from retina_fm.training.pretraining.data.samples import Samples, draw_steps, needed_frames, view_samples
from retina_fm.training.pretraining.data.streams import Stream, StreamSettings
from retina_fm.training.simulator.rendering.camera import degrade_photo
from retina_fm.training.simulator.rendering.eye_batch import Window
from retina_fm.training.simulator.rendering.parameters import draw_parameters


def augment_pairs(
    photo: Tensor,
    frames: Tensor,
    field: Tensor,
    generator: torch.Generator,
    *,
    crop: int | None = None,
    augment: bool = True,
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops, turns, flips and scales photo and frames alike; colour for the photo, gain and noise for frames.

    Args:
        photo: float32 (B, 3, S, S) in [0, 1].
        frames: float32 (B, K, S, S) in [0, 1].
        field: float32 (B, 1, S, S), 0 or 1.
        generator: on the CPU.
        crop: side of the window; the whole view when None.
        augment: False keeps all as it is, and takes the middle of the view where a crop is asked for.

    Returns:
        photo (B, 3, H, W) in [-1, 1] with -1 outside, frames (B, K, H, W) in [0, 1], field (B, 1, H, W).
    """
    batch, _, size, _ = photo.shape
    side = crop or size
    p = draw_parameters(generator, batch, size=size, crop=crop, painting=0.0, augment=augment).to(
        photo.device
    )
    reach = side / p["frame_size"] if augment else torch.full((batch,), side / size, device=photo.device)
    flip = 1.0 - 2.0 * p["flip"].float()
    cos, sin = torch.cos(p["angle"]) * reach, torch.sin(p["angle"]) * reach
    linear = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1)
    theta = torch.cat([linear, p["centre"].unsqueeze(2)], 2)
    together = torch.cat([photo, frames, field], 1)
    if augment or side != size:
        grid = F.affine_grid(theta, [batch, 1, side, side], align_corners=False)
        together = F.grid_sample(together, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    photo, frames = together[:, :3], together[:, 3:-1]
    field = (together[:, -1:] > 0.5).float()
    if augment:
        window = Window({"field_of_view": field}, photo, None, p["frame_size"], theta)
        photo = degrade_photo(photo, window, p)
        gain = torch.exp(0.5 * torch.log(p["gain"][:, :1])).clamp(0.7, 1.4).view(-1, 1, 1, 1)
        noise = torch.cat(
            [gaussian_noise(p["noise_seed"] + 31 * k, side, side) for k in range(frames.shape[1])], 1
        )
        frames = (frames * gain + 0.3 * p["noise"].view(-1, 1, 1, 1) * noise).clamp(0, 1)
    return torch.where(field > 0, photo * 2 - 1, -1.0), frames * field, field


class PairSamples(Stream):
    """An endless stream of samples from paired videos, which know of no lesions.

    Args:
        sequences: from ``read_pairs``.
        size: side of the view.
        crop: side of the window; the whole view when None.
        batch: samples a batch.
        seed: of the stream.
        steps: which steps to draw from; all ten when None.
        augment: False gives photos and frames as they are.
        device: where the samples go.
    """

    __slots__ = ("_opened", "augment", "sequences", "size")
    counted = "sequences"

    def __init__(
        self,
        sequences: Sequence[PairSequence],
        *,
        size: int = 512,
        crop: int | None = 256,
        batch: int = 8,
        seed: int = 0,
        steps: Sequence[int] | None = None,
        augment: bool = True,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            batch=batch, seed=seed, steps=steps, device=device, settings=StreamSettings(crop=crop)
        )
        if not sequences:
            raise ConfigError("There are no sequences to draw samples from. Check pairs.csv and the split.")
        self.sequences, self.size, self.augment = list(sequences), size, augment
        self._opened: dict[int, PairView] = {}  # 32 kB a sequence of 512 pixels

    @property
    def count(self) -> int:
        """How many sequences there are."""
        return len(self.sequences)

    def names(self) -> Iterable[str]:
        """File names of photos and frames."""
        return (path.name for s in self.sequences for path in (s.photo, *(f.path for f in s.frames)))

    def _load(self, number: int, frames: list[int]) -> tuple[NDArray[Any], ...]:
        sequence = self.sequences[number]
        if number not in self._opened:
            self._opened[number] = open_pair(sequence, self.size)
        return load_pair(sequence, self.size, frames, self._opened[number])

    def batch_at(self, index: int) -> Samples:
        """Batch number ``index``, whatever came before."""
        numbers, generator = self.order(index)
        step = draw_steps(generator, self.batch, self.steps)
        needed = needed_frames(step).tolist()
        loaded = [self._load(n, needed[i]) for i, n in enumerate(numbers)]
        photo, frames, field = (torch.from_numpy(np.stack([item[k] for item in loaded])) for k in range(3))
        view, grey, inside = augment_pairs(
            photo.permute(0, 3, 1, 2).float().div(255).to(self.device),
            frames.float().div(255).to(self.device),
            field.float().unsqueeze(1).to(self.device),
            generator,
            crop=self.settings.crop,
            augment=self.augment,
        )
        return view_samples(view, grey, inside, step.to(self.device))
