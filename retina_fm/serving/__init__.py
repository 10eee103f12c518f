"""A model behind HTTP for many users: embeddings, search, maps, measurements, a small page (extra ``serve``).

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "Engine": "retina_fm.serving.engine",
    "Limits": "retina_fm.serving.limits",
    "create_app": "retina_fm.serving.application",
    "serve": "retina_fm.serving.running",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.serving.application import create_app as create_app
    from retina_fm.serving.engine import Engine as Engine
    from retina_fm.serving.limits import Limits as Limits
    from retina_fm.serving.running import serve as serve
