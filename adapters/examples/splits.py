"""The validation part of a training set: by patient, with every class in both parts."""

from __future__ import annotations

import numpy as np

from retina_fm.adapters.examples.few_shot import check_groups
from retina_fm.errors import ConfigError

SMALLEST = 4
"""Fewer examples of a class than this, and nothing is set aside for validation."""


def validation_split(
    strata: np.ndarray | None, groups: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into training and validation; no patient in both.

    Args:
        strata: ``(N,)`` class of each example that both parts should hold, or None.
        groups: ``(N,)`` patient of each.
        share: of examples for validation; 0 sets none aside.
        seed: of the draw.

    Returns:
        Positions of the two parts; the second is empty where one of them would lack a class.
    """
    if not 0 <= share < 1:
        raise ConfigError(f"validation is {share!r}; a share from 0 up to 1 is needed.")
    everything = np.arange(len(groups))
    none = np.empty(0, np.int64)
    if share == 0:
        return everything, none
    labels = np.zeros(len(groups), np.int64) if strata is None else strata
    if np.unique(labels, return_counts=True)[1].min() < SMALLEST:
        return everything, none
    random = np.random.Generator(np.random.PCG64([seed, 1]))
    wanted = {
        value: share * count for value, count in zip(*np.unique(labels, return_counts=True), strict=True)
    }
    held = np.zeros(len(groups), bool)
    for patient in random.permutation(np.unique(groups)):
        members = np.flatnonzero(groups == patient)
        values, counts = np.unique(labels[members], return_counts=True)
        if all(wanted[value] >= count - 0.5 for value, count in zip(values, counts, strict=True)):
            held[members] = True
            for value, count in zip(values, counts, strict=True):
                wanted[value] -= count
    train, validation = everything[~held], everything[held]
    whole = all(set(np.unique(labels)) == set(np.unique(labels[part])) for part in (train, validation))
    return (train, validation) if whole else (everything, none)


def refuse_shared_patients(groups: np.ndarray | None, others: np.ndarray | None) -> None:
    """Refuse parts that share a patient.

    Raises:
        ConfigError: naming some of them.
    """
    if groups is None or others is None:
        return
    shared = sorted(set(map(str, groups)) & set(map(str, others)))
    if shared:
        raise ConfigError(
            f"{len(shared)} patients are in the training and the validation part ({', '.join(shared[:5])}). "
            "All pictures of a patient belong in one part."
        )


__all__ = ["check_groups", "refuse_shared_patients", "validation_split"]
