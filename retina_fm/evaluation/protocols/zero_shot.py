"""Zero-shot classification, in three readings, since the paper leaves open what it means by it.

The paper says that "none of the models were trained on the downstream data; they were directly tested", with
an MLP on top: such a head has random weights, and its expected AUROC is 0.5. The other readings use no
training either, but each uses labels somewhere, and says where.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError, nearest
from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.tasks import Task
from retina_fm.metrics.recall import unit_rows
from retina_fm.metrics.scores import Floats

READINGS = {
    "untrained-head": "an MLP with random weights, as in the paper's text; chance",
    "clusters": "clusters found without labels, matched to classes by the labels of the rows judged",
    "nearest-patient": "the labels of the nearest photographs of other patients",
}


def zero_shot(
    features: Floats, task: Task, patients: NDArray[np.str_], *, reading: str, seeds: Sequence[int]
) -> list[Outcome]:
    """Runs of one reading; the test part of an official split is judged, otherwise every row.

    Raises:
        ConfigError: there is no such reading.
    """
    readings = {
        "untrained-head": _untrained_head,
        "clusters": _clusters,
        "nearest-patient": _nearest_patient,
    }
    if reading not in readings:
        raise ConfigError(f"Unknown reading {reading!r} of zero-shot. {nearest(reading, readings)}")
    if reading == "nearest-patient":
        seeds = seeds[:1]  # nothing is drawn
    tested = np.arange(len(task.truth)) if task.official is None else np.flatnonzero(task.official == "test")
    z = standardised(features)
    return [Outcome(s, tested, readings[reading](z, task, patients, s)[tested]) for s in seeds]


def standardised(features: Floats) -> Floats:
    """Features with mean 0 and spread 1 a column; columns that hardly vary are not blown up."""
    values = np.asarray(features, np.float64)
    spread = values.std(0)
    return np.asarray((values - values.mean(0)) / np.maximum(spread, 0.1 * np.median(spread) + 1e-9))


def _untrained_head(z: Floats, task: Task, patients: NDArray[np.str_], seed: int) -> Floats:  # noqa: ARG001
    random = np.random.Generator(np.random.PCG64(seed))
    hidden = np.maximum(z @ random.normal(0, np.sqrt(2 / z.shape[1]), (z.shape[1], 256)), 0)
    return _shares(hidden @ random.normal(0, np.sqrt(1 / 256), (256, len(task.classes))))


def _clusters(z: Floats, task: Task, patients: NDArray[np.str_], seed: int) -> Floats:  # noqa: ARG001
    from scipy.optimize import linear_sum_assignment
    from sklearn.cluster import KMeans

    found = KMeans(len(task.classes), n_init=10, random_state=seed).fit(z)
    together = np.zeros((len(task.classes), len(task.classes)))
    np.add.at(together, (found.labels_, task.truth), 1)
    share = together / np.maximum(np.bincount(task.truth, minlength=len(task.classes)), 1)
    cluster, matched = linear_sum_assignment(-share)
    squared = ((z[:, None] - found.cluster_centers_[None]) ** 2).sum(2)
    scores = np.empty_like(squared)
    scores[:, matched] = -squared[:, cluster] / np.maximum(squared.mean(), 1e-12)
    return _shares(scores)


def _nearest_patient(z: Floats, task: Task, patients: NDArray[np.str_], seed: int) -> Floats:  # noqa: ARG001
    unit = unit_rows(z)
    likeness = unit @ unit.T
    if task.official is not None:
        likeness[:, task.official == "test"] = -np.inf
    likeness[patients[:, None] == patients[None]] = -np.inf
    best = np.stack([likeness[:, task.truth == c].max(1, initial=-1.0) for c in range(len(task.classes))], 1)
    return _shares(best / 0.1)


def _shares(values: Floats) -> Floats:
    """Rows to shares that sum to 1."""
    from scipy.special import softmax

    return np.asarray(softmax(values, axis=1))
