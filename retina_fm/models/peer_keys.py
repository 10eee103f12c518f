"""Names of published tensors to the names that timm's models give them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

State = dict[str, Tensor]
Rename = Callable[[Mapping[str, Tensor]], State]

LUMA = (0.299, 0.587, 0.114)
"""Weights of red, green and blue in a grey picture (ITU-R BT.601), as Pillow converts to ``L``."""


def without_chunks(state: Mapping[str, Tensor]) -> State:
    """DINOv2's training code numbers blocks as ``blocks.CHUNK.BLOCK``; here as ``blocks.BLOCK``."""
    return {
        re.sub(r"(^|\.)blocks\.\d+\.(\d+)\.", r"\1blocks.\2.", key): value for key, value in state.items()
    }


def without_wrappers(state: Mapping[str, Tensor]) -> State:
    """IBOT's training code leaves ``module.`` and ``backbone.`` before the names."""
    return {key.removeprefix("module.").removeprefix("backbone."): value for key, value in state.items()}


def untrained_norm(state: Mapping[str, Tensor]) -> State:
    """The final norm taken away, and a norm without any training put after the mean of the patches.

    So upstream's notebook reads a checkpoint that was not fine-tuned: its class has ``fc_norm``, which the
    checkpoint does not hold.
    """
    kept = {key: value for key, value in state.items() if key not in ("norm.weight", "norm.bias")}
    width = state["norm.weight"].shape[0]
    return {**kept, "fc_norm.weight": torch.ones(width), "fc_norm.bias": torch.zeros(width)}


def mirage(domain: str) -> Rename:
    """MIRAGE's encoder with the adapter of one domain, as a plain vision transformer.

    Its patches see one grey channel; three channels with the weights of a grey picture are the same
    function. Its global token comes last and has no position, which attention does not see. Its classifier's
    norm starts without training.

    Args:
        domain: ``slo`` (photographs of the fundus) or ``bscan`` (OCT).
    """
    adapter = f"input_adapters.{domain}."

    def rename(state: Mapping[str, Tensor]) -> State:
        found: State = {}
        for key, value in state.items():
            if key.startswith("encoder."):
                found["blocks." + key.removeprefix("encoder.")] = value
            elif key == "global_tokens":
                found["cls_token"] = value
            elif key == adapter + "pos_emb":
                found["pos_embed"] = value.flatten(2).transpose(1, 2).contiguous()
            elif key == adapter + "proj.weight":
                found["patch_embed.proj.weight"] = value * torch.tensor(LUMA).view(1, 3, 1, 1)
            elif key == adapter + "proj.bias":
                found["patch_embed.proj.bias"] = value
            elif not key.startswith(("input_adapters.", "output_adapters.")):
                found[key] = value  # of something else: the count refuses it
        width = state["global_tokens"].shape[-1] if "global_tokens" in state else 0
        return {**found, "norm.weight": torch.ones(width), "norm.bias": torch.zeros(width)}

    return rename
