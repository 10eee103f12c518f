"""Intervals and tests: over runs as in the paper, over patients by bootstrap, paired tests of two models."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from retina_fm.errors import ConfigError
from retina_fm.metrics.scores import Floats, macro_ranked

Z95 = 1.96
_EXACT = 12
"""Up to this many pairs every assignment of signs is tried: 4,096 of them."""


class Interval(NamedTuple):
    """A mean with its 95 % interval; the bounds are None where there is one value."""

    mean: float
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        """For ``results.json``; NaN becomes None there."""
        return {name: finite(value) for name, value in self._asdict().items()}


def finite(value: float | None) -> float | None:
    """The number for JSON, which knows no NaN."""
    return None if value is None or not math.isfinite(value) else float(value)


def mean_interval(values: ArrayLike) -> Interval:
    """Mean over runs, and 1.96 standard errors to either side (the paper, Methods).

    Five runs make this interval narrow: Student's t would take 2.78. It is reported because the paper
    reports it, beside a bootstrap over patients.
    """
    numbers = np.asarray(values, np.float64)
    if numbers.size == 0:
        return Interval(math.nan, None, None)
    mean = float(numbers.mean())
    if numbers.size == 1:
        return Interval(mean, None, None)
    half = Z95 * float(numbers.std(ddof=1)) / math.sqrt(numbers.size)
    return Interval(mean, mean - half, mean + half)


def patient_weights(patients: Sequence[Any] | NDArray[Any], samples: int, seed: int) -> Floats:
    """How often each row counts in every bootstrap sample of patients, ``(samples, N)``.

    Patients are drawn with replacement, as many as there are; a drawn patient brings all pictures. Without
    samples there are no rows, and :func:`bootstrap_of` says nothing.
    """
    _, member = np.unique(np.asarray(patients).astype(str), return_inverse=True)
    count = int(member.max()) + 1
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = random.integers(0, count, (samples, count))
    times = np.zeros((samples, count))
    np.add.at(times, (np.arange(samples)[:, None], drawn), 1.0)
    return times[:, member]


def patient_bootstrap(
    values: NDArray[Any], patients: NDArray[Any], repeats: int = 2000, seed: int = 0
) -> list[Interval]:
    """Means of the columns of ``(Q, M)`` values over queries, with 95 % percentile intervals.

    Patients are drawn with replacement, each with all of its queries, since queries of one patient are alike.
    """
    _, owners = np.unique(patients, return_inverse=True)
    number = int(owners.max()) + 1
    sums = np.zeros((number, values.shape[1]))
    np.add.at(sums, owners, values)
    sizes = np.bincount(owners, minlength=number).astype(np.float64)
    random = np.random.Generator(np.random.PCG64(seed))
    drawn = np.empty((repeats, values.shape[1]))
    for repeat in range(repeats):
        times = np.bincount(random.integers(0, number, number), minlength=number)
        drawn[repeat] = times @ sums / (times @ sizes)
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0) if repeats else (values.mean(0), values.mean(0))
    return [Interval(*map(float, row)) for row in zip(values.mean(axis=0), low, high, strict=True)]


def percentile_interval(samples: ArrayLike) -> tuple[float | None, float | None]:
    """The 2.5 and 97.5 % points of bootstrap figures; samples that could not be judged are left out."""
    numbers = np.asarray(samples, np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if numbers.size < 2:
        return None, None
    low, high = np.quantile(numbers, (0.025, 0.975))
    return float(low), float(high)


def bootstrap_of(samples: ArrayLike) -> dict[str, dict[str, float | None]]:
    """The ``bootstrap`` of a figure, ``low`` and ``high``, for ``results.json``; empty without samples."""
    if not np.size(samples):
        return {}
    low, high = percentile_interval(samples)
    return {"bootstrap": {"low": low, "high": high}}


def weighted_means(values: ArrayLike, weights: Floats) -> Floats:
    """The mean of values ``(N,)`` in every bootstrap sample ``(samples, N)``."""
    return np.asarray(weights @ np.asarray(values, np.float64) / weights.sum(1))


def t_test(first: ArrayLike, second: ArrayLike) -> float | None:
    """Two-sided p of the paired t-test over runs; both models saw the same draws in each run.

    Returns:
        None with fewer than two runs; 1 where no run differs.
    """
    from scipy.stats import ttest_rel

    one, two = np.asarray(first, np.float64), np.asarray(second, np.float64)
    if one.shape != two.shape:
        raise ConfigError(
            f"{one.size} and {two.size} runs cannot be paired; both models need the same seeds."
        )
    if one.size < 2:
        return None
    differences = one - two
    if not differences.any():
        return 1.0
    if np.ptp(differences) == 0:
        return 0.0  # the same gap in every run: t is infinite
    return float(ttest_rel(one, two).pvalue)


def sign_flip_test(differences: ArrayLike, *, samples: int = 10_000, seed: int = 0) -> float | None:
    """Two-sided p of a paired permutation test: is the mean of paired differences zero?

    Under the null hypothesis either model could have made either value of a pair, so every assignment of
    signs is as likely. All are tried up to 12 pairs, otherwise ``samples`` random ones.

    Args:
        differences: one a pair: a picture, a patient.
        samples: random assignments.
        seed: of these.
    """
    numbers = np.asarray(differences, np.float64)
    if numbers.size < 2:
        return None
    observed = abs(numbers.sum())
    slack = 1e-12 * np.abs(numbers).sum()  # sums in another order differ in their last bits
    if numbers.size <= _EXACT:
        signs = np.array(list(itertools.product((-1.0, 1.0), repeat=numbers.size)))
        return float((np.abs(signs @ numbers) >= observed - slack).mean())
    random = np.random.Generator(np.random.PCG64(seed))
    hits = 1  # the assignment that was observed
    for start in range(0, samples, 1000):
        signs = random.integers(0, 2, (min(1000, samples - start), numbers.size)) * 2.0 - 1
        hits += int((np.abs(signs @ numbers) >= observed - slack).sum())
    return hits / (samples + 1)


class PairedRun(NamedTuple):
    """Two models' scores of the same rows in one run.

    Attributes:
        truth: class numbers ``(N,)``.
        patients: ``(N,)``.
        first: ``(N, C)`` scores of one model.
        second: ``(N, C)`` scores of the other.
    """

    truth: NDArray[np.int64]
    patients: NDArray[Any]
    first: Floats
    second: Floats


def swap_test(runs: Sequence[PairedRun], *, samples: int = 1000, seed: int = 0) -> float:
    """Two-sided p of a paired permutation test of macro AUROC: the models' scores swapped a patient.

    Scores of two models have no common scale, so they are replaced by their ranks within model and class
    before they are swapped (Venkatraman and Begg, Biometrika 1996). A patient is swapped in all runs alike.

    Args:
        runs: one a seed.
        samples: random assignments.
        seed: of these.
    """
    from scipy.stats import rankdata

    names = np.unique(np.concatenate([run.patients.astype(str) for run in runs]))
    random = np.random.Generator(np.random.PCG64(seed))
    swaps = random.integers(0, 2, (samples, len(names))).astype(bool)
    observed, permuted = 0.0, np.zeros(samples)
    for run in runs:
        first, second = rankdata(run.first, axis=0), rankdata(run.second, axis=0)
        observed += float(macro_ranked(run.truth, first) - macro_ranked(run.truth, second))
        member = np.searchsorted(names, run.patients.astype(str))
        for start in range(0, samples, 100):
            chosen = swaps[start : start + 100, member][..., None]
            one = rankdata(np.where(chosen, second, first), axis=1)
            two = rankdata(np.where(chosen, first, second), axis=1)
            permuted[start : start + 100] += macro_ranked(run.truth, one) - macro_ranked(run.truth, two)
    hits = int((np.abs(permuted) >= abs(observed) - 1e-12).sum())
    return (hits + 1) / (samples + 1)
