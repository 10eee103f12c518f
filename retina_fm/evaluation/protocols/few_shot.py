"""Few-shot classification: k examples a class, each of another patient; nothing else is trained on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.protocols.heads import fit_and_score
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.scores import Floats

SHOTS = (1, 2, 4, 8, 16)


class Drawn(NamedTuple):
    """Training and test rows of one draw, and classes that have too few patients to be drawn."""

    train: NDArray[np.int64]
    test: NDArray[np.int64]
    too_few: tuple[str, ...]


def draw(task: Task, patients: NDArray[np.str_], shots: int, seed: int) -> Drawn | None:
    """Draw the examples of one run.

    With an official split, examples come from its training part and its test part is judged. Otherwise they
    come from all rows, and all rows of other patients are judged. A class is drawn only if one more patient
    than ``shots`` has it, so that something of it is left to judge; rows of other classes are left out.

    Returns:
        None where fewer than two classes can be drawn.
    """
    from retina_fm.adapters.examples.draws import draw_examples

    pool = np.arange(len(task.truth)) if task.official is None else np.flatnonzero(task.official != "test")
    spare = 1 if task.official is None else 0
    enough = [
        c
        for c in range(len(task.classes))
        if len(set(patients[pool][task.truth[pool] == c])) >= shots + spare
    ]
    too_few = tuple(name for c, name in enumerate(task.classes) if c not in enough)
    if len(enough) < 2:
        return None
    usable = pool[np.isin(task.truth[pool], enough)]
    drawn = draw_examples(task.truth[usable], shots, seed=seed, groups=patients[usable])
    train = usable[drawn.drawn]
    if task.official is None:
        test = usable[drawn.rest]
    else:
        test = np.flatnonzero((task.official == "test") & np.isin(task.truth, enough))
    return Drawn(train, test, too_few) if len(test) else None


def few_shot(
    features: Floats,
    task: Task,
    patients: NDArray[np.str_],
    *,
    shots: int,
    seeds: Sequence[int],
    head: str = "mlp",
) -> list[Outcome]:
    """Runs with ``shots`` examples a class, a seed a draw; empty where classes have too few patients."""
    outcomes = []
    for seed in seeds:
        drawn = draw(task, patients, shots, seed)
        if drawn is None:
            return []
        outcomes.append(
            fit_and_score(
                features,
                task,
                patients,
                head=head,
                train=drawn.train,
                test=drawn.test,
                seed=seed,
                validation=0,
            )
        )
    return outcomes
