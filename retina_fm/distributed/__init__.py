"""Encoding on a cluster, with Ray (extra ``ray``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "encode": "retina_fm.distributed.encoding",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.distributed.encoding import encode as encode
