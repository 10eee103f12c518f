"""What a search gives back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from retina_fm.errors import MissingDependencyError

_SHOWN = 20


@dataclass(frozen=True)
class Hit:
    """One picture that was found.

    Attributes:
        path: of the picture, as it can be opened from here; the row number of a plain array.
        score: cosine or inner product with the query; higher is nearer. Equal scores come in the order in
            which the pictures were added.
        rank: from 1.
        metadata: of the picture, by column.
        why: it was found: ``"same eye (false accepts: 1 in 100,000)"`` or ``"similar"``.
        false_accept: how often the signatures of different eyes are as alike, a comparison; None where no
            signatures were compared.
    """

    path: str
    score: float
    rank: int
    metadata: Mapping[str, Any] = field(default_factory=dict)
    why: str = "similar"
    false_accept: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {"rank": self.rank, "score": self.score, "path": self.path, "metadata": dict(self.metadata),
                "why": self.why, "false_accept": self.false_accept}  # fmt: skip


class Hits(list[Hit]):
    """The hits of one query, nearest first; a list that can be looked at.

    Attributes:
        photo: the query, in any form that can be read; None where it was an embedding.
        name: of the query.
        metadata: of the query, where it is in the index.
    """

    def __init__(
        self,
        hits: Iterable[Hit] = (),
        photo: Any = None,
        name: str = "query",
        metadata: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(hits)
        self.photo = photo
        self.name = name
        self.metadata = dict(metadata or {})

    def __repr__(self) -> str:
        lines = [f"{len(self)} hits for {self.name}"]
        for hit in self[:_SHOWN]:
            notes = "  ".join(f"{key}={value}" for key, value in hit.metadata.items() if value is not None)
            why = "" if hit.why == "similar" else f"  {hit.why}"
            lines.append(f"{hit.rank:4d}  {hit.score:.4f}  {hit.path}{why}  {notes}".rstrip())
        return "\n".join([*lines, *(["..."] if len(self) > _SHOWN else [])])

    def _repr_html_(self) -> str:
        """A small gallery, as notebooks show it."""
        from retina_fm.indexes.gallery import fragment

        return fragment([Hits(self[:_SHOWN], self.photo, self.name, self.metadata)])

    def to_pandas(self) -> Any:
        """A data frame with ``rank``, ``score``, ``path`` and a column for each of the metadata.

        Where signatures spoke, a column ``why`` says so.

        Raises:
            MissingDependencyError: pandas is not installed.
        """
        try:
            import pandas  # type: ignore[import-untyped, unused-ignore]
        except ImportError:
            raise MissingDependencyError("pandas is not installed; pip install pandas.") from None
        told = any(hit.why != "similar" for hit in self)  # where signatures were compared
        rows = [
            {
                "rank": hit.rank,
                "score": hit.score,
                "path": hit.path,
                **({"why": hit.why} if told else {}),
                **hit.metadata,
            }
            for hit in self
        ]
        return pandas.DataFrame(rows, columns=None if rows else ["rank", "score", "path"])

    def save_gallery(self, path: str | Path, *, title: str = "Search", same: str = "patient_id") -> Path:
        """The query and its hits as one page or sheet; see :func:`retina_fm.indexes.save_gallery`."""
        from retina_fm.indexes.gallery import save_gallery

        return save_gallery([self], path, title=title, same=same)
