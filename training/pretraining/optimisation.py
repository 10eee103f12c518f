"""Optimisers, the learning rate's schedule, and the moving average of the weights."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm.learning import cosine
from retina_fm.network import Generator
from retina_fm.network.encoder import LesionHeads
from retina_fm.training.pretraining.presets import Optimiser, Preset
from retina_fm.vocabulary import FRAMES_A_PASS

_LOWEST = 0.02  # of the highest rate, at the end of a cosine
_RARE = -3.0  # first logit of a lesion: most pixels have none
VESSEL_LOGIT = -2.0  # first logit of a vessel: an eighth of the field of view


def rate_factor(settings: Optimiser, step: int, progress: float) -> float:
    """Factor on the learning rates.

    Args:
        settings: of the run.
        step: done so far.
        progress: share of the schedule that is done, 0 to 1.
    """
    warm = min(1.0, (step + 1) / settings.warm_up) if settings.warm_up else 1.0
    progress = min(max(progress, 0.0), 1.0)
    if settings.schedule == "cosine":
        return warm * (_LOWEST + (1 - _LOWEST) * cosine(progress))
    return warm * min(1.0, 2 * (1 - progress))  # constant, then linear to 0, as in pix2pixHD


def make_optimiser(settings: Optimiser, module: nn.Module, rate: float) -> torch.optim.Optimizer:
    """AdamW or Adam over a module; only kernels decay."""
    trained = [p for p in module.parameters() if p.requires_grad]
    if settings.kind == "adam":
        return torch.optim.Adam(trained, lr=rate, betas=settings.betas, fused=True)
    groups = [
        {"params": [p for p in trained if p.ndim > 1], "weight_decay": settings.weight_decay},
        {"params": [p for p in trained if p.ndim <= 1], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(groups, lr=rate, betas=settings.betas, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Give every group the same learning rate."""
    for group in optimiser.param_groups:
        group["lr"] = rate


def clip_gradient(module: nn.Module, limit: float) -> Tensor:
    """The norm of a module's gradient, which is scaled down to ``limit`` where it is larger (0: never)."""
    parameters = [p for p in module.parameters() if p.grad is not None]
    return torch.nn.utils.clip_grad_norm_(parameters, limit if limit > 0 else float("inf"))


@torch.no_grad()
def initialise_modules(modules: Iterable[nn.Module], preset: Preset, seed: int) -> None:
    """Random weights from a seed, the same on every machine.

    Kaiming-uniform (ours), or N(0, 0.02) as pix2pixHD has it; biases 0.
    """
    stream = np.random.Generator(np.random.PCG64(seed))
    for module in modules:
        for part in module.modules():
            if not isinstance(part, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
                continue
            shape = tuple(part.weight.shape)
            if preset.initialisation == "normal":
                values = stream.standard_normal(shape, dtype=np.float32) * np.float32(0.02)
            else:
                fan_in = (
                    part.weight.shape[0] if isinstance(part, nn.ConvTranspose2d) else part.weight.shape[1]
                )
                fan_in *= part.weight[0, 0].numel() if part.weight.ndim > 2 else 1
                bound = np.float32(math.sqrt(6.0 / fan_in))
                values = (stream.random(shape, dtype=np.float32) * 2 - 1) * bound
            part.weight.copy_(torch.from_numpy(values))
            if part.bias is not None:
                part.bias.zero_()
        if isinstance(module, Generator):
            if module.lesion_heads is not None:
                _expect_few_lesions(module, module.lesion_heads)
            if module.architecture.vessels:
                at = FRAMES_A_PASS + len(module.architecture.lesions)
                _begin_at(module, slice(at, at + 1), VESSEL_LOGIT)
            if module.architecture.anatomy:
                _begin_at(module, slice(-len(module.architecture.anatomy), None), _RARE)
            if module.coarse is not None:
                _expect_little(module, module.coarse)


def _begin_at(generator: Generator, channels: slice, logit: float) -> None:
    last = generator.model[-1]
    assert isinstance(last, nn.Conv2d) and last.bias is not None
    last.bias[channels] = logit
    last.weight[channels] *= 0.1


def _expect_few_lesions(generator: Generator, heads: LesionHeads) -> None:
    _begin_at(generator, slice(FRAMES_A_PASS, FRAMES_A_PASS + len(generator.architecture.lesions)), _RARE)
    for head in (heads.stride4, heads.stride8):
        assert head.bias is not None
        head.bias.fill_(_RARE)
        head.weight.mul_(0.1)


def _expect_little(generator: Generator, coarse: nn.Conv2d) -> None:
    assert coarse.bias is not None
    coarse.weight.mul_(0.1)
    coarse.bias.fill_(_RARE)
    if generator.architecture.vessels:
        coarse.bias[len(generator.architecture.lesions)] = VESSEL_LOGIT
