"""Columns of a table of measurements: what they hold, in which unit. Definitions: docs/measuring.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import pyarrow as pa

from retina_fm._io.parquet_seals import EMPTY, KEY
from retina_fm.measuring.vessels import ZONES
from retina_fm.vocabulary import LESION_TYPES

VERSION = 1
"""Of the definitions; it changes when the same photo and model come to give other numbers."""


class Column(NamedTuple):
    """A measurement: its unit and what it says."""

    unit: str
    says: str


_QUALITY = {
    "quality": Column("0 to 1", "how well the retina is seen"),
    "quality_focus": Column("0 to 1", "steepness of the edges of vessels"),
    "quality_illumination": Column("0 to 1", "share of the field lit well, and evenly"),
    "quality_field": Column("0 to 1", "share of the circle in the picture"),
    "quality_vessels": Column("0 to 1", "reach of a connected tree of vessels"),
    "quality_fundus": Column("0 to 1", "whether it is a colour photograph of a retina"),
}
_LANDMARKS = {
    "disc_y": Column("px", "centre of the optic disc, from the top"),
    "disc_x": Column("px", "the same, from the left"),
    "disc_diameter": Column("px", "of the circle of the disc's area"),
    "disc_confidence": Column("0 to 1", "mean probability over the disc"),
    "fovea_y": Column("px", "centre of the fovea, from the top"),
    "fovea_x": Column("px", "the same, from the left"),
    "fovea_confidence": Column("0 to 1", "height of the fovea's peak"),
    "disc_fovea_distance": Column("px", "between the two centres"),
    "disc_fovea_angle": Column("degrees", "how far the fovea lies below the disc's level; above is negative"),
    "disc_diameter_um": Column("um", "the diameter, where the camera states its spacing"),
    "disc_fovea_distance_um": Column("um", "the distance, likewise"),
}
_VESSELS = {
    "vessel_density": Column("0 to 1", "share of the field that vessels cover"),
    **{
        f"vessel_density_{name}": Column("0 to 1", f"the same, {low} to {high} disc diameters off the disc")
        for name, (low, high) in ZONES.items()
    },
    "vessel_width": Column("px", "mean width of vessels that cross 0.5 to 1 disc diameters off the disc"),
    "tortuosity": Column("ratio", "length over chord less 1, mean over segments by length"),
    "fractal_dimension": Column(
        "near 1", "box-counting dimension of the centre lines, boxes of 2 to 32 view pixels"
    ),
    "crae": Column("px", "central retinal arteriolar equivalent"),
    "crve": Column("px", "central retinal venular equivalent"),
    "avr": Column("ratio", "crae over crve"),
    "crae_um": Column("um", "crae, where the camera states its spacing"),
    "crve_um": Column("um", "crve, likewise"),
}
_LESIONS = {f"lesion_{name}": Column("0 to 1", f"share of the field: {name}") for name in LESION_TYPES}

COLUMNS: Mapping[str, Column] = {**_QUALITY, **_LANDMARKS, **_VESSELS, **_LESIONS}
"""Every number that is measured, float64 in the table: null where it cannot be said."""


def schema(metadata: Mapping[str, str]) -> pa.Schema:
    """Columns of a table of measurements."""
    return pa.schema(
        [
            ("path", pa.string()),
            ("width", pa.int32()),
            ("height", pa.int32()),
            ("eye", pa.string()),
            ("eye_confidence", pa.float64()),
            ("eye_source", pa.string()),
            ("eye_in_picture", pa.string()),
            ("patient_id", pa.string()),
            ("acquired", pa.string()),
            ("spacing_um", pa.float64()),
            *((name, pa.float64()) for name in COLUMNS),
            ("reasons", pa.string()),
            ("file_size", pa.int64()),
            ("file_mtime_ns", pa.int64()),
        ],
        metadata={**metadata, KEY: EMPTY},
    )


def table_of(rows: Sequence[Mapping[str, Any]], columns: pa.Schema) -> pa.Table:
    """Rows as a table; what a row lacks is null."""
    values = {name: [row.get(name) for row in rows] for name in columns.names}
    return pa.table(values, schema=columns)
