"""Features of retinal photographs from one small foundation model.

The public names are loaded on first use, so that importing the package costs next to nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names, open_checkout

__version__ = "0.1.0"

if __name__ == "retina_fm":
    open_checkout(Path(__file__).resolve().parent)

# PyTorch reads it at the first tensor. Maps of whole photographs are tens of megabytes each and live for one
# layer: in pages of 4 KiB their faults take up to an eighth of a forward on a CPU.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")

_HOMES = {
    "Embedder": "retina_fm.encoding.photo_embedder",
    "Encoder": "retina_fm.network",
    "Features": "retina_fm.network",
    "Geometry": "retina_fm.pictures",
    "Transform": "retina_fm.pictures",
    "adapt": "retina_fm.adapters",
    "encode": "retina_fm.encoding",
    "encode_to": "retina_fm.encoding",
    "explain": "retina_fm.explaining",
    "generate": "retina_fm.models.generation",
    "index": "retina_fm.indexes",
    "list_models": "retina_fm.models",
    "load": "retina_fm.models",
    "measure": "retina_fm.measuring",
    "measure_to": "retina_fm.measuring",
    "merge": "retina_fm.encoding",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)
__all__ += ["__version__"]

if TYPE_CHECKING:
    from retina_fm.adapters import adapt as adapt
    from retina_fm.encoding import encode as encode
    from retina_fm.encoding import encode_to as encode_to
    from retina_fm.encoding import merge as merge
    from retina_fm.encoding.photo_embedder import Embedder as Embedder
    from retina_fm.explaining import explain as explain
    from retina_fm.indexes import index as index
    from retina_fm.measuring import measure as measure
    from retina_fm.measuring import measure_to as measure_to
    from retina_fm.models import list_models as list_models
    from retina_fm.models import load as load
    from retina_fm.models.generation import generate as generate
    from retina_fm.network import Encoder as Encoder
    from retina_fm.network import Features as Features
    from retina_fm.pictures import Geometry as Geometry
    from retina_fm.pictures import Transform as Transform
