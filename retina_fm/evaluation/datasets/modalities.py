"""Sets for retrieval across modalities: AngioReport and the Retina Image Bank."""

from __future__ import annotations

import re
from pathlib import Path

from retina_fm.errors import LayoutError
from retina_fm.evaluation.datasets.layout import (
    Raw,
    Rows,
    column,
    eye_of,
    maybe,
    one,
    pictures,
    relative,
    table,
)

_KINDS = ("ICGA", "FFA", "OCTA", "OCT", "FAF", "CF", "IR", "US")


def angio_report(folder: Path, patients: int | None = None) -> Rows:
    """AngioReport (third APTOS competition): a folder a patient's eye, FFA and ICGA pictures in it.

    The modality is read from folder and file names, and is ``FFA`` where they do not say; folders named
    ``1234_R`` or ``1234-OD`` give patient and eye. The paper used a random 387 pictures of some patients,
    whose ids it does not give.

    Args:
        folder: of the download.
        patients: the first so many of a drawn order (seed 0) only; all without it.
    """
    rows: list[Raw] = []
    for path in pictures(folder, deep=True):
        above = path.relative_to(folder).parts[:-1]
        owner = next((part for part in reversed(above) if re.search(r"\d", part)), None)
        if owner is None:
            raise LayoutError(f"{path} lies in no patient's folder.")
        named = re.fullmatch(r"(.*?\d+)[-_ ]?(OD|OS|R|L|right|left)?", owner, re.IGNORECASE)
        patient, side = (named.group(1), named.group(2) or "") if named else (owner, "")
        kind = _kind("/".join((*above, path.stem))) or "FFA"
        rows.append({"path": path, "patient_id": patient, "eye": eye_of(side), "modality": kind})
    if patients is not None:
        import numpy as np

        names = sorted({str(row["patient_id"]) for row in rows})
        order = np.random.Generator(np.random.PCG64(0)).permutation(len(names))[:patients]
        chosen = {names[i] for i in order}
        rows = [row for row in rows if row["patient_id"] in chosen]
    return relative(rows, folder)


def retina_image_bank(folder: Path) -> Rows:
    """Pictures saved from the Retina Image Bank with a table ``metadata.csv`` that the user keeps.

    The bank has no download as a whole. The table needs ``file`` and ``case`` (pictures of one case are one
    patient's), and may have ``modality``, ``diagnosis`` and ``eye``.
    """
    sheet = maybe(folder, "metadata.csv") or one(folder, "*.csv", "the table of saved pictures")
    said = table(sheet)
    file, case = (
        column(said, sheet, "file", "filename", "path"),
        column(said, sheet, "case", "case_id", "patient_id"),
    )
    images = {path.name.lower(): path for path in pictures(folder, deep=True)}
    rows: list[Raw] = []
    for row in said:
        path = images.get(Path(row[file]).name.lower())
        if path is None:
            raise LayoutError(f"{sheet.name} names {row[file]}, which is not under {folder}.")
        lower = {key.lower(): value for key, value in row.items()}
        rows.append(
            {
                "path": path,
                "label": lower.get("diagnosis", ""),
                "patient_id": row[case],
                "eye": eye_of(lower.get("eye", "")),
                "modality": lower.get("modality", "") or _kind(path.stem) or "unknown",
            }
        )
    return relative(rows, folder)


def _kind(text: str) -> str:
    words = re.split(r"[^A-Za-z]+", text.upper())
    return next((kind for kind in _KINDS if kind in words), "")
