"""Where in a photo the evidence for a prediction lies: heat maps in the photo's own pixels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "HeatMap": "retina_fm.explaining.heat_map",
    "explain": "retina_fm.explaining.explanation",
    "write_heat_maps": "retina_fm.explaining.files",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.explaining.explanation import explain as explain
    from retina_fm.explaining.files import write_heat_maps as write_heat_maps
    from retina_fm.explaining.heat_map import HeatMap as HeatMap
