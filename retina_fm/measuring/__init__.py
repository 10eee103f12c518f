"""Photos to numbers: quality, side, landmarks, vessels, lesions; one pass of the network a photo."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "COLUMNS": "retina_fm.measuring.columns",
    "MeasureReport": "retina_fm.measuring.table",
    "measure": "retina_fm.measuring.table",
    "measure_to": "retina_fm.measuring.table",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.measuring.columns import COLUMNS as COLUMNS
    from retina_fm.measuring.table import MeasureReport as MeasureReport
    from retina_fm.measuring.table import measure as measure
    from retina_fm.measuring.table import measure_to as measure_to
