"""Where healthy photographs lie: quantiles of each measurement, measured once by the model they belong to."""

from __future__ import annotations

import csv
from functools import cache
from importlib import resources
from typing import NamedTuple

TABLE = "healthy_ranges.csv"
"""Written by ``benchmarks/healthy_ranges.py``, which says which photographs they are."""


class HealthyRange(NamedTuple):
    """Quantiles of one measurement over healthy photographs.

    Attributes:
        low, median, high: its 5th, 50th and 95th percentile.
        photos: in which it could be measured.
    """

    low: float
    median: float
    high: float
    photos: int


def healthy_ranges(weights_sha256: str) -> dict[str, HealthyRange]:
    """Ranges by column; empty for weights that were not measured, whose numbers mean something else."""
    return {
        row["measurement"]: HealthyRange(
            float(row["low"]), float(row["median"]), float(row["high"]), int(row["photos"])
        )
        for row in _rows()
        if weights_sha256.startswith(row["weights"])
    }


def healthy_sources() -> str:
    """Which photographs, in a sentence."""
    return next((row["sources"] for row in _rows()), "")


@cache
def _rows() -> list[dict[str, str]]:
    text = resources.files(__package__).joinpath(TABLE).read_text(encoding="utf-8")
    return list(csv.DictReader(text.splitlines()))
