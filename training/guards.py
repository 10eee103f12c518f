"""What surrounds the loop: refusal of another run, advice when memory is full, an orderly end."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch

from retina_fm.errors import OutputError
from retina_fm.training.presets import Preset


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
            f"The memory is full with batch {preset.batch} and crops of {crops}. Lower --batch (and raise "
            "--accumulation by as much to keep the step), or lower --crop."
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


def refuse_another_run(before: dict[str, Any], now: dict[str, Any], out: Path) -> None:
    """Compare preset and seed of a run with those of the call that would continue it.

    Raises:
        OutputError: they differ; the message names the fields.
    """
    changed = []
    for name, value in now["preset"].items():
        old = before["preset"].get(name)
        if Preset.from_dict(before["preset"]).as_dict().get(name) != value:
            changed.append(f"{name}: {old} then, {value} now")
    if before["seed"] != now["seed"]:
        changed.append(f"seed: {before['seed']} then, {now['seed']} now")
    if changed:
        raise OutputError(
            f"{out} was started with other settings ({'; '.join(changed)[:400]}). Continue with the same "
            "preset, or choose another --out."
        )
