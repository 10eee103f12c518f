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
from retina_fm.indexes.state import EMBEDDING, SIGNATURE, State
from retina_fm.signatures import SignatureBasis, rate_in_words

RETRIEVAL = "retrieval"
SPACES = (EMBEDDING, SIGNATURE, RETRIEVAL)
SAME_EYE = 1e-4
"""False accepts a comparison at which a hit is called the same eye."""
_STRANGERS = 0.01
"""Pictures of other eyes that may come first in an answer, on average, however big the gallery is."""


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
        raise ConfigError("space='retrieval' ranks by cosines; this index has metric='dot'.")
    return chosen


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


def asked_by_embedding(queries: Queries) -> Asked:
    """The query as it is."""
    return Asked(queries.embeddings, 1, np.zeros(1, np.float32))


def asked_by_signature(queries: Queries, basis: SignatureBasis, turned: bool, mirrored: bool) -> Asked:
    """The query's signature, and those of it turned, zoomed and mirrored."""
    assert queries.signatures is not None
    variants = queries.signatures[:, None]
    if turned or mirrored:
        variants = basis.variants(queries.signatures, mirrored=mirrored)
    count = variants.shape[1]
    return Asked(variants.reshape(-1, basis.length), count, basis.discounts(count))


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


def same_eye_from(basis: SignatureBasis, gallery: int, *, turned: bool) -> float:
    """The cosine of signatures from which a picture of a gallery counts as the same eye in ``"retrieval"``.

    A big gallery has more strangers to be mistaken for it, so it asks for more.
    """
    return basis.threshold(min(SAME_EYE, _STRANGERS / max(gallery, 1)), turned=turned)


def eyes_first(eyes: Neighbours, alike: Neighbours, least: float) -> Neighbours:
    """Pictures of the same eye, then what is alike: each picture once.

    Args:
        eyes: the K nearest ``(Q, K)`` by signature.
        alike: the K nearest by embedding.
        least: cosine of signatures from which a picture counts as the same eye.

    Returns:
        The K first; those of the same eye score 1 plus the signature's cosine, the others the embedding's.
    """
    best = Neighbours(np.full_like(alike.positions, -1), np.full_like(alike.scores, -np.inf))
    for row, (places, scores) in enumerate(zip(eyes.positions, eyes.scores, strict=True)):
        same = (places >= 0) & (scores >= least)
        others = (alike.positions[row] >= 0) & ~np.isin(alike.positions[row], places[same])
        positions = np.concatenate([places[same], alike.positions[row][others]])
        values = np.concatenate([1 + scores[same], alike.scores[row][others]])
        count = min(len(positions), best.positions.shape[1])
        best.positions[row, :count], best.scores[row, :count] = positions[:count], values[:count]
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
