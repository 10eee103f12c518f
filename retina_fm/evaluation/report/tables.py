"""Tables of figures: a row a task and setting, a column a model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

SHOWN = {
    "retrieval": ("recall@1", "recall@5", "recall@10", "recall_mean"),
    "vessels": ("auroc", "dice"),
    "video": ("psnr", "psnr_public_code", "ssim", "lpips", "fvd"),
}
"""Metrics of a protocol; those that classify have AUROC and AUPR."""
NAMES = {
    "auroc": "AUROC",
    "aupr": "AUPR",
    "dice": "Dice",
    "recall_mean": "mean recall",
    "psnr": "PSNR, dB",
    "psnr_public_code": "PSNR as in the public code, dB",
    "ssim": "SSIM",
    "lpips": "LPIPS",
    "fvd": "FVD",
}


class Table(NamedTuple):
    """A table of one metric by one protocol.

    Attributes:
        protocol: by which the figures were made.
        metric: shown.
        models: names of the columns.
        rows: task and setting, then a figure a model; None where there is none.
    """

    protocol: str
    metric: str
    models: list[str]
    rows: list[tuple[str, str, list[dict[str, Any] | None]]]


def tables(results: Mapping[str, Any], metrics: Sequence[str] | None = None) -> list[Table]:
    """All tables of an evaluation, protocols in the order they were run."""
    found = []
    entries = results["results"]
    for protocol in dict.fromkeys(entry["protocol"] for entry in entries):
        mine = [entry for entry in entries if entry["protocol"] == protocol]
        models = list(dict.fromkeys(entry["model"] for entry in mine))
        for metric in SHOWN.get(protocol, ("auroc", "aupr")):
            if metrics is not None and metric not in metrics:
                continue
            rows = []
            for task, setting in dict.fromkeys((entry["task"], entry["setting"]) for entry in mine):
                by_model = {
                    entry["model"]: entry["figures"].get(metric)
                    for entry in mine
                    if (entry["task"], entry["setting"]) == (task, setting)
                }
                if any(by_model.values()):
                    rows.append((task, setting, [by_model.get(model) for model in models]))
            if rows:
                found.append(Table(protocol, metric, models, rows))
    return found


def interval_of(figure: Mapping[str, Any]) -> tuple[float, float] | None:
    """The interval to show: over patients where there is one, else over runs."""
    for place in (figure.get("bootstrap") or {}, figure):
        if place.get("low") is not None and place.get("high") is not None:
            return float(place["low"]), float(place["high"])
    return None


def written(figure: Mapping[str, Any] | None, digits: int = 3) -> str:
    """A figure with its interval, ``0.812 (0.790-0.834)``."""
    if figure is None or figure.get("mean") is None:
        return "-"
    text = f"{figure['mean']:.{digits}f}"
    interval = interval_of(figure)
    return text if interval is None else f"{text} ({interval[0]:.{digits}f}-{interval[1]:.{digits}f})"


def text_tables(results: Mapping[str, Any]) -> list[str]:
    """The tables of the first metric of each protocol as lines for a terminal."""
    lines = []
    for table in tables(results, ("auroc", "dice", "recall@1", "recall_mean", "psnr", "ssim")):
        heads = [table.protocol + ", " + NAMES.get(table.metric, table.metric), *table.models]
        rows = [
            [f"{task}, {setting}", *(written(f) for f in figures)] for task, setting, figures in table.rows
        ]
        widths = [max(len(row[i]) for row in [heads, *rows]) for i in range(len(heads))]
        for row in [heads, *rows]:
            cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
            lines.append("  ".join(cells).rstrip())
        lines.append("")
    return lines
