"""The classifying protocols and retrieval over one task: which settings there are, and how each is run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.outcomes import Outcome, classification_figures, compare
from retina_fm.evaluation.protocols.few_shot import draw, few_shot
from retina_fm.evaluation.protocols.probe import probe
from retina_fm.evaluation.protocols.retrieval import by_modality, retrieval_figures, retrieve
from retina_fm.evaluation.protocols.retrieval_questions import Scorer, cosines_of, figures_of, questions_of
from retina_fm.evaluation.protocols.supervised import supervised
from retina_fm.evaluation.protocols.zero_shot import zero_shot
from retina_fm.evaluation.suite import Settings
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.scores import Floats

SIGNED = ("signature", "signature, turned", "joined")
"""Settings of retrieval that need signatures."""
_SHOWN = 6  # queries whose nearest pictures a report shows


def settings_of(protocol: str, settings: Settings) -> list[str]:
    """The settings that a protocol is run in, by name."""
    named = {
        "probe": ["linear"],
        "zero-shot": list(settings.readings),
        "few-shot": [f"{k} shots" for k in settings.shots],
        "supervised": [settings.head],
        "retrieval": ["cosine", "whitened", *SIGNED],
        "systemic": [
            *settings.readings,
            *(f"{k} shots" for k in settings.shots),
            settings.head,
        ],
    }
    return named[protocol]


def run_cell(
    protocol: str,
    setting: str,
    features: Floats | Scorer,
    task: Task,
    patients: NDArray[np.str_],
    settings: Settings,
    widths: tuple[int, ...] | None,
) -> Cell | str:
    """One model on one task by one protocol in one setting.

    Args:
        protocol: a classifying one, or ``retrieval``.
        setting: of :func:`settings_of`.
        features: ``(N, D)`` of the task's rows; for retrieval also what says how alike rows are.
        task: what is judged.
        patients: of its rows, repeats joined.
        settings: of the suite.
        widths: of fused encoders.

    Returns:
        The cell, or the reason why it cannot be run.
    """
    if protocol == "retrieval":
        return _retrieval(features, task, settings)
    assert not callable(features)
    outcomes, extra = _outcomes(protocol, setting, features, task, patients, settings, widths)
    if not outcomes:
        return f"fewer than two classes have enough patients for {setting}"
    figures = classification_figures(outcomes, task.truth, patients, task.classes, samples=settings.bootstrap)
    return Cell(figures, outcomes, extra)


def compare_classified(
    patients_of: Callable[[Task], NDArray[np.str_]], first: Cell, second: Cell, task: Task, *, samples: int
) -> dict[str, float | None]:
    """Two models' runs of the same draws; see :func:`retina_fm.evaluation.outcomes.compare`."""
    return compare(first.outcomes, second.outcomes, task.truth, patients_of(task), samples=samples)


def _outcomes(
    protocol: str,
    setting: str,
    features: Floats,
    task: Task,
    patients: NDArray[np.str_],
    settings: Settings,
    widths: tuple[int, ...] | None,
) -> tuple[list[Outcome], dict[str, Any]]:
    if protocol == "probe":
        return probe(features, task, patients, seeds=settings.probe_seeds, folds=settings.folds), {}
    if setting in settings.readings:
        return zero_shot(features, task, patients, reading=setting, seeds=settings.seeds), {}
    if setting.endswith(" shots"):
        shots = int(setting.split()[0])
        found = few_shot(features, task, patients, shots=shots, seeds=settings.seeds, head=settings.head)
        drawn = draw(task, patients, shots, settings.seeds[0])
        return found, {"too_few": list(drawn.too_few)} if drawn and drawn.too_few else {}
    return supervised(features, task, patients, seeds=settings.seeds, head=setting, widths=widths), {}


def _retrieval(features: Floats | Scorer, task: Task, settings: Settings) -> Cell:
    # repeats are not joined here: a copy of another patient's picture is no hit
    found = retrieve(features, task.patients, ks=settings.ks)
    figures = retrieval_figures(found, task.patients, ks=settings.ks, samples=settings.bootstrap)
    modality = np.array([row.modality for row in task.rows])
    extra: dict[str, Any] = {
        "examples": [
            {"query": task.rows[q].name, "nearest": [task.rows[i].name for i in row[:5] if i >= 0]}
            for q, row in list(zip(found.queries, found.order, strict=True))[
                :: max(1, len(found.queries) // _SHOWN)
            ]
        ][:_SHOWN],
        "hits": {f"recall@{k}": found.hits[:, i].astype(int).tolist() for i, k in enumerate(settings.ks)},
    }
    scorer = features if callable(features) else cosines_of(features)
    extra["questions"] = figures_of(
        questions_of(task.rows), scorer, task.rows, ks=settings.ks, samples=settings.bootstrap
    )
    if len(np.unique(modality)) > 1 and not callable(features):
        extra["by_modality"] = by_modality(features, task.patients, modality, ks=settings.ks)
    return Cell(figures, [], extra)
