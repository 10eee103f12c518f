"""Supervised classification: 55 : 15 : 30 by patient, or the split that a set comes with."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.protocols.heads import fit_and_score
from retina_fm.evaluation.splits import Parts, official_split, patient_split
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.scores import Floats


def split(task: Task, patients: NDArray[np.str_], seed: int) -> Parts:
    """The parts of one run."""
    if task.official is not None:
        return official_split(task.official, task.truth, patients, seed=seed)
    return patient_split(task.truth, patients, seed=seed)


def supervised(
    features: Floats,
    task: Task,
    patients: NDArray[np.str_],
    *,
    seeds: Sequence[int],
    head: str = "mlp",
    widths: Sequence[int] | None = None,
) -> list[Outcome]:
    """The paper's protocol on frozen features: 50 epochs, the best validation AUROC kept, then the test part.

    Args:
        features: ``(N, D)``.
        task: what is judged.
        patients: ``(N,)``, repeats joined.
        seeds: one a split (or, with an official split, a validation part and a head).
        head: see :func:`retina_fm.evaluation.protocols.heads.fit_and_score`.
        widths: of the encoders whose features are side by side; several are fused by soft attention.
    """
    outcomes = []
    for seed in seeds:
        parts = split(task, patients, seed)
        outcomes.append(
            fit_and_score(
                features,
                task,
                patients,
                head=head,
                train=parts.train,
                val=parts.val,
                test=parts.test,
                seed=seed,
                widths=list(widths) if widths is not None and len(widths) > 1 else None,
            )
        )
    return outcomes
