"""The fastest number type in which a processor computes natively and features stay the same."""

from __future__ import annotations

import platform
from dataclasses import dataclass

import torch

from retina_fm.errors import ConfigError, nearest
from retina_fm.network.devices import usable_device

_NAMES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True)
class Precision:
    """A number type and why it was chosen.

    Attributes:
        dtype: of the network; pooling is float32 always.
        reason: half a sentence for people.
    """

    dtype: torch.dtype
    reason: str

    @property
    def name(self) -> str:
        """Of the type, as ``dtype=`` takes it."""
        return str(self.dtype).removeprefix("torch.")

    def __str__(self) -> str:
        return f"{self.name} ({self.reason})"


def fastest_precision(device: torch.device) -> Precision:
    """bfloat16 where the processor multiplies it natively, float32 elsewhere.

    float16 is never chosen: maps before their normalisation may leave its range.
    """
    if device.type == "cuda":
        if torch.cuda.is_bf16_supported(including_emulation=False):
            return Precision(torch.bfloat16, f"native on {torch.cuda.get_device_name(device)}")
        return Precision(torch.float32, "this GPU has no native bfloat16")
    if device.type == "cpu":
        units = _native_bfloat16_units()
        if units:
            return Precision(torch.bfloat16, f"native on this processor: {units}")
        return Precision(torch.float32, "this processor has no native bfloat16")
    return Precision(torch.float32, f"the safe choice on {device.type}")


def choose_precision(dtype: str | torch.dtype, device: torch.device) -> Precision:
    """``"auto"``, ``"float32"``, ``"bfloat16"`` or a torch type.

    Raises:
        ConfigError: another name or type.
    """
    if dtype == "auto":
        return fastest_precision(device)
    chosen = _NAMES.get(dtype) if isinstance(dtype, str) else dtype
    if chosen not in _NAMES.values():
        hint = nearest(str(dtype), ["auto", *_NAMES])
        raise ConfigError(f"dtype {dtype!r} is not supported. {hint}")
    assert isinstance(chosen, torch.dtype)
    return Precision(chosen, "as asked for")


def choose_device(device: str | torch.device | None) -> torch.device:
    """The device asked for, or the first GPU, or the CPU.

    Raises:
        ConfigError: torch does not know the device or cannot reach it.
    """
    if device is None:
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return usable_device(device)


def _native_bfloat16_units() -> str:
    cpu = torch.cpu
    if hasattr(cpu, "_is_amx_tile_supported") and cpu._is_amx_tile_supported():
        return "AMX"
    if hasattr(cpu, "_is_avx512_bf16_supported") and cpu._is_avx512_bf16_supported():
        return "AVX-512 BF16"
    if platform.machine() in ("aarch64",) and _arm_has_bfloat16():
        return "Arm BF16"
    return ""


def _arm_has_bfloat16() -> bool:
    try:
        with open("/proc/cpuinfo", encoding="ascii", errors="ignore") as lines:  # noqa: PTH123  a device file
            return any("bf16" in line for line in lines if line.startswith("Features"))
    except OSError:
        return False
