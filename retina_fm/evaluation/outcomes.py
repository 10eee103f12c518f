"""What a run of a protocol gives, and the figures that are made of several runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.metrics.intervals import (
    PairedRun,
    bootstrap_of,
    finite,
    mean_interval,
    patient_weights,
    swap_test,
    t_test,
)
from retina_fm.metrics.scores import Floats, Metric, auroc, average_precision, macro

METRICS: dict[str, Metric] = {"auroc": auroc, "aupr": average_precision}


@dataclass(frozen=True)
class Outcome:
    """One run of a classification protocol.

    Attributes:
        seed: of the run.
        tested: positions of the rows that were judged.
        scores: ``(len(tested), C)``.
        parts: positions of every other part that was drawn, by name (``train``, ``val``).
        untrained: classes without a training row; their scores are zero.
    """

    seed: int
    tested: NDArray[np.int64]
    scores: Floats
    parts: dict[str, NDArray[np.int64]] = field(default_factory=dict)
    untrained: tuple[str, ...] = ()


def classification_figures(
    outcomes: Sequence[Outcome],
    truth: NDArray[np.int64],
    patients: NDArray[np.str_],
    classes: Sequence[str],
    *,
    samples: int,
    seed: int = 0,
) -> dict[str, Any]:
    """AUROC and average precision over runs, each with the paper's interval and a bootstrap of patients.

    Args:
        outcomes: one a seed.
        truth: class numbers of all rows.
        patients: of all rows.
        classes: their names.
        samples: bootstrap samples.
        seed: of these.

    Returns:
        By metric ``mean``, ``low``, ``high`` (1.96 standard errors over runs), ``values`` a run,
        ``bootstrap`` (2.5 and 97.5 % over patients) and ``per_class``; and, where there are any, ``absent``
        classes that no run could judge and ``untrained`` ones.
    """
    weights = patient_weights(patients, samples, seed)
    figures: dict[str, Any] = {}
    absent: set[str] = set()
    for name, metric in METRICS.items():
        found = [macro(metric, truth[o.tested], o.scores) for o in outcomes]
        values = [float(one.mean) for one in found]
        figure: dict[str, Any] = mean_interval(values).as_dict()
        figure["values"] = [finite(value) for value in values]
        sampled = [macro(metric, truth[o.tested], o.scores, weights[:, o.tested]).mean for o in outcomes]
        figure |= bootstrap_of(np.mean(sampled, axis=0))
        if len(classes) > 2:
            per_class = np.array([one.per_class for one in found])
            judged = ~np.isnan(per_class)
            sums = np.where(judged, per_class, 0).sum(0)
            figure["per_class"] = {
                c: float(total / n) if n else None
                for c, total, n in zip(classes, sums, judged.sum(0), strict=True)
            }
            absent |= {c for c, n in zip(classes, judged.sum(0), strict=True) if not n}
        figures[name] = figure
    if absent:
        figures["absent"] = sorted(absent)
    untrained = sorted({c for outcome in outcomes for c in outcome.untrained})
    if untrained:
        figures["untrained"] = untrained
    return figures


def compare(
    first: Sequence[Outcome],
    second: Sequence[Outcome],
    truth: NDArray[np.int64],
    patients: NDArray[np.str_],
    *,
    samples: int,
) -> dict[str, float | None]:
    """Two models' runs of the same draws: difference of macro AUROC, t-test over runs, swaps of patients."""
    runs = [
        PairedRun(truth[a.tested], patients[a.tested], a.scores, b.scores)
        for a, b in zip(first, second, strict=True)
    ]
    one = [float(macro(auroc, run.truth, run.first).mean) for run in runs]
    two = [float(macro(auroc, run.truth, run.second).mean) for run in runs]
    return {
        "difference": finite(float(np.mean(one) - np.mean(two))),
        "t_test_p": t_test(one, two),
        "permutation_p": swap_test(runs, samples=samples) if samples else None,
    }
