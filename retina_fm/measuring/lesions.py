"""How much of the field lesions cover, by type."""

from __future__ import annotations

from collections.abc import Mapping

from retina_fm.measuring.reading import Reading
from retina_fm.models.reliability import Reliability, threshold_in
from retina_fm.vocabulary import LESION_TYPES

RIM = 0.01
"""Share of the view's side along the edge of the field where no lesion is called: the edge looks like one."""


def lesion_shares(reading: Reading, stated: Mapping[str, Reliability]) -> dict[str, float]:
    """Share of the field of view whose probability reaches the stated threshold, by type that is mapped.

    Args:
        reading: of the photo.
        stated: reliability of the model's maps, which has the thresholds.
    """
    deep = max(1, round(RIM * reading.inside.shape[0]))
    seen = reading.depth_inside > deep
    area = max(1, int(reading.inside.sum()))
    return {
        name: float(((reading.maps[name] >= threshold_in(stated, name)) & seen).sum()) / area
        for name in LESION_TYPES
        if name in reading.maps
    }
