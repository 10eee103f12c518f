"""UK Biobank's fundus fields, and the paper's cohort of systemic disease within five years."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import date
from pathlib import Path

import numpy as np

from retina_fm.errors import LayoutError, ManifestError
from retina_fm.evaluation.datasets.layout import Raw, Rows, pictures, relative, table

FIELDS = {"21015": "left", "21016": "right"}
"""Fundus photographs; files are named ``eid_field_instance_array``."""
OUTCOMES = {
    "myocardial infarction": "42000",
    "stroke": "42006",
    "dementia": "42018",
    "parkinsons": "42032",
}
"""Algorithmically defined outcomes: fields with the date of the first report."""
_VISIT, _AGE, _DEATH, _LOST = "53", "21003", "40000", "191"
_UNKNOWN = date(1900, 1, 1)
BAND = 5
"""Years of an age band."""


def uk_biobank(folder: Path) -> Rows:
    """Photographs named ``1234567_21016_0_0.png`` with a participants' table, a row a picture.

    The table is any CSV with ``eid`` and columns ``53-0.0`` (or ``p53_i0``) of the fields that
    :func:`systemic_cohort` uses; its columns come along as ``age``, ``visit_date`` and one a disease.
    """
    people = _people(folder)
    rows: list[Raw] = []
    for path in pictures(folder, deep=True):
        named = re.fullmatch(r"(\d+)_(21015|21016)_(\d+)_(\d+)", path.stem)
        if named is None:
            continue
        eid, field, visit, repeat = named.groups()
        said = people.get(eid)
        if said is None:
            continue  # withdrawn, or not in this application's table
        row: Raw = {
            "path": path, "patient_id": eid, "eye": FIELDS[field], "modality": "CF",
            "visit": visit, "repeat": repeat, "age": _field(said, _AGE, visit),
            "visit_date": _field(said, _VISIT, visit),
            "death_date": _field(said, _DEATH, "0"), "lost_date": _field(said, _LOST, "0"),
        }  # fmt: skip
        row.update({name: _field(said, code, "0") for name, code in OUTCOMES.items()})
        rows.append(row)
    if not rows:
        raise LayoutError(
            f"{folder} has no photographs such as 1234567_21016_0_0.png of people in its table."
        )
    return relative(rows, folder)


def systemic_cohort(
    rows: Sequence[Mapping[str, str]], outcome: str, *, years: float = 5, end: str, seed: int = 0
) -> list[dict[str, str]]:
    """The paper's cohort of one disease: right eye, one visit, balanced by age band.

    A person's first visit with a photograph of the right eye counts, and its first photograph. Cases had no
    report of the disease up to the visit and one within ``years`` after it. Controls had none at all and were
    followed for as long (until death, loss, or ``end``). In every band of five years of age as many controls
    are drawn as there are cases; where there are fewer controls, cases are drawn instead.

    Source: the paper, Methods (data for downstream tasks).

    Args:
        rows: of :func:`uk_biobank`'s manifest.
        outcome: a key of :data:`OUTCOMES`.
        years: of follow-up.
        end: day up to which outcomes are known, ``YYYY-MM-DD``.
        seed: of the draw.

    Returns:
        Rows with ``label`` ``disease`` or ``healthy``.

    Raises:
        ManifestError: another outcome, or no case or no control.
    """
    if outcome not in OUTCOMES:
        raise ManifestError(f"Unknown outcome {outcome!r}; known are {', '.join(OUTCOMES)}.")
    last = date.fromisoformat(end)
    people: dict[str, Mapping[str, str]] = {}
    for row in sorted(rows, key=lambda r: (int(r["visit"]), int(r["repeat"]))):
        if row["eye"] == "right" and row["visit_date"] and row["age"]:
            people.setdefault(row["patient_id"], row)
    bands: dict[int, dict[str, list[Mapping[str, str]]]] = {}
    for eid in sorted(people):
        row = people[eid]
        label = _label(row, outcome, years, last)
        if label:
            band = bands.setdefault(int(float(row["age"])) // BAND, {"disease": [], "healthy": []})
            band[label].append(row)
    random = np.random.Generator(np.random.PCG64(seed))
    chosen: list[dict[str, str]] = []
    for _, band in sorted(bands.items()):
        count = min(len(band["disease"]), len(band["healthy"]))
        for label, members in band.items():
            picked = sorted(random.permutation(len(members))[:count].tolist())
            chosen += [{**members[i], "label": label} for i in picked]
    if not chosen:
        raise ManifestError(f"No age band has both a case of {outcome} and a control. Check dates and 'end'.")
    return chosen


def _label(row: Mapping[str, str], outcome: str, years: float, last: date) -> str:
    visit = date.fromisoformat(row["visit_date"][:10])
    reported = _day(row.get(outcome, ""))
    if reported == _UNKNOWN:
        return ""  # the disease at an unknown date: neither case nor control
    if reported is not None:
        after = (reported - visit).days
        return "disease" if 0 < after <= years * 365.25 else ""
    until = min([last, *(d for d in (_day(row.get("death_date", "")), _day(row.get("lost_date", ""))) if d)])
    return "healthy" if (until - visit).days >= years * 365.25 else ""


def _day(text: str) -> date | None:
    return date.fromisoformat(text[:10]) if text else None


def _people(folder: Path) -> dict[str, dict[str, str]]:
    for sheet in sorted(folder.rglob("*.csv")):
        rows = table(sheet)
        if rows and "eid" in rows[0]:
            return {row["eid"]: row for row in rows}
    raise LayoutError(f"{folder} has no table with a column eid. Export one with the fields of the cohort.")


def _field(said: Mapping[str, str], field: str, visit: str) -> str:
    for name in (f"{field}-{visit}.0", f"p{field}_i{visit}", f"f.{field}.{visit}.0", f"p{field}"):
        if name in said:
            return said[name]
    return ""
