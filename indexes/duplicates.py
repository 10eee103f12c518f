"""Pictures that occur twice, and other photographs of one eye: public sets hold both, across splits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes.exact import rescore
from retina_fm.indexes.metadata import comparable, describe
from retina_fm.indexes.space import Space
from retina_fm.signatures import FALSE_ACCEPTS, find_same_eyes, rate_in_words

if TYPE_CHECKING:
    from retina_fm.indexes.image_index import ImageIndex

_QUERIES, _GALLERY = 512, 16_384
NEAR = 0.999
"""Cosine of two embeddings from which on they are taken for one photograph."""


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
        false_accept: how often two different eyes have signatures as alike, a comparison, no less than one in
            a million; None where signatures were not compared.
    """

    first: str
    second: str
    score: float
    same_file: bool
    first_metadata: dict[str, Any] = field(default_factory=dict)
    second_metadata: dict[str, Any] = field(default_factory=dict)
    false_accept: float | None = None

    @property
    def kind(self) -> str:
        """``same file``, ``near`` (one photograph, changed), or ``same eye`` (another photograph of it)."""
        if self.same_file:
            return "same file"
        return "same eye" if self.false_accept is not None and self.score < NEAR else "near"

    @property
    def why(self) -> str:
        """In words."""
        if self.same_file:
            return "same file"
        if self.kind == "near":
            return f"cosine {self.score:.5f}"
        assert self.false_accept is not None
        return f"same eye (false accepts: {rate_in_words(self.false_accept)})"

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
    equal = _equal_files(index)
    pairs = _near(index, threshold)
    pairs.update(_scores(index, sorted(equal - set(pairs))))
    order = sorted(pairs, key=lambda pair: (pair not in equal, -pairs[pair], pair))
    return _described(index, [(pair, pairs[pair], pair in equal, None) for pair in order])


@dataclass(frozen=True)
class SameEyePairs:
    """Pictures of an index that are taken for one eye.

    Attributes:
        pairs: the surest first; exact and near duplicates are among them, see :attr:`Duplicate.kind`.
        without_signature: paths of pictures in which no vessels are seen: nothing can be said of them.
        comparisons: pairs that were compared.
        false_accepts: the rate that was asked for.
        expected_false: pairs of different eyes to be expected among those found: comparisons times the rate.
    """

    pairs: list[Duplicate]
    without_signature: list[str]
    comparisons: int
    false_accepts: float
    expected_false: float


def same_eye_pairs(
    index: ImageIndex,
    false_accepts: float = FALSE_ACCEPTS,
    *,
    turned: bool = True,
    mirrored: bool = False,
) -> SameEyePairs:
    """All pairs of pictures whose signatures are as alike as those of different eyes are at a rate, or more.

    Every pair is compared, in bounded memory: the time grows with the square of the number of pictures. No
    patient ids are needed.

    Args:
        index: with signatures.
        false_accepts: rate a comparison, from one in a million to a tenth.
        turned: try one of each pair turned and zoomed, too; a hundred comparisons instead of one.
        mirrored: try its mirror image, too.

    Raises:
        IndexMismatchError: the index holds no signatures.
        ConfigError: a rate for which no threshold is known.
    """
    state = index.state
    if state.basis is None or state.signatures is None:
        raise IndexMismatchError(
            "This index holds no signatures, so other photographs of an eye cannot be told. Build one of "
            "photos with signature=True."
        )
    live = state.live_positions
    found = find_same_eyes(
        lambda numbers: state.signatures.take(live[numbers]),  # type: ignore[union-attr]
        state.basis, count=len(live), false_accepts=false_accepts, turned=turned, mirrored=mirrored,
    )  # fmt: skip
    equal = _equal_files(index)
    scores = _scores(index, [(pair.first, pair.second) for pair in found.pairs])
    rows = [((p.first, p.second), scores[p.first, p.second], (p.first, p.second) in equal, p.false_accept)
            for p in found.pairs]  # fmt: skip
    known = describe(state, live[found.without_signature].tolist())
    return SameEyePairs(
        _described(index, rows),
        [known[place][0] for place in live[found.without_signature].tolist()],
        found.comparisons,
        found.false_accepts,
        found.expected_false,
    )


_Pair = tuple[int, int]


def _described(index: ImageIndex, rows: Sequence[tuple[_Pair, float, bool, float | None]]) -> list[Duplicate]:
    live = index.state.live_positions
    known = describe(index.state, {int(live[number]) for pair, *_ in rows for number in pair})
    found = []
    for (one, other), score, same, rate in rows:
        (first, about), (second, of_other) = known[int(live[one])], known[int(live[other])]
        found.append(Duplicate(first, second, score, same, about, of_other, rate))
    return found


def _scores(index: ImageIndex, pairs: list[_Pair]) -> dict[_Pair, float]:
    """Cosines of the embeddings of pairs, whitened where the index whitens, a block of pairs at a time."""
    live, found = index.state.live_positions, {}
    for start in range(0, len(pairs), _QUERIES):
        some = pairs[start : start + _QUERIES]
        ones, others = (
            Space().points(index.searcher.points_of(live[list(column)])) for column in zip(*some, strict=True)
        )
        for pair, one, other in zip(some, ones, others, strict=True):
            found[pair] = float(rescore(one, other[None])[0])
    return found


def _near(index: ImageIndex, threshold: float) -> dict[_Pair, float]:
    """Pairs of at least that cosine, block by block, so that not all points are held at once."""
    live, pairs = index.state.live_positions, {}
    points = partial(_points, index, live)
    for first in range(0, len(live), _GALLERY):
        gallery = points(first, first + _GALLERY)
        for start in range(0, min(first + _GALLERY, len(live)), _QUERIES):
            queries = points(start, start + _QUERIES)
            scores = queries @ gallery.T
            ones, others = np.nonzero(scores >= threshold - 1e-4)  # products err; they are scored again
            for one, other in zip(ones.tolist(), others.tolist(), strict=True):
                if start + one < first + other:
                    score = float(rescore(queries[one], gallery[other : other + 1])[0])
                    if score >= threshold:
                        pairs[start + one, first + other] = score
    return pairs


def _points(index: ImageIndex, live: NDArray[np.int64], start: int, end: int) -> NDArray[np.float32]:
    return index.searcher.points_of(live[start:end])


def _equal_files(index: ImageIndex) -> set[tuple[int, int]]:
    groups: dict[str, list[int]] = {}
    for number, (*_, digest) in enumerate(index.state.rows()):
        if digest:
            groups.setdefault(digest, []).append(number)
    return {(one, other) for group in groups.values() for one in group for other in group if one < other}
