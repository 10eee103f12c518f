"""Encoders trained along with a head: which part of them, and the loop for pooled features."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from retina_fm._io.progress import progress_bar
from retina_fm.adapters.examples.views import recoloured, scaled
from retina_fm.adapters.heads.mlp_training import Protocol, descend
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.learning import seeded
from retina_fm.network import Encoder
from retina_fm.network.layers import TRUNK_LAYERS

_ENCODER_SHARE = 0.1
_TOGETHER = 4
"""Views that go through the encoder at once; a step adds up the gradients of its batch."""


def tunable_copy(encoder: Any, tune: str) -> tuple[Any, list[nn.Parameter]]:
    """A float32 copy of an encoder and the parameters of it that are trained.

    Args:
        encoder: stays as it is.
        tune: ``last`` for the residual blocks (the last block or stage of other models), ``all``.

    Raises:
        ConfigError: the last blocks of this model are not known.
    """
    tuned = copy.deepcopy(encoder).float().requires_grad_(False)
    parts = [tuned] if tune == "all" else _last_parts(tuned)
    parameters = [p for part in parts for p in part.parameters()]
    for parameter in parameters:
        parameter.requires_grad_(True)
    return tuned, parameters


def changed_tensors(encoder: Any) -> dict[str, np.ndarray]:
    """The tensors of a tuned encoder that may differ from what it was copied from."""
    return {name: p.detach().cpu().numpy() for name, p in encoder.named_parameters() if p.requires_grad}


def with_tensors(encoder: Any, arrays: dict[str, np.ndarray]) -> Any:
    """The encoder as it was tuned: a float32 copy with these tensors in place of its own."""
    tuned = copy.deepcopy(encoder).float().requires_grad_(False)
    own = dict(tuned.named_parameters())
    with torch.no_grad():
        for name, value in arrays.items():
            if name not in own or own[name].shape != value.shape:
                raise WeightsError(f"The adapter tuned a tensor {name!r:.80} that its encoder does not have.")
            own[name].copy_(torch.from_numpy(value)).requires_grad_(True)
    return tuned.eval()


def finetune(
    encoder: Any,
    parameters: list[nn.Parameter],
    module: nn.Module,
    views: Sequence[np.ndarray],
    others: Tensor,
    loss: Callable[[Tensor, Tensor], Tensor],
    score: Callable[[], float] | None,
    protocol: Protocol,
    *,
    seed: int,
    progress: bool | None,
) -> None:
    """Train a head and its encoder together, in place, starting from a head fitted on frozen features.

    Fitting the head first keeps its random start from tearing the features apart (Kumar et al., ICLR 2022).

    Args:
        encoder: a tunable copy.
        parameters: of the encoder that are trained, at a tenth of the head's rate.
        module: the head's module.
        views: ``uint8 (S, S, 3)`` of the photos.
        others: embeddings ``(N, R)`` of further, frozen encoders to put beside; R may be 0.
        loss: of logits and rows.
        score: of encoder and head as they are, higher is better; the best state is kept, the first included.
        protocol: schedule and batch.
        seed: of order, augmentation and dropout.
        progress: a bar; None shows it on a terminal.
    """
    device = next(encoder.parameters()).device
    module.to(device)
    random = np.random.Generator(np.random.PCG64([seed, 4]))
    each = max(1, -(-len(views) // protocol.batch_size))
    order = np.arange(len(views))

    def backward(step: int) -> None:
        nonlocal order
        if step % each == 0:
            order = random.permutation(len(views))
        rows = order[(step % each) * protocol.batch_size :][: protocol.batch_size]
        for start in range(0, len(rows), _TOGETHER):
            few = torch.from_numpy(rows[start : start + _TOGETHER])
            pixels = torch.stack([_turned(views[row], random) for row in few.tolist()])
            pooled = encoder.embed(scaled(pixels, encoder.transform).to(device))
            logits = module(torch.cat([pooled, others[few].to(device)], dim=1)).cpu()
            (loss(logits, few) * len(few) / len(rows)).backward()  # type: ignore[no-untyped-call]

    groups = [
        {"params": list(module.parameters()), "share": 1.0},
        {"params": parameters, "share": _ENCODER_SHARE},
    ]
    steps = each, protocol.epochs * each
    with seeded(seed), progress_bar(progress, steps[1], "fine-tune", unit="step") as bar:
        descend(
            module, groups, protocol, steps, backward, score,
            beside=(encoder,), from_start=True, clip=5.0, progress=bar,
        )  # fmt: skip
    module.cpu()


def _turned(view: np.ndarray, random: np.random.Generator) -> Tensor:
    """A view flipped, turned by right angles and recoloured; what is outside stays black."""
    pixels = torch.from_numpy(view).permute(2, 0, 1).float() / 255
    outside = (pixels == 0).all(0, keepdim=True)
    pixels = recoloured(pixels, random).masked_fill(outside, 0.0)
    pixels = torch.rot90(pixels, int(random.integers(4)), (1, 2))
    return pixels.flip(2) if random.random() < 0.5 else pixels


def _last_parts(encoder: Any) -> list[nn.Module]:
    if isinstance(encoder, Encoder):
        return list(encoder.model.children())[TRUNK_LAYERS:]
    backbone = encoder.backbone
    for name in ("blocks", "stages", "layer4"):
        found = getattr(backbone, name, None)
        if isinstance(found, nn.Module):
            last = found if name == "layer4" else list(found.children())[-1]
            norm = getattr(backbone, "norm", None)
            return [last, norm] if isinstance(norm, nn.Module) else [last]
    raise ConfigError(f"{encoder.name}: its last block is not known; use tune='all' or tune='head'.")
