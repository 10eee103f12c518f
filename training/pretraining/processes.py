"""One process or many, through Accelerate."""

from __future__ import annotations

from typing import Any

from retina_fm.errors import MissingDependencyError


def make_accelerator(device: str | None) -> Any:
    """An ``Accelerator``: the process's place among others, and its device.

    Args:
        device: ``cpu`` keeps GPUs out of it; otherwise Accelerate chooses.

    Raises:
        MissingDependencyError: Accelerate is not installed.
    """
    try:
        from accelerate import Accelerator
        from accelerate.utils import DistributedDataParallelKwargs
    except ImportError:
        raise MissingDependencyError(
            "Pretraining needs Accelerate, which is not installed. Install it with: "
            "pip install accelerate (or '.[train]' in a checkout)"
        ) from None
    # Terms that wait for their part of the curriculum leave parameters without a gradient.
    unused = DistributedDataParallelKwargs(find_unused_parameters=True)
    return Accelerator(cpu=device == "cpu", kwargs_handlers=[unused])
