"""How cost grows with rows: the files of ``indexes_scale.py`` as one table and one plot.

    python benchmarks/indexes_growth.py docs/results/indexes

Reads every ``scale_*.json`` there, prints a Markdown table and writes ``growth.png``.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import tables
from matplotlib import pyplot

SPEEDS = {
    "exact, 1 query at a time, queries/s": ("exact, one query", "o-"),
    "exact, 64 at once, queries/s": ("exact, 64 at once", "s-"),
    "approximate, 1 query at a time, queries/s": ("approximate, one query", "o--"),
    "approximate, 64 at once, queries/s": ("approximate, 64 at once", "s--"),
}


def table(runs: list[dict[str, Any]]) -> str:
    """Markdown, a line a number of rows."""
    heads = ["rows", "write, s", "build, s", "own memory, GB", "disk, GB"]
    heads += [name for name, _ in SPEEDS.values()] + ["recall@10 of fresh queries"]
    rows = []
    for run in runs:
        memory = max(run[part]["own_gb"] for part in ("write", "build", "search_memory"))
        cells = [f"{run['rows']:,}", run["write"]["seconds"], run["build"]["seconds"], memory, run["disk_gb"]]
        cells += [f"{run['speed'][key]:,.1f}" if key in run["speed"] else "" for key in SPEEDS]
        cells.append(run.get("recall@10 of 64 fresh queries", ""))
        rows.append([str(cell) for cell in cells])
    return tables.table(heads, rows)


def plot(runs: list[dict[str, Any]], path: Path) -> None:
    """Queries a second, and seconds to write and build, over rows; both axes logarithmic."""
    figure, (left, right) = pyplot.subplots(1, 2, figsize=(11, 4.2))
    for key, (name, style) in SPEEDS.items():
        points = [(run["rows"], run["speed"][key]) for run in runs if key in run["speed"]]
        if points:
            left.loglog(*zip(*points, strict=True), style, label=name)
    left.set(xlabel="rows of 1024 numbers", ylabel="queries a second")
    for part, style in (("write", "o-"), ("build", "s-")):
        right.loglog([r["rows"] for r in runs], [r[part]["seconds"] for r in runs], style, label=part)
    right.set(xlabel="rows of 1024 numbers", ylabel="seconds")
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    folder = parser.parse_args().folder
    runs = [json.loads(path.read_text()) for path in folder.glob("scale_*.json")]
    runs.sort(key=lambda run: run["rows"])
    plot(runs, folder / "growth.png")
    print(table(runs))


if __name__ == "__main__":
    main()
