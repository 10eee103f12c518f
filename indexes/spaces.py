"""What may be compared: embeddings, signatures, or both at once; and what a query stands for in each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, IndexMismatchError, nearest
from retina_fm.indexes.exact import Neighbours, Positions
from retina_fm.indexes.queries import Queries
from retina_fm.indexes.space import Space
from retina_fm.indexes.state import EMBEDDING, SIGNATURE, State
from retina_fm.signatures import SignatureBasis, rate_in_words

RETRIEVAL = "retrieval"
SPACES = (EMBEDDING, SIGNATURE, RETRIEVAL)
SIGNATURE_SHARE = 0.5
"""Of the score of the joined space; the rest is the embedding's cosine."""
SAME_EYE = 1e-4
"""False accepts a comparison at which a hit is called the same eye."""


class Rows(Protocol):
    """Vectors by place, as a searcher reads them."""

    dimension: int

    def blocks(self, first: int = 0) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """From a place on, as (first place, block) pairs."""
        ...

    def take(self, places: Positions) -> NDArray[np.float32]:
        """At some places."""
        ...


class Compared(Protocol):
    """How rows become points that are compared by their inner product."""

    @property
    def longest(self) -> float | None:
        """Bound of the points' lengths."""
        ...

    def points(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Rows to points."""
        ...


class JoinedRows:
    """Embeddings with the signatures of the same places beside them."""

    def __init__(self, embeddings: Rows, signatures: Rows) -> None:
        self.parts = embeddings, signatures
        self.dimension = embeddings.dimension + signatures.dimension

    def blocks(self, first: int = 0) -> Iterator[tuple[int, NDArray[np.floating]]]:
        """From a place on, as (first place, block) pairs."""
        for (start, one), (_, other) in zip(*(part.blocks(first) for part in self.parts), strict=True):
            yield start, np.concatenate([one, other], axis=1, dtype=np.float32)

    def take(self, places: Positions) -> NDArray[np.float32]:
        """At some places."""
        return np.concatenate([part.take(places) for part in self.parts], axis=1)


@dataclass(frozen=True)
class JoinedSpace:
    """Inner product of points: a weighted mean of the embedding's and the signature's cosine.

    Attributes:
        embedding: how embeddings are compared.
        dimension: of an embedding.
        share: of the signature.
    """

    embedding: Space
    dimension: int
    share: float = SIGNATURE_SHARE

    @property
    def longest(self) -> float | None:
        """Bound of the points' lengths."""
        return self.embedding.longest

    def points(self, embeddings: NDArray[Any]) -> NDArray[np.float32]:
        """Rows ``(N, D + K)`` to points."""
        rows = embeddings
        first = self.embedding.points(rows[:, : self.dimension]) * np.float32(np.sqrt(1 - self.share))
        second = Space().points(rows[:, self.dimension :]) * np.float32(np.sqrt(self.share))
        return np.concatenate([first, second], axis=1)


def checked_space(space: str | None, state: State) -> str:
    """The space that is meant; without a word, embeddings.

    Raises:
        ConfigError: there is no such space, or it does not go with the index's metric.
        IndexMismatchError: the index holds no signatures.
    """
    chosen = EMBEDDING if space is None else space
    if chosen not in SPACES:
        raise ConfigError(f"space is {space!r}. {nearest(str(space), SPACES)}")
    if chosen != EMBEDDING and state.basis is None:
        raise IndexMismatchError(
            f"space={chosen!r}: this index holds no signatures. Build one of photos with signature=True."
        )
    if chosen == RETRIEVAL and state.manifest.metric != "cosine":
        raise ConfigError("space='retrieval' joins cosines; this index has metric='dot'.")
    return chosen


def rows_and_space(name: str, state: State, space: Space) -> tuple[Rows, Compared]:
    """What a searcher of that space reads, and how it compares."""
    if name == EMBEDDING:
        return state.vectors, space
    assert state.signatures is not None
    if name == SIGNATURE:
        return state.signatures, Space()
    return JoinedRows(state.vectors, state.signatures), JoinedSpace(space, state.dimension)


@dataclass(frozen=True)
class Asked:
    """Queries as rows of a space: each as it is, and turned and zoomed.

    Attributes:
        rows: ``(Q * V, W)``.
        variants: V.
        discounts: ``(V,)``, taken off the score of each.
    """

    rows: NDArray[np.float32]
    variants: int
    discounts: NDArray[np.float32]


def asked_in(
    name: str, queries: Queries, basis: SignatureBasis | None, turned: bool, mirrored: bool
) -> Asked:
    """What to look for.

    Raises:
        ConfigError: mirror images of what has no signature.
    """
    if name == EMBEDDING:
        if mirrored:
            raise ConfigError("mirrored=True goes with space='signature' or 'retrieval'.")
        return Asked(queries.embeddings, 1, np.zeros(1, np.float32))
    assert basis is not None and queries.signatures is not None
    variants = queries.signatures[:, None]
    if turned or mirrored:
        variants = basis.variants(queries.signatures, mirrored=mirrored)
    count = variants.shape[1]
    rows = variants.reshape(-1, basis.length)
    discounts = basis.discounts(count)
    if name == RETRIEVAL:
        rows = np.concatenate([np.repeat(queries.embeddings, count, axis=0), rows], axis=1)
        discounts = discounts * np.float32(SIGNATURE_SHARE)
    return Asked(rows, count, discounts)


def best_of(found: Neighbours, asked: Asked, k: int) -> Neighbours:
    """The k best of all variants of each query, every picture once, with its best score."""
    if asked.variants == 1:
        return found
    count = len(asked.rows) // asked.variants
    positions = found.positions.reshape(count, asked.variants, -1)
    scores = found.scores.reshape(positions.shape) - asked.discounts[:, None]
    best = Neighbours(np.full((count, k), -1, np.int64), np.full((count, k), -np.inf, np.float32))
    for row in range(count):
        places, values = positions[row].ravel(), scores[row].ravel()
        order = np.lexsort((places, -values))
        order = order[places[order] >= 0]
        _, first = np.unique(places[order], return_index=True)
        chosen = order[np.sort(first)][:k]
        best.positions[row, : len(chosen)] = places[chosen]
        best.scores[row, : len(chosen)] = values[chosen]
    return best


def reasons(
    basis: SignatureBasis,
    query: NDArray[np.float32],
    hits: NDArray[np.float32],
    *,
    turned: bool,
    mirrored: bool,
) -> list[tuple[str, float | None]]:
    """Of each hit, in words, why it was found, and the false accepts a comparison at its signature's cosine.

    Args:
        basis: of the signatures.
        query: ``(K,)``.
        hits: ``(H, K)``.
        turned: whether the query was turned and zoomed.
        mirrored: whether it was mirrored, too.
    """
    variants = query[None]
    if turned or mirrored:
        variants = basis.variants(query[None], mirrored=mirrored)[0]
    cosines = (variants @ hits.T - basis.discounts(len(variants))[:, None]).max(axis=0)
    found: list[tuple[str, float | None]] = []
    for cosine, hit in zip(cosines.tolist(), hits, strict=True):
        if not query.any() or not hit.any():
            found.append(("similar (no vessels to compare)", None))
            continue
        rate = basis.false_accept(cosine, turned=turned or mirrored)
        same = f"same eye (false accepts: {rate_in_words(rate)})"
        found.append((same if rate <= SAME_EYE else "similar", rate))
    return found
