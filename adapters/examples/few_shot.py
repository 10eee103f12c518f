"""Which examples a few-shot run trains on: drawn by class and patient, and what may be tested then."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from retina_fm.adapters.examples.labels import class_targets
from retina_fm.errors import ConfigError


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
    patients = check_groups(groups, len(targets.onehot))
    random = np.random.Generator(np.random.PCG64(seed))
    chosen: set[int] = set()
    columns = [(str(name), targets.onehot[:, c] > 0.5) for c, name in enumerate(targets.classes)]
    if targets.multi_label:
        columns += [(f"not {name}", ~has) for name, has in columns]
    for name, has in columns:
        chosen |= set(_one_a_patient(np.flatnonzero(has), patients, shots, random, f"class {name}"))
    return _draw(sorted(chosen), patients)


def draw_pictures(count: int, shots: int, *, seed: int = 0, groups: Any = None) -> Draw:
    """Draw ``shots`` pictures out of ``count``, each of another patient: the draw for segmentation.

    Raises:
        ConfigError: there are fewer pictures, or patients, than shots.
    """
    patients = check_groups(groups, count)
    random = np.random.Generator(np.random.PCG64(seed))
    chosen = _one_a_patient(np.arange(count), patients, shots, random, "the set")
    return _draw(sorted(chosen), patients)


def check_groups(groups: Any, count: int) -> np.ndarray:
    """Patients as an array of strings; positions where there are none.

    Raises:
        ConfigError: another length, or a missing patient.
    """
    if groups is None:
        return np.arange(count).astype(str)
    given = list(groups)
    if len(given) != count:
        raise ConfigError(f"There are {len(given)} groups for {count} examples; pass one patient each.")
    if any(value is None or value != value for value in given):
        raise ConfigError("A group is missing (NaN or None). Give every photo a patient, or pass no groups.")
    return np.array([str(value) for value in given])


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


def _draw(chosen: list[int], patients: np.ndarray) -> Draw:
    drawn = np.array(chosen, dtype=np.int64)
    return Draw(drawn, np.flatnonzero(~np.isin(patients, patients[drawn])))
