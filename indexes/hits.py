"""What a search gives back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Hit:
    """One picture that was found.

    Attributes:
        path: of the picture, as it can be opened from here; the row number of a plain array.
        score: cosine or inner product with the query; higher is nearer. Equal scores come in the order in
            which the pictures were added.
        rank: from 1.
        metadata: of the picture, by column.
    """

    path: str
    score: float
    rank: int
    metadata: Mapping[str, Any] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rank": self.rank, "score": self.score, "path": self.path, "metadata": dict(self.metadata)}
