"""Pairs of pictures that are of one eye, among any number of them, in bounded memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError
from retina_fm.signatures.basis import SignatureBasis, Signatures

FALSE_ACCEPTS = 1e-5
"""A comparison, at which two pictures are taken for one eye unless another rate is asked for."""
_GALLERY, _QUERIES = 4096, 24
"""Rows that are held at once: 2,400 turned queries against 4,096 pictures are 40 MB of cosines."""

Taken = Callable[[NDArray[np.int64]], Signatures]
"""Positions to signatures ``(N, K)``."""


class SameEye(NamedTuple):
    """Two pictures that are taken for one eye.

    Attributes:
        first: position of one.
        second: position of the other, larger.
        cosine: of their signatures, the best of what was tried, less its discount.
        false_accept: how often two different eyes are as alike, a comparison; no less than one in a million.
    """

    first: int
    second: int
    cosine: float
    false_accept: float


class SameEyes(NamedTuple):
    """What a search for pictures of one eye found.

    Attributes:
        pairs: the surest first.
        without_signature: positions of pictures in which no vessels are seen: nothing can be said of them.
        comparisons: pairs that were compared.
        false_accepts: the rate that was asked for.
    """

    pairs: list[SameEye]
    without_signature: list[int]
    comparisons: int
    false_accepts: float

    @property
    def expected_false(self) -> float:
        """Pairs of different eyes that are to be expected among those found: comparisons times the rate."""
        return self.comparisons * self.false_accepts


def find_same_eyes(
    signatures: Signatures | Taken,
    basis: SignatureBasis,
    *,
    count: int | None = None,
    false_accepts: float = FALSE_ACCEPTS,
    turned: bool = True,
    mirrored: bool = False,
) -> SameEyes:
    """All pairs of pictures that are as alike as different eyes are at a rate, or more.

    Every pair is compared, so the time grows with the square of their number; the memory does not.

    Args:
        signatures: ``(N, K)``, or what gives them by position, so that they need not be in memory.
        basis: of the signatures.
        count: N, where ``signatures`` is a function.
        false_accepts: rate a comparison, from one in a million to a tenth.
        turned: try one of each pair turned by up to 22 degrees and zoomed by 0.75 to 1.34, too.
        mirrored: try its mirror image, too.

    Raises:
        ConfigError: a rate for which the basis holds no threshold.
    """
    least, most = float(basis.rates.min()), float(basis.rates.max())
    if not least * 0.999 <= false_accepts <= most * 1.001:
        raise ConfigError(
            f"false_accepts is {false_accepts!r}; thresholds are known from {least:.0e} to {most:.0e}."
        )
    take: Taken = signatures if callable(signatures) else lambda places: signatures[places]
    total = len(signatures) if not callable(signatures) else int(count or 0)
    several = turned or mirrored
    limit = basis.threshold(false_accepts, turned=several)
    pairs: list[SameEye] = []
    empty: list[int] = []
    for columns, gallery in _blocks(take, 0, total, _GALLERY):
        empty += columns[~gallery.any(axis=1)].tolist()
        for rows, queries in _blocks(take, 0, int(columns[-1]) + 1, _QUERIES):
            cosines = _best(basis, queries, gallery, turned, mirrored)
            cosines[rows[:, None] >= columns[None]] = -1.0  # each pair once
            for row, column in zip(*np.nonzero(cosines >= limit), strict=True):
                cosine = float(cosines[row, column])
                rate = basis.false_accept(cosine, turned=several)
                pairs.append(SameEye(int(rows[row]), int(columns[column]), cosine, rate))
    seen = total - len(empty)
    pairs.sort(key=lambda pair: (-pair.cosine, pair.first, pair.second))
    return SameEyes(pairs, empty, seen * (seen - 1) // 2, false_accepts)


def _blocks(take: Taken, first: int, end: int, size: int) -> Iterator[tuple[NDArray[np.int64], Signatures]]:
    for start in range(first, end, size):
        places = np.arange(start, min(start + size, end))
        yield places, np.asarray(take(places), np.float32)


def _best(
    basis: SignatureBasis, queries: Signatures, gallery: Signatures, turned: bool, mirrored: bool
) -> NDArray[np.float32]:
    """``(Q, N)`` cosines; pictures without a signature have 0 at most."""
    if not (turned or mirrored):
        return queries @ gallery.T
    variants = basis.variants(queries, mirrored=mirrored)
    cosines = variants.reshape(-1, basis.length) @ gallery.T
    cosines = cosines.reshape(*variants.shape[:2], len(gallery))
    cosines -= basis.discounts(variants.shape[1])[:, None]
    return np.asarray(cosines.max(axis=1), np.float32)


def rate_in_words(rate: float) -> str:
    """A false-accept rate to one digit, ``1 in 100,000``."""
    scale = 10 ** int(np.floor(np.log10(1 / rate) + 1e-6))
    return f"1 in {int(1 / rate / scale + 1e-6) * int(scale):,}"
