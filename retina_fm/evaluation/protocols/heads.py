"""Fitting a head on some rows and scoring others, with a column of scores for every class of the task."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.scores import Floats

Positions = NDArray[np.int64]


def fit_and_score(
    features: Floats,
    task: Task,
    patients: NDArray[np.str_],
    *,
    head: str,
    train: Positions,
    test: Positions,
    val: Positions | None = None,
    seed: int = 0,
    **settings: Any,
) -> Outcome:
    """Fit a head of :mod:`retina_fm.adapters` on some rows of a task, score others.

    Args:
        features: ``(N, D)`` of the task's rows.
        task: gives the classes.
        patients: ``(N,)``, repeats joined.
        head: ``mlp``, ``linear``, ``nearest-mean`` or ``neighbours``.
        train: rows to fit on.
        test: rows to score.
        val: rows that choose the epoch (``mlp``) or the penalty (``linear``).
        seed: of the head.
        settings: of the head; those that it does not know are left out.
    """
    from retina_fm.adapters.heads.by_name import CLASSIFIERS, make_head

    fitted = make_head(head, CLASSIFIERS, {"seed": seed, **settings})
    known = np.unique(task.truth[train])
    held = None
    if val is not None and len(val):
        usable = val[np.isin(task.truth[val], known)]
        held = (features[usable], task.truth[usable]) if len(usable) else None
    fitted.fit(features[train], task.truth[train], groups=patients[train], val=held)
    scores = np.zeros((len(test), len(task.classes)))
    scores[:, np.asarray(fitted.classes_, np.int64)] = fitted.predict_proba(features[test])
    return Outcome(seed, test, scores, _parts(train, val), _untrained(task.classes, known))


def _parts(train: Positions, val: Positions | None) -> dict[str, Positions]:
    return {"train": train} if val is None else {"train": train, "val": val}


def _untrained(classes: Sequence[str], known: NDArray[np.int64]) -> tuple[str, ...]:
    return tuple(c for index, c in enumerate(classes) if index not in known)
