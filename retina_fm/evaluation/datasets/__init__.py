"""Readers that turn the official download of a data set into a manifest; pictures stay where they are."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from retina_fm.errors import ConfigError, LayoutError, nearest
from retina_fm.evaluation.datasets import grading, modalities, uk_biobank, vessel_sets
from retina_fm.evaluation.datasets.layout import Rows
from retina_fm.evaluation.manifest import write_manifest

READERS: dict[str, Callable[[Path], Rows]] = {
    "angioreport": modalities.angio_report,
    "aptos-2019": grading.aptos_2019,
    "chase-db1": vessel_sets.chase_db1,
    "drive": vessel_sets.drive,
    "fives": vessel_sets.fives,
    "glaucoma-fundus": grading.glaucoma_fundus,
    "hrf": vessel_sets.hrf,
    "idrid": grading.idrid,
    "jsiec": grading.jsiec,
    "les-av": vessel_sets.les_av,
    "messidor-2": grading.messidor_2,
    "odir-5k": grading.odir_5k,
    "papila": grading.papila,
    "retina": grading.retina,
    "retina-image-bank": modalities.retina_image_bank,
    "rite": vessel_sets.rite,
    "stare": vessel_sets.stare,
    "uk-biobank": uk_biobank.uk_biobank,
}
"""By name; each takes the folder that the official download was unpacked into."""

_PATHS = ("path", "mask", "field", "arteries_veins")


def make_manifest(name: str, folder: str | Path, out: str | Path | None = None) -> Path:
    """Write the manifest of a data set.

    Args:
        name: a key of :data:`READERS`.
        folder: of the official download.
        out: the table; ``manifest.csv`` in the folder without it. Its paths are relative to it.

    Raises:
        ConfigError: there is no reader of that name.
        LayoutError: the folder is not that download.
    """
    if name not in READERS:
        raise ConfigError(f"There is no reader {name!r}. {nearest(name, READERS)}")
    source = Path(folder)
    rows = READERS[name](source)
    target = Path(out) if out is not None else source / "manifest.csv"
    for row in rows:
        for column in _PATHS:
            if row.get(column):
                row[column] = Path(os.path.relpath(source / row[column], target.parent)).as_posix()
    return write_manifest(target, rows)


__all__ = ["READERS", "LayoutError", "make_manifest"]
