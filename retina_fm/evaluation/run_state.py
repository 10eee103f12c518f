"""An evaluation under way: what is asked, what is finished, where it is kept; and one piece of it."""

from __future__ import annotations

import logging
import platform
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import retina_fm
from retina_fm._io.files import sha256_of
from retina_fm.evaluation.cells import Cell, CellStore
from retina_fm.evaluation.contenders import Contender
from retina_fm.evaluation.leaks import Repeat, find_repeats, joined_patients, read_prints, refuse_leaks
from retina_fm.evaluation.manifest import warn
from retina_fm.evaluation.names import CLASSIFYING
from retina_fm.evaluation.same_eyes import LEAKING, read_signatures, same_eyes
from retina_fm.evaluation.suite import Suite
from retina_fm.evaluation.tasks import Task, one_person_each
from retina_fm.signatures import SameEyes, rate_in_words

logger = logging.getLogger("retina_fm")

FORMAT = 1
"""Of ``results.json``."""
FEATURE_PROTOCOLS = (*CLASSIFYING, "retrieval")
Say = Callable[[str], None]


@dataclass(frozen=True)
class Job:
    """One model on one task by one protocol in one setting.

    Attributes:
        protocol: by which the task is judged.
        task: what is judged.
        setting: of the protocol, by name.
        model: name of the contender.
        determined_by: everything that the result depends on beside format and versions; finished cells are
            found again by it.
        make: gives the cell, or says why it cannot.
        drawn: ids drawn, from the finished cell; None where nothing is.
    """

    protocol: str
    task: Task
    setting: str
    model: str
    determined_by: tuple[Any, ...]
    make: Callable[[], Cell | str]
    drawn: Callable[[Cell], dict[str, Any]] | None = None


@dataclass
class Run:
    """An evaluation under way.

    Attributes:
        suite: what is asked.
        contenders: what is compared; the first is the subject that others are compared with.
        out: folder of the results.
        cache: folder of embeddings and fingerprints, which several runs may share.
        say: told what is going on.
        results: finished entries.
        draws: positions drawn, as ids, by protocol, task and setting.
        comparisons: of the subject with the best other.
        tasks: what is known about each task.
        skipped: what could not be run, and why.
        cells: finished cells by protocol, task, setting and model.
    """

    suite: Suite
    contenders: Sequence[Contender]
    out: Path
    cache: Path
    say: Say = logger.info
    results: list[dict[str, Any]] = field(default_factory=list)
    draws: dict[str, Any] = field(default_factory=dict)
    comparisons: list[dict[str, Any]] = field(default_factory=list)
    tasks: dict[str, Any] = field(default_factory=dict)
    skipped: list[dict[str, str]] = field(default_factory=list)
    cells: dict[tuple[str, str, str, str], Cell] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.store = CellStore(self.out / "cells")
        self._patients: dict[str, NDArray[np.str_]] = {}
        self._hashes: dict[Path, str | None] = {}

    def finish(self, job: Job) -> None:
        """Take a job's cell from the store, or make and keep it; then note what it says."""
        key = self.store.key(FORMAT, versions(), *job.determined_by)
        cell = self.store.get(key)
        where = (job.protocol, job.task.name, job.setting, job.model)
        if cell is None:
            found = job.make()
            if isinstance(found, str):
                self.skip(*where, found)
                return
            cell = found
            self.store.put(key, cell)
        self.cells[where] = cell
        shown = {k: v for k, v in cell.extra.items() if k in ("too_few", "by_modality", "questions", "notes")}
        self.results.append({**_entry(*where), "figures": cell.figures, **shown})
        if job.drawn is not None:
            self.draws.setdefault("/".join(where[:3]), job.drawn(cell))

    def skip(self, protocol: str, task: str, setting: str, model: str, reason: str) -> None:
        """Note what could not be run, and why."""
        self.skipped.append({**_entry(protocol, task, setting, model), "reason": reason})

    def hashes_of(self, files: Iterable[str | Path]) -> list[str | None]:
        """SHA-256 of files, each read once a run; None for one that is not there, as its reader will say."""
        paths = [Path(file) for file in files]
        for path in dict.fromkeys(paths):
            if path not in self._hashes:
                self._hashes[path] = sha256_of(path) if path.is_file() else None
        return [self._hashes[path] for path in paths]

    def patients_of(self, task: Task) -> NDArray[np.str_]:
        """Patients of a task's rows, repeats joined; refuses leaks across official parts.

        Where nobody is named, other photographs of an eye are looked for by signatures: in drawn parts they
        are joined, too; across official parts they are told, for each may be one of chance.

        Raises:
            LeakError: a patient or a photograph is in two official parts.
        """
        if task.name in self._patients:
            return self._patients[task.name]
        paths = [row.path for row in task.rows]
        prints = read_prints(paths, self.cache / "fingerprints" / f"{task.data}.npz")
        self._hashes.update(zip(paths, prints.hashes, strict=True))
        repeats = find_repeats(prints)
        if task.official is not None and self.suite.leaks != "allow":
            refuse_leaks(task.names, task.official, task.patients, repeats)
        said = self.tasks[task.name] = described(task, repeats)
        if self.suite.same_eyes and task.patients.tolist() == task.names:
            place = self.cache / "fingerprints" / f"{task.data}.signatures.npz"
            signatures = read_signatures(paths, prints.hashes, place)
            found = same_eyes(signatures, LEAKING)
            said["same_eyes"] = eyes_described(task, found, repeats)
            if task.official is None:
                repeats = [*repeats, *(Repeat(p.first, p.second, p.cosine) for p in found.pairs)]
            elif said["same_eyes"]["across_parts"]:
                warn(f"{task.name}: {eyes_in_words(said['same_eyes'])}")
        joined = joined_patients(task.patients, repeats, task.names)
        self._patients[task.name] = joined
        self.say(in_words(task.name, said))
        return joined


def described(task: Task, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """What the results say about a task."""
    classes = {c: int((task.truth == number).sum()) for number, c in enumerate(task.classes)}
    return {
        "set": task.data,
        "pictures": len(task.rows),
        "patients": len(set(one_person_each(task.rows))),
        "classes": classes,
        "left_out": task.left_out,
        "split": "drawn by patient" if task.official is None else "official",
        "repeats": [
            [task.rows[r.first].name, task.rows[r.second].name, round(r.likeness, 3)] for r in repeats
        ],
        "manifest_sha256": task.sha256,
    }


def eyes_described(task: Task, found: SameEyes, repeats: Sequence[Repeat]) -> dict[str, Any]:
    """What the results say about other photographs of one eye; repeats are told elsewhere."""
    told = {(repeat.first, repeat.second) for repeat in repeats}
    pairs = [pair for pair in found.pairs if (pair.first, pair.second) not in told]
    parts = task.official
    across = [p for p in pairs if parts is not None and parts[p.first] != parts[p.second]]
    return {
        "false_accepts": found.false_accepts,
        "pairs": [[task.rows[p.first].name, task.rows[p.second].name] for p in pairs],
        "across_parts": [[task.rows[p.first].name, task.rows[p.second].name] for p in across],
        "expected_false": round(found.expected_false, 3),
        "without_signature": len(found.without_signature),
    }


def eyes_in_words(said: Mapping[str, Any]) -> str:
    """What was found of other photographs of one eye across official parts, in a sentence."""
    shown = "; ".join(" and ".join(pair) for pair in said["across_parts"][:3])
    return (
        f"{len(said['across_parts'])} pairs of pictures in two parts look like one eye (false accepts: "
        f"{rate_in_words(said['false_accepts'])}, {said['expected_false']:.1f} pairs by chance): {shown}. "
        "Look at them (retina-fm manifest --audit), and leave one of each out"
    )


def in_words(name: str, said: Mapping[str, Any]) -> str:
    """What was understood of a task, in one line."""
    classes = ", ".join(f"{label} ({count})" for label, count in said["classes"].items())
    left_out = ", ".join(f"{count} {reason}" for reason, count in said["left_out"].items())
    return "; ".join(
        [
            f"{name}: {classes or 'no classes'}",
            f"{said['patients']} patients",
            *([f"left out: {left_out}"] if left_out else []),
            *([f"{len(eyes['pairs'])} pairs look like one eye"] if (eyes := said.get("same_eyes")) else []),
        ]
    )


def _entry(protocol: str, task: str, setting: str, model: str) -> dict[str, str]:
    return {"protocol": protocol, "task": task, "setting": setting, "model": model}


@cache
def versions() -> dict[str, str]:
    """What results may depend on besides data, weights and seeds."""
    from importlib.metadata import PackageNotFoundError, version

    found = {
        "retina_fm": retina_fm.__version__,
        "python": platform.python_version(),
        "machine": platform.machine(),
    }
    for package in ("numpy", "scipy", "scikit-learn", "scikit-image", "torch", "pillow"):
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found
