"""The README's table of results, made from a summary of an evaluation and from nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from retina_fm._io.files import write_bytes
from retina_fm.errors import OutputError
from retina_fm.evaluation.report.markdown import markdown_table
from retina_fm.evaluation.report.tables import Table, tables

BEGIN, END = "<!-- results: written by retina-fm evaluate --readme -->", "<!-- end of results -->"
_SHOWN = {
    "probe": ("auroc",),
    "supervised": ("auroc",),
    "retrieval": ("recall@1",),
    "vessels": ("auroc", "dice"),
}
_NOT_RESULTS = ("draws", "cells")


def summary(results: Mapping[str, Any]) -> dict[str, Any]:
    """Results without drawn ids and values a run: small enough to keep beside the code."""
    entries = []
    for entry in results["results"]:
        figures = {
            name: {k: v for k, v in figure.items() if k not in ("values", "per_class")}
            if isinstance(figure, dict)
            else figure
            for name, figure in entry["figures"].items()
        }
        entries.append({**entry, "figures": figures})
    return {**{k: v for k, v in results.items() if k not in _NOT_RESULTS}, "results": entries}


def readme_table(said: Mapping[str, Any]) -> str:
    """The section between the marks, as Markdown."""
    lines = [BEGIN, ""]
    for table in tables(said):
        if table.metric in _SHOWN.get(table.protocol, ()):
            rows = [
                row for row in table.rows if table.protocol != "vessels" or row[1] in ("0 shots", "1 shots")
            ]
            lines += [f"*{table.protocol}*, " + markdown_table(Table(*table[:3], rows))[0], ""]
            lines += [*markdown_table(Table(*table[:3], rows))[2:], ""]
    lines += [
        "Means with 95 % intervals over patients. Models and versions are in the summary beside it.",
        "",
    ]
    return "\n".join([*lines, END])


def write_readme(path: str | Path, said: Mapping[str, Any]) -> None:
    """Put the table into a README, between its marks.

    Raises:
        OutputError: the marks are not there.
    """
    target = Path(path)
    text = target.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        raise OutputError(f"{target} lacks the lines {BEGIN!r} and {END!r} that the table goes between.")
    before, rest = text.split(BEGIN, 1)
    after = rest.split(END, 1)[1]
    write_bytes(target, (before + readme_table(said) + after).encode())
