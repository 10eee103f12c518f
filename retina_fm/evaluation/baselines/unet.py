"""A U-Net from scratch: what the few labelled pictures alone teach, without any pretraining."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from retina_fm._vision import import_vision
from retina_fm.learning import cosine, entropy_and_dice, seeded
from retina_fm.metrics.scores import best_threshold
from retina_fm.pictures import Transform


class ScratchUNet:
    """A ResNet-18 U-Net with random weights, trained on crops of a few views with Dice and cross-entropy.

    Args:
        steps: of training.
        crops: a step.
        side: of a crop.
        size: of the views that crops are taken from.
        rate: peak learning rate, warmed up and brought down along a cosine.
        seed: of weights, crops and their order.
        bfloat16: whether convolutions are trained in it; slow where a processor has to emulate it.

    Attributes:
        threshold_: probability from which a pixel is a vessel, chosen on the pictures trained on.
    """

    def __init__(
        self,
        *,
        steps: int = 400,
        crops: int = 4,
        side: int = 128,
        size: int = 512,
        rate: float = 2e-3,
        seed: int = 0,
        bfloat16: bool = False,
    ) -> None:
        self.steps, self.crops, self.side, self.rate, self.seed = steps, crops, side, rate, seed
        self.bfloat16 = bfloat16
        self.transform = Transform(size=size)
        self.threshold_ = 0.5

    def fit(self, photos: Sequence[Path], masks: Sequence[NDArray[np.bool_]]) -> ScratchUNet:
        """Train on photos and their masks ``(H, W)``."""
        examples = [_example(self.transform, path, mask) for path, mask in zip(photos, masks, strict=True)]
        with seeded(self.seed):
            self.module_ = _network()
        random = np.random.Generator(np.random.PCG64([self.seed, 5]))
        optimiser = torch.optim.AdamW(self.module_.parameters(), lr=self.rate, weight_decay=1e-4)
        warm = max(1, self.steps // 20)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser,
            lambda step: min((step + 1) / warm, cosine(min(step, self.steps) / self.steps)),
        )
        self.module_.train()
        for _ in range(self.steps):
            view, target, inside = _crops(examples, self.crops, self.side, random)
            with torch.autocast("cpu", torch.bfloat16, enabled=self.bfloat16):
                logits = self.module_(view)
            loss = entropy_and_dice(logits[:, 0].float(), target.float(), inside.float())
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
            schedule.step()
        self.module_.eval()
        found = [(self._in_view(view), target, inside) for view, target, inside in examples]
        self.threshold_ = best_threshold(found, THRESHOLDS)
        return self

    def predict_proba(self, path: Path) -> NDArray[np.float32]:
        """Probability of a vessel in the photo's own pixels, ``float32 (H, W)``, 0 outside."""
        view, geometry = self.transform.view(path)
        tensor = torch.from_numpy(self.transform.normalise(view))
        found = geometry.picture_of(self._in_view(tensor).numpy(), "bilinear").astype(np.float32)
        return np.asarray(np.where(geometry.mask_in_picture(), found, np.float32(0)))

    @torch.no_grad()
    def _in_view(self, view: Tensor) -> Tensor:
        return torch.sigmoid(self.module_(view[None])[0, 0])


THRESHOLDS = np.linspace(0.1, 0.9, 17)
"""Probabilities that are tried as the least of a vessel."""
_Example = tuple[Tensor, Tensor, Tensor]


def _network() -> Any:
    smp = import_vision("segmentation_models_pytorch")
    return smp.Unet("resnet18", encoder_weights=None, in_channels=3, classes=1)


def _example(transform: Transform, path: Path, mask: NDArray[np.bool_]) -> _Example:
    view, geometry = transform.view(path)
    target = geometry.view_of(mask.astype(np.float32), "area") > 0.5
    return (
        torch.from_numpy(transform.normalise(view)),
        torch.from_numpy(np.ascontiguousarray(target)),
        torch.from_numpy(geometry.mask_in_view()),
    )


def _crops(
    examples: Sequence[_Example], count: int, side: int, random: np.random.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Crops with a vessel in them, flipped, turned, brighter or darker."""
    views: list[Tensor] = []
    targets: list[Tensor] = []
    insides: list[Tensor] = []
    while len(views) < count:
        view, target, inside = examples[int(random.integers(len(examples)))]
        y, x = (int(v) for v in random.integers(0, view.shape[-1] - side + 1, 2))
        part = (slice(y, y + side), slice(x, x + side))
        if not target[part].any():
            continue
        turns, flip = int(random.integers(4)), bool(random.integers(2))
        gain, shift = float(random.uniform(0.8, 1.2)), float(random.uniform(-0.1, 0.1))

        def turned(value: Tensor, turns: int = turns, flip: bool = flip) -> Tensor:
            value = torch.rot90(value, turns, (-2, -1))
            return value.flip(-1) if flip else value

        field = turned(inside[part])
        views.append(torch.where(field, turned(view[:, part[0], part[1]]) * gain + shift, -1.0).clamp(-1, 1))
        targets.append(turned(target[part]))
        insides.append(field)
    return torch.stack(views), torch.stack(targets), torch.stack(insides)
