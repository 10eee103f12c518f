"""Which examples are learnt from: few shots by class and patient, and the part set aside for validation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from retina_fm._io.persons import in_words, is_nobody, persons, spellings
from retina_fm.adapters.examples.labels import class_targets
from retina_fm.errors import ConfigError

SMALLEST = 4
"""Fewer examples of a class than this, and nothing is set aside for validation."""


class Draw(NamedTuple):
    """A draw of examples.

    Attributes:
        drawn: positions to train on, sorted.
        rest: positions to test on: all others, without any picture of a drawn patient.
    """

    drawn: np.ndarray
    rest: np.ndarray


def draw_examples(y: Any, shots: int, *, seed: int = 0, groups: Any = None) -> Draw:
    """Draw ``shots`` examples of each class, each from another patient.

    Args:
        y: labels, as :func:`retina_fm.adapters.examples.labels.class_targets` takes them. For multi-label,
            ``shots`` examples that have a label and ``shots`` that do not are drawn for each.
        shots: examples a class.
        seed: of the draw; the same seed draws the same examples on any machine.
        groups: ``(N,)`` patients; without them every example is a patient of its own.

    Raises:
        ConfigError: a class has fewer examples, or patients, than shots.
    """
    targets = class_targets(y)
    return draw_from(targets.sets, check_groups(groups, len(targets)), shots, seed)


def draw_pictures(count: int, shots: int, *, seed: int = 0, groups: Any = None) -> Draw:
    """Draw ``shots`` pictures out of ``count``, each of another patient: the draw for segmentation.

    Raises:
        ConfigError: there are fewer pictures, or patients, than shots.
    """
    return draw_from([("the set", np.arange(count))], check_groups(groups, count), shots, seed)


def draw_from(sets: Sequence[tuple[str, np.ndarray]], patients: np.ndarray, shots: int, seed: int) -> Draw:
    """Draw ``shots`` examples of each set, each of another patient.

    Args:
        sets: what each is called in messages, and its positions.
        patients: ``(N,)`` of all examples, as :func:`check_groups` gives them.
        shots: examples a set.
        seed: of the draw.

    Raises:
        ConfigError: a set has fewer examples, or patients, than shots.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    chosen: set[int] = set()
    for name, positions in sets:
        chosen |= set(_one_a_patient(positions, patients, shots, random, name))
    drawn = np.array(sorted(chosen), dtype=np.int64)
    return Draw(drawn, np.flatnonzero(~np.isin(patients, patients[drawn])))


def check_groups(groups: Any, count: int) -> np.ndarray:
    """Patients as an array of strings, one spelling a person; positions where there are none.

    Raises:
        ConfigError: another length, or a missing patient: nobody is not one person.
    """
    if groups is None:
        return np.arange(count).astype(str)
    given = list(groups)
    if len(given) != count:
        raise ConfigError(f"There are {len(given)} groups for {count} examples; pass one patient each.")
    if any(map(is_nobody, given)):
        raise ConfigError(
            "A group is missing (NaN, None, blank or 'unknown'). Give every photo a patient, or pass no "
            "groups."
        )
    return np.array(persons(given))


def refuse_shared_patients(groups: np.ndarray, others: np.ndarray) -> None:
    """Refuse parts that share a patient.

    Raises:
        ConfigError: naming some of them.
    """
    both = np.concatenate([groups, others]).tolist()
    one_each = persons(both)
    shared = sorted(set(filter(None, one_each[: len(groups)])) & set(one_each[len(groups) :]))
    if shared:
        ways = spellings(both)
        shown = ", ".join(in_words(ways.get(name, [name])) for name in shared[:5])
        raise ConfigError(
            f"{len(shared)} patients are in the training and the validation part ({shown}). "
            "All pictures of a patient belong in one part."
        )


def validation_split(
    strata: np.ndarray | None, groups: np.ndarray, share: float, seed: int
) -> tuple[np.ndarray, np.ndarray]:
    """Split positions into training and validation; no patient in both, every class in both.

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
    labels = np.zeros(len(groups), np.int64) if strata is None else strata
    classes, sizes = np.unique(labels, return_counts=True)
    if share == 0 or sizes.min() < SMALLEST:
        return everything, none
    random = np.random.Generator(np.random.PCG64([seed, 1]))
    wanted = {value: share * count for value, count in zip(classes, sizes, strict=True)}
    held = np.zeros(len(groups), bool)
    for patient in random.permutation(np.unique(groups)):
        members = np.flatnonzero(groups == patient)
        values, counts = np.unique(labels[members], return_counts=True)
        if all(wanted[value] >= count - 0.5 for value, count in zip(values, counts, strict=True)):
            held[members] = True
            for value, count in zip(values, counts, strict=True):
                wanted[value] -= count
    train, validation = everything[~held], everything[held]
    whole = all(set(classes) == set(labels[part]) for part in (train, validation))
    return (train, validation) if whole else (everything, none)


def _one_a_patient(
    positions: np.ndarray, patients: np.ndarray, shots: int, random: np.random.Generator, what: str
) -> list[int]:
    if not isinstance(shots, int | np.integer) or isinstance(shots, bool) or shots < 1:
        raise ConfigError(f"shots is {shots!r}; a whole number of at least 1 is needed to draw examples.")
    found: list[int] = []
    seen: set[str] = set()
    for position in random.permutation(positions).tolist():
        if patients[position] not in seen:
            seen.add(patients[position])
            found.append(position)
        if len(found) == shots:
            return found
    raise ConfigError(
        f"{what} has {len(positions)} examples of {len(seen)} patients, {shots} shots were asked for. "
        "Lower shots, or add examples."
    )
