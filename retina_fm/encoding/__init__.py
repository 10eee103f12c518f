"""Photos to embeddings: in memory, or to a table that survives a kill.

Names are loaded on first use: worker processes import this package and must not pay for torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "EncodeReport": "retina_fm.encoding.to_table",
    "Precision": "retina_fm.encoding.precision",
    "encode": "retina_fm.encoding.in_memory",
    "encode_to": "retina_fm.encoding.to_table",
    "fastest_precision": "retina_fm.encoding.precision",
}

__all__ = sorted(_HOMES)

if TYPE_CHECKING:
    from retina_fm.encoding.in_memory import encode as encode
    from retina_fm.encoding.precision import Precision as Precision
    from retina_fm.encoding.precision import fastest_precision as fastest_precision
    from retina_fm.encoding.to_table import EncodeReport as EncodeReport
    from retina_fm.encoding.to_table import encode_to as encode_to


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'retina_fm.encoding' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
