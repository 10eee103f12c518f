"""Finished pieces of an evaluation, one file each, so that an interrupted run continues where it was."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from retina_fm._io.files import canonical_json, write_json, written_beside
from retina_fm.evaluation.outcomes import Outcome


class Cell(NamedTuple):
    """One model on one task by one protocol in one setting.

    Attributes:
        figures: as in ``results.json``.
        outcomes: the runs, where the protocol classifies; empty otherwise.
        extra: anything else that a report shows.
    """

    figures: dict[str, Any]
    outcomes: list[Outcome]
    extra: dict[str, Any]


class CellStore:
    """A folder of finished cells, keyed by everything that determines them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.reused = 0

    @staticmethod
    def key(*what: Any) -> str:
        """Hash of what determines a cell."""
        return hashlib.sha256(canonical_json(list(what))).hexdigest()[:20]

    def get(self, key: str) -> Cell | None:
        """A finished cell, or None; a damaged one counts as unfinished."""
        said = self.folder / f"{key}.json"
        try:
            values = json.loads(said.read_text(encoding="utf-8"))
            outcomes = self._outcomes(key, values["outcomes"])
        except (OSError, ValueError, KeyError):
            return None
        self.reused += 1
        return Cell(values["figures"], outcomes, values["extra"])

    def put(self, key: str, cell: Cell) -> None:
        """Keep a cell; its JSON is written last and makes it finished."""
        arrays: dict[str, Any] = {}
        described = []
        for number, outcome in enumerate(cell.outcomes):
            arrays[f"{number}.tested"], arrays[f"{number}.scores"] = outcome.tested, outcome.scores
            arrays.update({f"{number}.part.{name}": rows for name, rows in outcome.parts.items()})
            described.append(
                {"seed": outcome.seed, "parts": list(outcome.parts), "untrained": list(outcome.untrained)}
            )
        if arrays:
            with written_beside(self.folder / f"{key}.npz") as scratch, scratch.open("wb") as stream:
                np.savez(stream, **arrays)
        write_json(
            self.folder / f"{key}.json", {"figures": cell.figures, "outcomes": described, "extra": cell.extra}
        )

    def _outcomes(self, key: str, described: Sequence[dict[str, Any]]) -> list[Outcome]:
        if not described:
            return []
        with np.load(self.folder / f"{key}.npz", allow_pickle=False) as arrays:
            return [
                Outcome(
                    said["seed"],
                    arrays[f"{number}.tested"],
                    arrays[f"{number}.scores"],
                    {name: arrays[f"{number}.part.{name}"] for name in said["parts"]},
                    tuple(said["untrained"]),
                )
                for number, said in enumerate(described)
            ]
