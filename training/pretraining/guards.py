"""What surrounds the loop: refusal of another run, advice when memory is full, an orderly end."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from retina_fm.errors import ConfigError, OutputError
from retina_fm.training.pretraining.presets import CHANGEABLE, Preset, setting, with_settings


@contextmanager
def memory_advice(preset: Preset) -> Iterator[None]:
    """Turn a full memory into a message that names what to lower.

    Raises:
        OutputError: the memory was full.
    """
    try:
        yield
    except (torch.OutOfMemoryError, RuntimeError, MemoryError) as error:
        if isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError):
            text = str(error)
            if "can't allocate memory" not in text and "out of memory" not in text:
                raise
        crops = ", ".join(str(crop or "whole view") for crop in preset.curriculum.crops)
        raise OutputError(
            f"The memory is full with batch {preset.batch} and crops of {crops}. Leave out --resident if it "
            "is given, or lower --batch and raise --accumulation by as much: a run continues with that under "
            "--resume. A lower --crop needs a new --out, which may --start-from an export of this run."
        ) from error


@contextmanager
def stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM, as schedulers send it, and Ctrl-C end a run after its step, with a checkpoint."""
    before: dict[signal.Signals, Any] = {}
    if threading.current_thread() is threading.main_thread():  # elsewhere, whoever started us handles them
        for number in (signal.SIGTERM, signal.SIGINT):
            before[number] = signal.signal(number, lambda *_: stop())
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def refuse_missing_device(device: str | None) -> None:
    """Refuse a device that this machine does not have.

    Raises:
        ConfigError: there is no such GPU, or no such device at all.
    """
    if device is None:
        return
    try:
        place = torch.device(device)
    except RuntimeError:
        raise ConfigError(f"--device is {device!r}; use cpu, cuda or cuda:1.") from None
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if place.type == "cuda" and (place.index or 0) >= count:
        raise ConfigError(
            f"--device is {device!r}, but PyTorch sees {count or 'no'} GPUs here. Use --device cpu, or "
            "install a PyTorch that fits the GPU's driver."
        )


def device_for(wanted: str | None) -> str:
    """The device that is asked for; without one this process's GPU, or the CPU where there is none.

    Raises:
        ConfigError: there is no such device.
    """
    refuse_missing_device(wanted)
    if wanted:
        return wanted
    return f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if torch.cuda.is_available() else "cpu"


def refuse_another_run(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Compare what fixes a run with what the call that would continue it says.

    Rates may differ, and so may batch and accumulation, whose product the restored state compares.

    Raises:
        OutputError: they differ; the message names the fields.
    """
    changed = []
    preset = Preset.model_validate(now["preset"])
    then = with_settings(
        Preset.model_validate(before["preset"]), {name: setting(preset, name) for name in CHANGEABLE}
    ).model_dump()
    for name, value in preset.model_dump().items():
        if then[name] != value:
            changed.append(f"{name}: {then[name]} then, {value} now")
    if before["seed"] != now["seed"]:
        changed.append(f"seed: {before['seed']} then, {now['seed']} now")
    # runs of earlier releases say nothing of these two
    if before.get("schedule_minutes", now["schedule_minutes"]) != now["schedule_minutes"]:
        spoken = [_schedule(one["schedule_minutes"]) for one in (before, now)]
        changed.append(f"schedule: {spoken[0]} then, {spoken[1]} now")
    if before.get("perceptual", now["perceptual"]) != now["perceptual"]:
        states = ("without", "with") if now["perceptual"] else ("with", "without")
        changed.append(f"perceptual: {states[0]} weights of VGG-19 then, {states[1]} now")
    if changed:
        raise OutputError(
            f"{out} was started with other settings ({'; '.join(changed)[:400]}). Continue with the same "
            "preset, --schedule-minutes and --perceptual, or choose another --out."
        )


def _schedule(minutes: float | None) -> str:
    return "by steps" if minutes is None else f"of {minutes:g} minutes"
