"""Worker processes that need no guard in the caller's script and end with the caller."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any, NamedTuple

from PIL import Image, ImageFile


class Settings(NamedTuple):
    """What the caller told Pillow, for workers to know, too.

    Attributes:
        most_pixels: ``Image.MAX_IMAGE_PIXELS``.
        truncated: ``ImageFile.LOAD_TRUNCATED_IMAGES``.
        openers: formats that plugins registered: name, factory, and what accepts a beginning.
        decoders: that plugins registered, by name.
    """

    most_pixels: int | None
    truncated: bool
    openers: list[tuple[str, Any, Any]]
    decoders: dict[str, Any]


def start_workers(count: int) -> Executor:
    """A pool of processes; the caller shuts it down.

    loky's workers, unlike those of ``multiprocessing``, import nothing of the caller's script, and a
    worker that dies is noticed at once. They read pictures by the caller's own limits and plugins.
    """
    from loky import ProcessPoolExecutor

    executor: Executor = ProcessPoolExecutor(
        max_workers=count, initializer=_begin, initargs=(os.getpid(), pillow_settings())
    )
    return executor


def may_start_workers() -> bool:
    """Whether this process may have children: a daemonic one, such as a DataLoader's worker, may not."""
    return not multiprocessing.current_process().daemon


def pillow_settings() -> Settings:
    """What was changed or added in this process."""
    openers = [(n, factory, accept) for n, (factory, accept) in Image.OPEN.items() if _is_added(factory)]
    decoders = {name: decoder for name, decoder in Image.DECODERS.items() if _is_added(decoder)}
    return Settings(Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, openers, decoders)


def apply_pillow_settings(settings: Settings) -> None:
    """Be told what another process was told."""
    Image.MAX_IMAGE_PIXELS = settings.most_pixels
    ImageFile.LOAD_TRUNCATED_IMAGES = settings.truncated
    for name, factory, accept in settings.openers:
        Image.register_open(name, factory, accept)
    for name, decoder in settings.decoders.items():
        Image.register_decoder(name, decoder)


def leave_with_parent(parent: int) -> None:
    """End this process soon after its parent ended: a killed run must not leave workers behind."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1)
        os._exit(0)

    if os.name == "posix":  # elsewhere the number of a dead parent stays
        threading.Thread(target=watch, daemon=True).start()


def _begin(parent: int, settings: Settings) -> None:
    leave_with_parent(parent)
    apply_pillow_settings(settings)


def _is_added(factory: Callable[..., Any]) -> bool:
    return not str(getattr(factory, "__module__", "PIL.")).startswith("PIL.")
