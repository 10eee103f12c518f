"""Finished pieces of an evaluation, one file each, so that an interrupted run continues where it was."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from retina_fm._io.files import canonical_json, write_bytes
from retina_fm._io.seals import npz_bytes, read_npz
from retina_fm._io.strict_json import read_json, write_sealed_json
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
            values = read_json(said, nan=True)
            outcomes = self._outcomes(key, values["outcomes"])
        except (OSError, ValueError, LookupError, TypeError):
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
            write_bytes(self.folder / f"{key}.npz", npz_bytes(arrays))
        write_sealed_json(
            self.folder / f"{key}.json", {"figures": cell.figures, "outcomes": described, "extra": cell.extra}
        )

    def _outcomes(self, key: str, described: Sequence[dict[str, Any]]) -> list[Outcome]:
        if not described:
            return []
        arrays = read_npz(self.folder / f"{key}.npz")
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
