"""From a generator to another that computes the same: of twice the width, or with a vessel map beside it."""

from __future__ import annotations

import dataclasses

import torch
from torch import Tensor, nn

from retina_fm.errors import ConfigError
from retina_fm.network import Architecture, Generator
from retina_fm.training.optimisation import VESSEL_LOGIT

_UNEVEN = 0.25  # shares of the two copies of an input lie between this and one minus this


def starting_state(source: Generator, wanted: Architecture, *, seed: int = 0) -> dict[str, Tensor]:
    """Weights of ``source`` for a generator of the wanted architecture.

    It is widened where the wanted one is twice as wide, and given a vessel map that knows nothing yet where
    the wanted one has a map.

    Raises:
        ConfigError: the two differ in more than that.
    """
    if wanted.vessels and not source.architecture.vessels:
        source = with_vessels(source)
    have = source.architecture
    # What is fitted or fixed and not trained may differ.
    like = dataclasses.replace(have, embedding=wanted.embedding, spacing=wanted.spacing)
    if like == wanted:
        return source.state_dict()
    if dataclasses.replace(like, width=2 * have.width) == wanted:
        return widened(source, seed=seed).state_dict()
    raise ConfigError(
        f"These weights are of {have}, the run is of {wanted}. Start from weights of the same architecture, "
        "or from half its width."
    )


@torch.no_grad()
def with_vessels(source: Generator) -> Generator:
    """A generator with the same output and a vessel map beside it that is the same everywhere.

    Args:
        source: without a vessel map; stays as it is.
    """
    state = source.state_dict()
    last = len(source.model) - 1
    weight, bias = state[f"model.{last}.weight"], state[f"model.{last}.bias"]
    state[f"model.{last}.weight"] = torch.cat([weight, torch.zeros_like(weight[:1])])
    state[f"model.{last}.bias"] = torch.cat([bias, bias.new_tensor([VESSEL_LOGIT])])
    found = Generator(dataclasses.replace(source.architecture, vessels=True))
    found.load_state_dict(state)
    return found


@torch.no_grad()
def widened(source: Generator, *, seed: int = 0) -> Generator:
    """A generator of twice the width with the same output.

    Every channel is there twice, and what reads a channel divides its weight between the two copies. The
    shares are uneven and random, so that the copies get different gradients and part ways.

    Source: Chen, Goodfellow and Shlens, "Net2Net" (ICLR 2016).

    Args:
        source: stays as it is.
        seed: of the shares.
    """
    random = torch.Generator().manual_seed(seed)
    wide = Generator(dataclasses.replace(source.architecture, width=2 * source.architecture.width))
    narrow = dict(source.named_modules())
    for name, module in wide.named_modules():
        if not isinstance(module, nn.Conv2d | nn.ConvTranspose2d):
            continue
        old = narrow[name]
        assert isinstance(old, nn.Conv2d | nn.ConvTranspose2d) and module.weight is not None
        outputs, inputs = (1, 0) if isinstance(module, nn.ConvTranspose2d) else (0, 1)
        weight = old.weight.detach()
        if module.weight.shape[outputs] == 2 * weight.shape[outputs]:
            weight = torch.cat([weight, weight], outputs)
        if module.weight.shape[inputs] == 2 * weight.shape[inputs]:
            share = torch.rand(*weight.shape[:2], 1, 1, generator=random) * (1 - 2 * _UNEVEN) + _UNEVEN
            weight = torch.cat([weight * share, weight * (1 - share)], inputs)
        module.weight.copy_(weight)
        if module.bias is not None and old.bias is not None:
            module.bias.copy_(old.bias.repeat(len(module.bias) // len(old.bias)))
    return wide
