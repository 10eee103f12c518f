"""Linear probe: the quick judge of frozen features, on the official split or in folds by patient."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.protocols.heads import fit_and_score
from retina_fm.evaluation.splits import patient_folds
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.scores import Floats


def probe(
    features: Floats,
    task: Task,
    patients: NDArray[np.str_],
    *,
    seeds: Sequence[int] = (0,),
    folds: int = 5,
    head: str = "linear",
) -> list[Outcome]:
    """Logistic regression on standardised features, classes balanced, C chosen on folds of the training part.

    With an official split the training and validation parts are fitted and the test part is judged, once,
    for nothing is drawn. Otherwise every row is judged in one of five folds by patient, and a seed is
    another division into folds.
    """
    if task.official is not None:
        train, test = np.flatnonzero(task.official != "test"), np.flatnonzero(task.official == "test")
        return [
            fit_and_score(
                features, task, patients, head=head, train=train, test=test, class_weight="balanced"
            )
        ]
    return [_in_folds(features, task, patients, seed, folds, head) for seed in seeds]


def _in_folds(
    features: Floats, task: Task, patients: NDArray[np.str_], seed: int, folds: int, head: str
) -> Outcome:
    fold = patient_folds(task.truth, patients, folds=folds, seed=seed)
    scores = np.zeros((len(task.truth), len(task.classes)))
    untrained: set[str] = set()
    for number in range(folds):
        train, test = np.flatnonzero(fold != number), np.flatnonzero(fold == number)
        outcome = fit_and_score(
            features, task, patients, head=head, train=train, test=test, class_weight="balanced"
        )
        scores[test] = outcome.scores
        untrained |= set(outcome.untrained)
    parts = {f"fold {number}": np.flatnonzero(fold == number) for number in range(folds)}
    return Outcome(seed, np.arange(len(task.truth)), scores, parts, tuple(sorted(untrained)))
