"""Train a decoder on items: Dice and cross-entropy, cosine schedule, averaged weights, early stopping."""

from __future__ import annotations

import copy
import math
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm._io.progress import progress_bar
from retina_fm.adapters.segmentation.decoder import MapDecoder
from retina_fm.adapters.segmentation.items import Item, ItemMaker, crop_batch
from retina_fm.errors import ConfigError
from retina_fm.learning import cosine, follow, seeded

_AVERAGE = 0.98


@dataclass(frozen=True)
class Plan:
    """How long and in which steps a decoder is trained.

    Attributes:
        steps: at most.
        max_seconds: stop after so long, schedule included; the result then depends on the machine. The time
            that the photos' maps take counts, that of a last look at the validation part comes on top.
        crops: a step.
        side: of a crop, in view pixels.
        rate: peak learning rate.
        memory: bytes for items with their maps.
        renew: steps, at most, after which one item is replaced by a fresh variation; sooner where otherwise
            some photos would never be seen.
        check: steps between looks at the validation part.
        patience: looks without a gain before training stops.
    """

    steps: int = 400
    max_seconds: float | None = None
    crops: int = 8
    side: int = 128
    rate: float = 3e-3
    memory: int = 1_500_000_000
    renew: int = 8
    check: int = 50
    patience: int = 6


def train_decoder(
    decoder: MapDecoder,
    maker: ItemMaker,
    plan: Plan,
    *,
    tuned: list[nn.Parameter],
    validate: Callable[[nn.Module], float] | None,
    seed: int,
    progress: bool | None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train and return the averaged decoder, with a history of losses and validation scores.

    Args:
        decoder: trained in place; its running average is what is returned.
        maker: of items.
        plan: steps and sizes.
        tuned: parameters of the encoder that are trained along, at a tenth of the rate.
        validate: Dice of the validation part; the best look is kept.
        seed: of crops and order.
        progress: a bar with the time left; None shows it on a terminal.

    Raises:
        ConfigError: ``max_seconds`` were over before the first step.
    """
    groups: list[dict[str, Any]] = [{"params": list(decoder.parameters()), "share": 1.0}]
    if tuned:
        groups.append({"params": tuned, "share": 0.1})
    optimiser = torch.optim.AdamW(groups, lr=plan.rate, weight_decay=1e-4)
    random = np.random.Generator(np.random.PCG64([seed, 3]))
    average = copy.deepcopy(decoder).eval()
    best: tuple[float, dict[str, Tensor], list[Tensor]] | None = None
    history: list[dict[str, Any]] = []
    started, since = time.monotonic(), 0
    limit = math.inf if plan.max_seconds is None else plan.max_seconds
    items = _first_items(maker, plan)
    if (passed := time.monotonic() - started) >= limit:
        raise ConfigError(
            f"max_seconds={limit:g} were over before the first step: the maps of {len(items)} views took "
            f"{passed:.1f} s. Raise max_seconds well above that, or give fewer photos or a smaller view_size."
        )
    renew = _renewal(plan, len(maker.views), len(items))
    with seeded(seed), progress_bar(progress, plan.steps, "fit, decoder") as bar:
        bar.unit = "step"
        for step in range(plan.steps):
            share = max((step + 1) / plan.steps, (time.monotonic() - started) / limit)
            if step and step % renew == 0:
                items[(step // renew) % len(items)] = maker.next()
            for group in optimiser.param_groups:
                group["lr"] = plan.rate * group["share"] * _rate(share)
            decoder.train()
            optimiser.zero_grad()
            loss = _step_loss(decoder, maker, items, plan, random, with_encoder=bool(tuned))
            loss.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_([p for group in groups for p in group["params"]], 5.0)
            optimiser.step()
            follow(average.state_dict(), decoder.state_dict(), _AVERAGE, step)
            bar.update(1)
            seconds = time.monotonic() - started
            over = step + 1 == plan.steps or seconds >= limit
            if (step + 1) % plan.check == 0 or over:
                record: dict[str, Any] = {"step": step + 1, "seconds": round(seconds, 2), "loss": loss.item()}
                if validate is not None:
                    record["dice"] = score = validate(average)
                    since = 0 if best is None or score > best[0] else since + 1
                    if since == 0:
                        best = (score, copy.deepcopy(average.state_dict()), _copies(tuned))
                history.append(record)
                if over or since >= plan.patience or time.monotonic() - started >= limit:
                    break
    if best is not None:
        average.load_state_dict(best[1])
        with torch.no_grad():
            for parameter, value in zip(tuned, best[2], strict=True):
                parameter.copy_(value)
    return average.eval(), history


def _step_loss(
    decoder: MapDecoder,
    maker: ItemMaker,
    items: list[Item],
    plan: Plan,
    random: np.random.Generator,
    *,
    with_encoder: bool,
) -> Tensor:
    device = maker.device
    autocast = torch.autocast(device.type, torch.bfloat16, enabled=maker.map_dtype == torch.bfloat16)
    if with_encoder:
        chosen = [items[int(random.integers(len(items)))] for _ in range(max(1, plan.crops // 8))]
        view, target, inside = (
            torch.stack([getattr(item, name) for item in chosen]).to(device)
            for name in ("view", "target", "inside")
        )
        maps = maker.source.maps(view)
        with autocast:
            return segmentation_loss(decoder(view, maps).float(), target, inside)
    crops = crop_batch(items, plan.crops, plan.side, random)
    view, target, inside = (value.to(device) for value in (crops.view, crops.target, crops.inside))
    with autocast:
        logits = decoder(view, [m.to(device) for m in crops.maps])
    return segmentation_loss(logits.float(), target, inside)


def segmentation_loss(logits: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """Cross-entropy plus one minus Dice, inside the field of view.

    Args:
        logits: ``(N, C, H, W)``; one channel for two classes.
        target: coverage of each class, same shape.
        inside: ``(N, 1, H, W)``.
    """
    weight = inside / inside.sum().clamp_min(1)
    if logits.shape[1] == 1:
        probability = logits.sigmoid()
        entropy = (F.binary_cross_entropy_with_logits(logits, target, reduction="none") * weight).sum()
    else:
        probability = logits.softmax(1)
        entropy = -(logits.log_softmax(1) * target * weight).sum()
        probability, target = probability[:, 1:], target[:, 1:]
    overlap = 2 * (probability * target * inside).sum((0, 2, 3))
    total = ((probability + target) * inside).sum((0, 2, 3))
    present = (target * inside).sum((0, 2, 3)) > 0
    if not present.any():
        return entropy
    return entropy + (1 - (overlap + 1) / (total + 1))[present].mean()


def _first_items(maker: ItemMaker, plan: Plan) -> list[Item]:
    room = max(1, plan.memory // maker.bytes_an_item())
    return [maker.next() for _ in range(int(min(room, max(8, len(maker.views)))))]


def _renewal(plan: Plan, photos: int, items: int) -> int:
    waiting = photos - items
    if waiting <= 0:
        return plan.renew
    if plan.steps - 1 < waiting:
        warnings.warn(
            f"{plan.steps} steps see {items + max(0, plan.steps - 1)} of the {photos} photos; raise steps.",
            stacklevel=2,
        )
    return max(1, min(plan.renew, (plan.steps - 1) // waiting))


def _copies(parameters: list[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _rate(share: float) -> float:
    share = min(1.0, share)
    return min(1.0, share / 0.05) * cosine(share) + 1e-3
