"""``--batch auto``: the batch that fills the device, found by trying."""

from __future__ import annotations

import dataclasses
import time

import torch

from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.pretraining.losses.learner import total_loss
from retina_fm.training.pretraining.presets import Preset
from retina_fm.training.pretraining.run_state import RunState

_ROOM = 0.9  # of a GPU's memory: what is left goes to rendering and to fragmentation
_GAIN = 1.05  # a larger batch must be this much faster a sample to be worth its memory
_LARGEST = 512


def largest_batch(preset: Preset, device: str, precision: str) -> int:
    """The power of two that fills the device: doubled while it fits and while samples still get faster.

    On a CPU the preset's own batch stays: memory is shared there, and larger batches are no faster.

    Args:
        preset: of the run.
        device: where it runs.
        precision: ``bfloat16`` or ``float32``.
    """
    place = torch.device(device)
    if place.type != "cuda":
        return preset.batch
    return search(lambda batch: seconds_a_sample(preset, place, precision, batch))


def search(seconds: object, largest: int = _LARGEST) -> int:
    """Double a batch while ``seconds(batch)`` a sample falls; None from it means that it did not fit."""
    assert callable(seconds)
    best, best_time = 1, seconds(1)
    batch = 2
    while batch <= largest:
        taken = seconds(batch)
        if taken is None:
            break
        if best_time is None or taken * _GAIN < best_time:
            best, best_time = batch, taken
        elif batch >= 4 * best:
            break
        batch *= 2
    return best


def seconds_a_sample(preset: Preset, device: torch.device, precision: str, batch: int) -> float | None:
    """Time of a step's forward and backward pass a sample; None where memory is full."""
    state = RunState(preset, 0, device)
    weights = preset.weights
    adversarial = weights.adversarial > 0 or weights.feature_matching > 0
    try:
        samples = blank_samples(preset, batch, device)
        dtype = torch.bfloat16 if precision == "bfloat16" else torch.float32
        for repeat in range(3):
            if repeat == 1:
                torch.cuda.synchronize(device)
                began = time.perf_counter()
            with torch.autocast(device.type, dtype=dtype, enabled=precision == "bfloat16"):
                learned = state.learner(samples, weights, state.judge if adversarial else None, 0)
                loss = total_loss(learned.terms, weights)
            loss.backward()  # type: ignore[no-untyped-call]
            state.optimiser.step()
            state.optimiser.zero_grad(set_to_none=True)
        torch.cuda.synchronize(device)
        used = torch.cuda.max_memory_reserved(device) / torch.cuda.get_device_properties(device).total_memory
    except torch.OutOfMemoryError:
        return None
    finally:
        del state
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    return None if used > _ROOM else (time.perf_counter() - began) / 2 / batch


def blank_samples(preset: Preset, batch: int, device: torch.device | str) -> Samples:
    """Samples of noise with the shapes that the preset trains on, at its largest crop."""
    side = max(crop or preset.size for crop in preset.curriculum.crops)
    random = torch.Generator().manual_seed(0)

    def noise(channels: int) -> torch.Tensor:
        return (torch.rand(batch, channels, side, side, generator=random) * 2 - 1).to(device)

    lesions = len(preset.architecture.lesions)
    ones = torch.ones(batch, 1, side, side, device=device)
    known = torch.ones(batch, dtype=torch.bool, device=device)
    return dataclasses.replace(
        Samples(
            photo=noise(3),
            last=noise(3),
            target=noise(3),
            mask=(noise(1) > 0.5).float(),
            field_of_view=ones,
            lesions=None,
            lesion_known=None,
            step=torch.arange(batch, device=device) % 10,
        ),
        lesions=(noise(lesions) > 0.9).float() if lesions else None,
        lesion_known=known if lesions else None,
        vessels=(noise(1) > 0.75).float() if preset.architecture.vessels else None,
    )
