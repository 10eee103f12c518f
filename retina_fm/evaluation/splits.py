"""Parts by patient: training, validation and test, and folds, with classes spread as evenly as may be."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ManifestError
from retina_fm.vocabulary import SPLITS

Positions = NDArray[np.int64]
SHARES = (0.55, 0.15, 0.30)
"""Training, validation and test of the paper's supervised protocol."""


class Parts(NamedTuple):
    """Positions of a split's parts, sorted; no patient is in two of them."""

    train: Positions
    val: Positions
    test: Positions


def patient_split(
    truth: NDArray[np.int64],
    patients: NDArray[np.str_],
    *,
    seed: int,
    shares: tuple[float, float, float] = SHARES,
) -> Parts:
    """Split by patient so that every class is spread over the parts in the wanted shares.

    Patients come in a drawn order, those with the rarest class first; each goes to the part that lacks most
    of the classes it brings. A class with one patient goes to training and cannot be judged; figures then
    leave it out and say so.

    Args:
        truth: class numbers ``(N,)``.
        patients: ``(N,)``.
        seed: of the draw.
        shares: of training, validation, test.

    Raises:
        ManifestError: fewer than three patients.
    """
    if len(np.unique(patients)) < 3:
        raise ManifestError("Fewer than three patients cannot fill three parts. Add patients.")
    parts = _assigned(truth, patients, seed, shares)
    train, val, test = (np.flatnonzero(parts == number) for number in range(3))
    if not len(train) or not len(test):
        raise ManifestError("A part is empty: there are too few patients to split. Add patients.")
    return Parts(train, val, test)


def official_split(
    parts: NDArray[np.str_],
    truth: NDArray[np.int64],
    patients: NDArray[np.str_],
    *,
    seed: int,
    share: float = 0.15,
) -> Parts:
    """The split that a data set comes with; without a validation part, one is drawn from training."""
    train, val, test = (np.flatnonzero(parts == name) for name in SPLITS)
    if not len(val):
        parts_of_training = _assigned(truth[train], patients[train], seed, (1 - share, share, 0.0))
        train, val = train[parts_of_training != 1], train[parts_of_training == 1]
    return Parts(train, val, test)


def patient_folds(
    truth: NDArray[np.int64], patients: NDArray[np.str_], *, folds: int, seed: int
) -> NDArray[np.int64]:
    """Fold number of each row, ``(N,)``; a patient's rows share one, classes are spread evenly.

    Raises:
        ManifestError: fewer patients than folds.
    """
    names, member = np.unique(patients, return_inverse=True)
    if len(names) < folds:
        raise ManifestError(f"{len(names)} patients cannot fill {folds} folds. Add patients or use fewer.")
    counts = _counts(member, truth)
    held = np.zeros((folds, counts.shape[1]))
    size = np.zeros(folds)
    chosen = np.empty(len(names), np.int64)
    for patient in _rarest_first(counts, [seed, 11]):
        row = counts[patient]
        cost = (held / np.maximum(counts.sum(0), 1)) @ (row > 0) + size / (10 * size.sum() + 10)
        fold = int(np.argmin(cost))
        chosen[patient] = fold
        held[fold] += row
        size[fold] += row.sum()
    return np.asarray(chosen[member])


def _assigned(
    truth: NDArray[np.int64], patients: NDArray[np.str_], seed: int, shares: tuple[float, float, float]
) -> NDArray[np.int64]:
    """Part of each row: 0 training, 1 validation, 2 test."""
    names, member = np.unique(patients, return_inverse=True)
    counts = _counts(member, truth)
    totals, carriers = counts.sum(0), (counts > 0).sum(0)
    lacking = np.array(shares)[:, None] * totals  # (3, C): what a part still wants of each class
    chosen = np.empty(len(names), np.int64)
    priority = np.array([0.0, -2e-9, -1e-9])  # equal wants: training first, then test
    for patient in _rarest_first(counts, [seed, 7]):
        brings = counts[patient] / np.maximum(totals, 1)
        wants = lacking / np.maximum(totals, 1)
        rare = np.where(counts[patient] > 0, 1 / np.maximum(carriers, 1), 0)
        part = int(np.argmax(wants @ (brings * rare / max((brings * rare).sum(), 1e-12)) + priority))
        chosen[patient] = part
        lacking[part] -= counts[patient]
    return np.asarray(chosen[member])


def _counts(member: NDArray[np.int64], truth: NDArray[np.int64]) -> NDArray[np.float64]:
    """Rows of each class that each patient has, ``(P, C)``."""
    counts = np.zeros((int(member.max()) + 1, int(truth.max()) + 1))
    np.add.at(counts, (member, truth), 1)
    return counts


def _rarest_first(counts: NDArray[np.float64], seed: list[int]) -> Positions:
    """Patients in a drawn order, those with the class that fewest have first."""
    order = np.random.Generator(np.random.PCG64(seed)).permutation(len(counts))
    carriers = (counts > 0).sum(0)
    rarity = np.array([carriers[row > 0].min() for row in counts])
    return np.asarray(order[np.argsort(rarity[order], kind="stable")])
