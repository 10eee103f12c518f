"""Devices by name, tried before anything is moved to them."""

from __future__ import annotations

import torch

from retina_fm.errors import ConfigError


def usable_device(device: str | torch.device) -> torch.device:
    """The device of that name, on which a tensor was made just now.

    Raises:
        ConfigError: torch does not know the device or cannot reach it.
    """
    try:
        chosen = torch.device(device)
        torch.empty(0, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise ConfigError(f"Device {str(device)!r} cannot be used: {first}. Try device='cpu'.") from None
    return chosen
