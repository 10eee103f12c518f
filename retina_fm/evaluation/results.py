"""What an evaluation gives back: the dictionary of ``results.json``, in a line or a small table."""

from __future__ import annotations

from typing import Any

from retina_fm._notebook import fact_table, in_a_line
from retina_fm.evaluation.report.tables import tables, written


class Results(dict[str, Any]):
    """What ``results.json`` holds: a plain dictionary that says itself in a line."""

    def __repr__(self) -> str:
        return in_a_line("Results", self._facts())

    def _repr_html_(self) -> str:
        """Every figure with its interval, as notebooks show it."""
        figures = [
            (f"{table.protocol}, {task}, {setting}, {model}: {table.metric}", written(figure))
            for table in tables(self)
            for task, setting, row in table.rows
            for model, figure in zip(table.models, row, strict=True)
        ]
        return fact_table("Evaluation", [*self._facts(), *figures])

    def _facts(self) -> list[tuple[str, Any]]:
        return [
            ("suite", self["suite"]),
            ("models", ", ".join(self["models"])),
            ("tasks", ", ".join(self["tasks"])),
            ("cells", len(self["results"])),
            ("skipped", len(self["skipped"]) or None),
        ]


__all__ = ["Results"]
