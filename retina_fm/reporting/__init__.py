"""One photo on one page: layers, angiogram, measurements beside healthy photographs, nearest pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {"write_report": "retina_fm.reporting.writing"}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.reporting.writing import write_report as write_report
