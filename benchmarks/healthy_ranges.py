"""Quantiles of measurements over healthy photographs: ``python benchmarks/healthy_ranges.py DATA OUT.csv``.

Photographs: HRF's 15 healthy ones, those of RFMiD 2.0 labelled WNL, and those of the ocular toxoplasmosis set
labelled healthy (all CC BY 4.0), evenly over each set's order. Healthy is what the publishers say.
Photographs of these sets are, without labels, among those that the weights learnt from. Only a quality
of one half and more counts. Lengths are given as shares of the disc's diameter, for cameras differ.
"""

from __future__ import annotations

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retina_fm._io.files import write_bytes
from retina_fm._io.tables import csv_bytes
from retina_fm.measuring import measure
from retina_fm.models import load
from retina_fm.reporting.measurements import IN_DISCS, RANGED

MODEL = "fundus2video-half"
LEAST_QUALITY = 0.5
MOST = {"RFMiD 2.0 (WNL)": 60, "toxoplasmosis set (healthy)": 45}


def photographs(data: Path) -> dict[str, list[str]]:
    """Paths of healthy photographs by set."""
    found = {"HRF (healthy)": [str(p) for p in sorted((data / "pretrain/hrf/images").glob("*_h.*"))]}
    for name, folder, label in (
        ("RFMiD 2.0 (WNL)", "rfmid2", "WNL"),
        ("toxoplasmosis set (healthy)", "toxo", "healthy"),
    ):
        with (data / "pretrain" / folder / "labels.csv").open() as stream:
            rows = [row["path"] for row in csv.DictReader(stream) if row["label"] == label]
        chosen = np.linspace(0, len(rows) - 1, min(MOST[name], len(rows))).round().astype(int)
        found[name] = [str(data / "pretrain" / folder / rows[i]) for i in chosen]
    return found


def columns(rows: Sequence[dict[str, Any]]) -> dict[str, list[float]]:
    """Values by measurement."""
    values: dict[str, list[float]] = {name: [] for name in RANGED}
    for row in rows:
        for name in RANGED:
            value, disc = row.get(name), row["disc_diameter"]
            if value is not None and (name not in IN_DISCS or disc):
                values[name].append(value / disc if name in IN_DISCS else value)
    return values


def main(data: Path, out: Path) -> None:
    """Measure and write."""
    rows, sources = [], []
    for name, paths in photographs(data).items():
        measured = measure(paths, MODEL, on_error="skip", progress=False).to_pylist()
        good = [row for row in measured if row["quality"] >= LEAST_QUALITY]
        sources.append(f"{len(good)} of {name}")
        rows += good
    weights = load(MODEL).weights_sha256[:16]
    said = f"{len(rows)} healthy photographs of quality {LEAST_QUALITY} and more: {', '.join(sources)}"
    table = []
    for name, values in columns(rows).items():
        if len(values) >= 20:
            low, median, high = np.quantile(values, (0.05, 0.5, 0.95))
            table.append((name, f"{low:.5g}", f"{median:.5g}", f"{high:.5g}", len(values), weights, said))
    names = ["measurement", "low", "median", "high", "photos", "weights", "sources"]
    write_bytes(out, csv_bytes(names, table))
    print(said)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
