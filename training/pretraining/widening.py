"""From a generator to another that computes the same: of twice the width, or with a vessel map beside it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from retina_fm.errors import ConfigError
from retina_fm.network import Architecture, Generator
from retina_fm.network.layers import TRUNK_LAYERS
from retina_fm.training.pretraining.optimisation import VESSEL_LOGIT

_UNEVEN = 0.25  # shares of the two copies of an input lie between this and one minus this


def starting_state(source: Generator, wanted: Architecture, *, seed: int = 0) -> dict[str, Tensor]:
    """Weights of ``source`` for a generator of the wanted architecture, as far as they serve it.

    They are widened where the wanted one is twice as wide: the encoder alone where the decoder stays, both
    where both double. A vessel map that knows nothing yet is added where the wanted one has a map. A decoder
    of another width, and maps at stride 2 that the source has not, are left out: they begin at random.

    Raises:
        ConfigError: the two differ in more than that.
    """
    have = source.architecture
    # What is fitted or fixed and not trained may differ, and so may the decoder.
    pooled = ("embedding", "spacing", "colour", "pools_anatomy", "clip")
    free = (*pooled, "decoder_blocks", "decoder_width", "coarse_maps", "vessels", "anatomy")
    like = have.model_copy(update={name: getattr(wanted, name) for name in free})
    factor = wanted.width // have.width
    if factor not in (1, 2) or like.model_copy(update={"width": factor * have.width}) != wanted:
        raise _other_architecture(have, wanted)
    kept = _kept_decoder(have, wanted, factor)
    if wanted.vessels and not have.vessels and kept:
        source = with_vessels(source)
    if factor == 2:
        source = widened(source, decoder=kept != "narrow", seed=seed)
    state = source.state_dict()
    if kept:
        return {
            key: value for key, value in state.items() if wanted.coarse_maps or not key.startswith("coarse.")
        }
    last = TRUNK_LAYERS + wanted.encoder_blocks
    return {
        key: value
        for key, value in state.items()
        if key.startswith(("attention.", "lesion_heads."))
        or (key.startswith("model.") and int(key.split(".")[1]) < last)
    }


def _kept_decoder(have: Architecture, wanted: Architecture, factor: int) -> str:
    """How the decoder goes on: ``narrow`` as it is, ``wide`` doubled with the encoder, empty not at all."""
    if have.decoder_blocks != wanted.decoder_blocks or (have.vessels and not wanted.vessels):
        return ""
    if have.anatomy != wanted.anatomy:
        return ""
    if have.coarse_maps and wanted.vessels and not have.vessels:
        return ""  # the map at stride 2 would lack its vessels
    before, after = have.decoder_channels[0], wanted.decoder_channels[0]
    if before == after:
        return "narrow"
    return "wide" if after == factor * before else ""


def _other_architecture(have: Architecture, wanted: Architecture) -> ConfigError:
    return ConfigError(
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
    found = Generator(source.architecture.model_copy(update={"vessels": True}))
    found.load_state_dict(state)
    return found


@torch.no_grad()
def widened(source: Generator, *, decoder: bool = True, seed: int = 0) -> Generator:
    """A generator of twice the width with the same output.

    Every channel is there twice, and what reads a channel divides its weight between the two copies. The
    shares are uneven and random, so that the copies get different gradients and part ways.

    Source: Chen, Goodfellow and Shlens, "Net2Net" (ICLR 2016).

    Args:
        source: stays as it is.
        decoder: whether the decoder is widened, too; else it reads a wider encoder and stays as it is.
        seed: of the shares.
    """
    random = torch.Generator().manual_seed(seed)
    narrowest = source.architecture.decoder_channels[0]
    wide = Generator(
        source.architecture.model_copy(
            update={
                "width": 2 * source.architecture.width,
                "decoder_width": narrowest * (1 + decoder)
                if source.architecture.decoder_width or not decoder
                else 0,
            }
        )
    )
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
