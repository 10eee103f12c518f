"""How benchmarks here show what they found: Markdown on the screen, JSON on disk, means with intervals."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from retina_fm._io.files import write_json
from retina_fm.metrics.intervals import mean_interval


def table(heads: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table in Markdown; a figure with an interval is ``{"mean": .., "low": .., "high": ..}``."""
    lines = ["| " + " | ".join(heads) + " |", "|" + "---|" * len(heads)]
    lines += ["| " + " | ".join(map(cell, row)) + " |" for row in rows]
    return "\n".join(lines)


def cell(value: Any) -> str:
    """A figure in a table: three digits, or its mean with the interval."""
    if isinstance(value, Mapping):
        middle = value.get("mean", value.get("median"))
        return f"{middle:.3f} ({value['low']:.3f} to {value['high']:.3f})"
    if isinstance(value, bool):
        return "yes" if value else "NO"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def interval(values: Sequence[float]) -> dict[str, float]:
    """Mean and 95 % interval (1.96 standard errors); NaN for that of one value."""
    found = mean_interval(values)
    return {name: float("nan") if one is None else one for name, one in found._asdict().items()}


def bootstrapped(values: Sequence[float], random: np.random.Generator, draws: int = 2000) -> dict[str, float]:
    """Mean of what is known and the 95 % interval of a bootstrap over it."""
    known = np.asarray(values, float)
    means = np.nanmean(known[random.integers(0, len(known), (draws, len(known)))], 1)
    low, high = np.percentile(means, (2.5, 97.5))
    return {"mean": float(np.nanmean(known)), "low": float(low), "high": float(high)}


def written(path: Path, value: Any) -> None:
    """Write what was found as JSON, and say where."""
    write_json(path, json.loads(json.dumps(value, default=float)))
    print(f"wrote {path}")
