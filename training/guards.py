"""What surrounds the loop: advice when memory is full, an orderly end when someone asks for it."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
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
