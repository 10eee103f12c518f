"""Photos to embeddings: in memory, or to a table that survives a kill.

Names are loaded on first use: worker processes import this package and must not pay for torch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "EncodeReport": "retina_fm.encoding.to_table",
    "MergeReport": "retina_fm.encoding.merging",
    "Precision": "retina_fm.encoding.precision",
    "encode": "retina_fm.encoding.in_memory",
    "encode_to": "retina_fm.encoding.to_table",
    "fastest_precision": "retina_fm.encoding.precision",
    "merge": "retina_fm.encoding.merging",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.encoding.in_memory import encode as encode
    from retina_fm.encoding.merging import MergeReport as MergeReport
    from retina_fm.encoding.merging import merge as merge
    from retina_fm.encoding.precision import Precision as Precision
    from retina_fm.encoding.precision import fastest_precision as fastest_precision
    from retina_fm.encoding.to_table import EncodeReport as EncodeReport
    from retina_fm.encoding.to_table import encode_to as encode_to
