"""Pictures that occur twice: public sets are full of them, also across their splits."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError
from retina_fm.indexes.exact import rescore
from retina_fm.indexes.metadata import comparable, describe

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex

_QUERIES = 512


@dataclass(frozen=True)
class Duplicate:
    """Two pictures that are the same, or nearly.

    Attributes:
        first: path of the one that was added earlier.
        second: path of the other.
        score: cosine of their embeddings, whitened where the index whitens.
        same_file: whether their files are the same byte by byte.
        first_metadata: of the one.
        second_metadata: of the other; comparing ``split`` or ``patient_id`` shows leaks.
    """

    first: str
    second: str
    score: float
    same_file: bool
    first_metadata: dict[str, Any] = field(default_factory=dict)
    second_metadata: dict[str, Any] = field(default_factory=dict)

    def differs_in(self, column: str) -> bool:
        """Whether both have a value in a metadata column, and not the same one."""
        one, other = self.first_metadata.get(column), self.second_metadata.get(column)
        first, second = comparable(column, [one, other])
        return first is not None and second is not None and bool(first != second)


def find_duplicates(index: ImageIndex, threshold: float) -> list[Duplicate]:
    """All pairs of equal files, and all pairs with a cosine of at least ``threshold``, the nearest first.

    Every pair is compared: the time grows with the square of the number of pictures.

    Raises:
        ConfigError: a threshold outside [-1, 1], or an index by inner product.
    """
    if not -1 <= threshold <= 1:
        raise ConfigError(f"threshold is {threshold!r}; a cosine from -1 to 1 is needed.")
    if index.space.metric != "cosine":
        raise ConfigError("Duplicates are found by cosine; this index has metric='dot'.")
    places = index.state.live_positions
    points = index.points()
    pairs = _near(points, threshold)
    equal = _equal_files(index)
    for one, other in sorted(equal - set(pairs)):
        pairs[one, other] = float(rescore(points[one], points[other : other + 1])[0])
    order = sorted(pairs, key=lambda pair: (pair not in equal, -pairs[pair], pair))
    found = describe(index.state, places.tolist())
    described = [found[place] for place in places.tolist()]
    return [
        Duplicate(
            described[one][0],
            described[other][0],
            pairs[one, other],
            (one, other) in equal,
            described[one][1],
            described[other][1],
        )
        for one, other in order
    ]


def _near(points: NDArray[np.float32], threshold: float) -> dict[tuple[int, int], float]:
    pairs = {}
    for start in range(0, len(points), _QUERIES):
        scores = points[start : start + _QUERIES] @ points[start:].T
        ones, others = np.nonzero(scores >= threshold - 1e-4)  # products err; the pairs are scored again
        for one, other in zip(ones.tolist(), others.tolist(), strict=True):
            if one < other:
                score = float(rescore(points[start + one], points[start + other : start + other + 1])[0])
                if score >= threshold:
                    pairs[start + one, start + other] = score
    return pairs


def _equal_files(index: ImageIndex) -> set[tuple[int, int]]:
    groups: dict[str, list[int]] = {}
    for number, (*_, digest) in enumerate(index.state.rows()):
        if digest:
            groups.setdefault(digest, []).append(number)
    return {(one, other) for group in groups.values() for one in group for other in group if one < other}
