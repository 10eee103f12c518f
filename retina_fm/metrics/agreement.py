"""Agreement of two raters: weighted kappa with its interval and test, and whether one rates higher."""

from __future__ import annotations

import math
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from retina_fm.errors import ConfigError
from retina_fm.metrics.intervals import Z95

SCALE = (1, 2, 3, 4, 5)
"""The paper's scale of quality, 1 excellent to 5 very poor."""


class Agreement(NamedTuple):
    """What two raters' scores of the same items say.

    Attributes:
        kappa: weighted; NaN where both gave one and the same score throughout (chance alone would agree).
        low: of its 95 % interval.
        high: of the same.
        p_value: two-sided, of kappa being zero; None where it has no standard error.
        means: mean score of each rater.
        p_difference: two-sided Wilcoxon signed-rank test of the raters' scores being alike; 1 where all are.
        items: rated by both.
    """

    kappa: float
    low: float
    high: float
    p_value: float | None
    means: tuple[float, float]
    p_difference: float
    items: int

    def as_dict(self) -> dict[str, Any]:
        """For ``results.json``."""
        return self._asdict()


def weighted_kappa(
    first: ArrayLike,
    second: ArrayLike,
    *,
    weights: Literal["linear", "quadratic", "none"] = "quadratic",
    scale: tuple[int, ...] = SCALE,
) -> Agreement:
    """Cohen's kappa of two raters with its large-sample standard errors.

    Source: Fleiss, Cohen, Everitt, "Large sample standard errors of kappa and weighted kappa"
    (Psychological Bulletin 1969): one error for the interval, another under the hypothesis of no agreement
    for the test.

    Args:
        first: scores of one rater.
        second: of the other, in the same order.
        weights: penalty by distance, by its square, or all alike.
        scale: the scores there are.

    Raises:
        ConfigError: different lengths, no items, or a score that is not on the scale.
    """
    from sklearn.metrics import confusion_matrix

    one, two = np.asarray(first), np.asarray(second)
    if one.shape != two.shape or one.ndim != 1 or not one.size:
        raise ConfigError(f"{one.size} and {two.size} scores; both raters must have rated the same items.")
    for scores in (one, two):
        strange = [value for value in scores.tolist() if value not in scale]
        if strange:
            raise ConfigError(f"Score {strange[0]!r} is not on the scale {scale[0]} to {scale[-1]}.")
    n, levels = one.size, len(scale)
    table = confusion_matrix(one, two, labels=scale, normalize="all")
    gap = np.abs(np.arange(levels)[:, None] - np.arange(levels)[None]) / (levels - 1)
    agreement = {"linear": 1 - gap, "quadratic": 1 - gap**2, "none": (gap == 0).astype(float)}[weights]
    left, right = table.sum(1), table.sum(0)
    chance_table = np.outer(left, right)
    observed, chance = float((agreement * table).sum()), float((agreement * chance_table).sum())
    means = (float(one.mean()), float(two.mean()))
    different = _signed_rank(one, two)
    if math.isclose(chance, 1.0):
        return Agreement(math.nan, math.nan, math.nan, None, means, different, n)
    kappa = (observed - chance) / (1 - chance)
    mean_weights = (agreement @ right)[:, None] + (left @ agreement)[None]
    spread = (table * (agreement - mean_weights * (1 - kappa)) ** 2).sum() - (
        kappa - chance * (1 - kappa)
    ) ** 2
    error = math.sqrt(max(spread, 0) / n) / (1 - chance)
    null = (chance_table * (agreement - mean_weights) ** 2).sum() - chance**2
    null_error = math.sqrt(max(null, 0) / n) / (1 - chance)
    p_value = math.erfc(abs(kappa) / null_error / math.sqrt(2)) if null_error > 0 else None
    return Agreement(kappa, kappa - Z95 * error, kappa + Z95 * error, p_value, means, different, n)


def _signed_rank(one: np.ndarray, two: np.ndarray) -> float:
    from scipy.stats import wilcoxon

    if (one == two).all():
        return 1.0
    return float(wilcoxon(one, two, zero_method="wilcox", method="approx").pvalue)
