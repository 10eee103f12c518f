"""Figures of merit: AUROC, average precision, Dice; weighted, many weightings at once, ties as ties.

A weight of a row is how often it counts, so that a bootstrap is one call with a matrix of weights.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retina_fm.errors import ConfigError

Floats = NDArray[np.float64]
Metric = Callable[[NDArray[np.bool_], Floats, Floats | None], Floats]


def auroc(truth: ArrayLike, scores: ArrayLike, weights: Floats | None = None) -> Floats:
    """Area under the ROC curve: how often a positive scores above a negative, ties counting one half.

    Args:
        truth: bool ``(N,)``.
        scores: ``(N,)``, higher for the positive class.
        weights: ``(..., N)``, one weighting a row; every row counts once without it.

    Returns:
        ``(...)``, NaN where a weighting leaves no positive or no negative.
    """
    positive, negative, groups = _cumulable(truth, scores, weights)
    per_group_positive = np.add.reduceat(positive, groups, axis=-1)
    per_group_negative = np.add.reduceat(negative, groups, axis=-1)
    above = np.cumsum(per_group_positive, axis=-1) - per_group_positive / 2
    pairs = positive.sum(-1) * negative.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.where(pairs > 0, (above * per_group_negative).sum(-1) / pairs, np.nan))


def average_precision(truth: ArrayLike, scores: ArrayLike, weights: Floats | None = None) -> Floats:
    """Area under the precision-recall curve as a step function (average precision); ties are one step.

    Args:
        truth: bool ``(N,)``.
        scores: ``(N,)``.
        weights: see :func:`auroc`.

    Returns:
        ``(...)``, NaN where a weighting leaves no positive.
    """
    positive, negative, groups = _cumulable(truth, scores, weights)
    gained = np.add.reduceat(positive, groups, axis=-1)
    found = np.cumsum(gained, axis=-1)
    called = found + np.cumsum(np.add.reduceat(negative, groups, axis=-1), axis=-1)
    total = positive.sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(called > 0, found / called, 0.0)
        return np.asarray(np.where(total > 0, (gained * precision).sum(-1) / total, np.nan))


class Macro(NamedTuple):
    """A figure of a problem with several classes.

    Attributes:
        mean: ``(...)`` over the classes that can be judged; of the second class alone for two classes.
        per_class: ``(..., C)``, NaN for classes without a positive or without a negative.
    """

    mean: Floats
    per_class: Floats


def macro(metric: Metric, truth: ArrayLike, scores: ArrayLike, weights: Floats | None = None) -> Macro:
    """A binary figure a class against the rest, averaged (the paper, Methods: macro).

    Two classes make a binary problem, judged by the second class's score. A class that a part lacks cannot
    be judged there; it stays out of the mean, and ``per_class`` shows it as NaN.

    Args:
        metric: :func:`auroc` or :func:`average_precision`.
        truth: class of each row as a number ``(N,)``.
        scores: ``(N, C)``.
        weights: ``(..., N)``.

    Raises:
        ConfigError: the shapes do not belong together.
    """
    index, table = np.asarray(truth), np.asarray(scores, np.float64)
    if table.ndim != 2 or table.shape[1] < 2 or len(table) != len(index):
        raise ConfigError(f"Scores have shape {table.shape} for {len(index)} rows; (N, C) is needed, C >= 2.")
    per_class = np.stack(
        [_judged(metric, index == c, table[:, c], weights) for c in range(table.shape[1])], -1
    )
    if table.shape[1] == 2:
        return Macro(per_class[..., 1], per_class)
    counted = ~np.isnan(per_class)
    total = np.where(counted, per_class, 0.0).sum(-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = np.where(counted.any(-1), total / counted.sum(-1), np.nan)
    return Macro(np.asarray(mean), per_class)


def _judged(metric: Metric, truth: NDArray[np.bool_], scores: Floats, weights: Floats | None) -> Floats:
    values = metric(truth, scores, weights)
    if metric is average_precision:  # where there are no negatives it is 1 and says nothing
        counted = np.ones(len(truth)) if weights is None else weights
        values = np.where((counted * ~truth).sum(-1) > 0, values, np.nan)
    return np.asarray(values)


def macro_ranked(truth: NDArray[np.int64], ranks: Floats) -> Floats:
    """Macro AUROC from ranks ``(..., N, C)`` (ties averaged), for permutation tests; ``(...)``.

    The rank sum of the positives is the Mann-Whitney form of the area, so nothing has to be sorted.
    """
    values = []
    classes = ranks.shape[-1]
    for c in range(1, 2) if classes == 2 else range(classes):
        positive = truth == c
        n, m = int(positive.sum()), int((~positive).sum())
        if n and m:
            values.append((ranks[..., positive, c].sum(-1) - n * (n + 1) / 2) / (n * m))
    return np.mean(values, axis=0) if values else np.full(ranks.shape[:-2], np.nan)


def dice(prediction: ArrayLike, truth: ArrayLike, inside: ArrayLike | None = None) -> float:
    """Dice coefficient ``2 |A and B| / (|A| + |B|)`` of two masks; 1 where both are empty.

    Args:
        prediction: bool, any shape.
        truth: of the same shape.
        inside: where to count, for example the field of view.
    """
    first, second = np.asarray(prediction, bool), np.asarray(truth, bool)
    if first.shape != second.shape:
        raise ConfigError(f"Masks of shapes {first.shape} and {second.shape} cannot be compared.")
    if inside is not None:
        first, second = first & np.asarray(inside, bool), second & np.asarray(inside, bool)
    total = int(first.sum()) + int(second.sum())
    return 2 * int((first & second).sum()) / total if total else 1.0


def best_threshold(
    pictures: Sequence[tuple[ArrayLike, ArrayLike, ArrayLike | None]],
    candidates: Sequence[float] | Floats,
    *,
    together: bool = False,
) -> float:
    """The threshold from which pixels are called so that the Dice is highest.

    Args:
        pictures: scores, wanted pixels, and where to count (everywhere for None), each of one shape.
        candidates: thresholds to try, ascending.
        together: take the Dice over the pixels of all pictures, and of equally good thresholds the middle
            one; otherwise the mean of the pictures' own, and the lowest.
    """
    flat = [
        (np.asarray(scores)[keep], np.asarray(wanted, bool)[keep])
        for scores, wanted, inside in pictures
        for keep in [np.ones(np.shape(scores), bool) if inside is None else np.asarray(inside, bool)]
    ]
    if together:
        flat = [(np.concatenate([one for one, _ in flat]), np.concatenate([two for _, two in flat]))]
    found = np.array([np.mean([dice(s >= t, wanted) for s, wanted in flat]) for t in candidates])
    best = np.flatnonzero(found >= found.max() - 1e-9) if together else [int(np.argmax(found))]
    return float(candidates[best[len(best) // 2]])


def _cumulable(
    truth: ArrayLike, scores: ArrayLike, weights: Floats | None
) -> tuple[Floats, Floats, NDArray[np.intp]]:
    """Weights of positives and of negatives by falling score, and where each run of equal scores begins."""
    flags, values = np.asarray(truth, bool).ravel(), np.asarray(scores, np.float64).ravel()
    if flags.shape != values.shape:
        raise ConfigError(f"{flags.size} labels and {values.size} scores do not belong together.")
    if not flags.size:
        raise ConfigError("There is nothing to judge: no rows at all.")
    if np.isnan(values).any():
        raise ConfigError(
            f"{int(np.isnan(values).sum())} scores are NaN; a figure of them would mean nothing."
        )
    order = np.argsort(-values, kind="stable")
    ordered, flags = values[order], flags[order]
    groups = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    counted = np.ones(flags.size) if weights is None else np.asarray(weights, np.float64)[..., order]
    return counted * flags, counted * ~flags, groups
