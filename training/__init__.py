"""Simulated angiograms, paired videos and generative pretraining.

The public names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "DrawnRetina": "retina_fm.training.drawn",
    "draw_patient": "retina_fm.training.drawn",
    "draw_retina": "retina_fm.training.drawn",
}

__all__ = ["DrawnRetina", "draw_patient", "draw_retina"]

if TYPE_CHECKING:
    from retina_fm.training.drawn import DrawnRetina as DrawnRetina
    from retina_fm.training.drawn import draw_patient as draw_patient
    from retina_fm.training.drawn import draw_retina as draw_retina


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'retina_fm.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
