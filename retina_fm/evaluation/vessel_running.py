"""The vessels part of an evaluation: methods, draws, cells, comparisons, overlays."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.files import written_beside
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.manifest import Row
from retina_fm.evaluation.protocols.vessels import VesselRun, vessel_figures, vessel_runs
from retina_fm.evaluation.run_state import FORMAT, Run, record, versions
from retina_fm.evaluation.suite import Asked
from retina_fm.evaluation.tasks import Task
from retina_fm.evaluation.vessel_methods import VesselMethod, vessel_method
from retina_fm.metrics.intervals import sign_flip_test, t_test

_WIDTH = 420


def run_vessels(run: Run, asked: Sequence[Asked]) -> None:
    """All vessel tasks of a suite."""
    settings = run.suite.settings
    for one in asked:
        if "vessels" not in one.protocols:
            continue
        run.tasks[one.task.name] = {
            "set": one.task.data, "pictures": len(one.task.rows), "manifest_sha256": one.task.sha256,
            "patients": len(set(one.task.patients.tolist())), "split": "drawn by patient",
        }  # fmt: skip
        methods = [m for c in run.contenders if (m := vessel_method(c, settings)) is not None]
        for shots in settings.vessel_shots:
            for method in methods:
                _one_cell(run, method, one.task, shots)
            _compare(run, one.task, f"{shots} shots", [m.name for m in methods])


def _one_cell(run: Run, method: VesselMethod, task: Task, shots: int) -> None:
    settings, setting = run.suite.settings, f"{shots} shots"
    key = run.store.key(
        FORMAT, versions(), "vessels", setting, method.identity, settings.as_dict(), task.sha256, task.names
    )
    cell = run.store.get(key)
    if cell is None:
        run.say(f"{method.name}: vessels of {task.data}, {setting}")
        overlays: list[dict[str, str]] = []

        def look(row: Row, picture: NDArray[np.uint8]) -> None:
            name = f"overlays/{_slug(task.name)}-{shots}-{_slug(method.name)}-{_slug(row.name)}.jpg"
            image = Image.fromarray(picture)
            size = (_WIDTH, round(_WIDTH * image.height / image.width))
            image = image.resize(size, Image.Resampling.LANCZOS)
            with written_beside(run.out / name) as scratch:
                image.save(scratch, "JPEG", quality=82)
            overlays.append({"picture": row.name, "file": name})

        found = vessel_runs(
            method, task.rows, shots, settings.vessel_seeds, tests=settings.vessel_tests, look=look
        )
        if isinstance(found, str):
            run.skip("vessels", task.name, setting, method.name, found)
            return
        extra: dict[str, Any] = {"runs": [_as_dict(one) for one in found], "overlays": overlays}
        cell = Cell(vessel_figures(found, samples=settings.bootstrap), [], extra)
        run.store.put(key, cell)
    record(run, "vessels", task.name, setting, method.name, cell)
    draws = {
        str(one["seed"]): {"train": one["drawn"], "test": list(one["pictures"])} for one in cell.extra["runs"]
    }
    run.draws.setdefault(f"vessels/{task.name}/{setting}", draws)


def _compare(run: Run, task: Task, setting: str, names: Sequence[str]) -> None:
    """The subject against the best other: a t-test over runs, sign flips over pictures."""
    there = {n: run.cells[key] for n in names if (key := ("vessels", task.name, setting, n)) in run.cells}
    subject = run.contenders[0].name
    if subject not in there or len(there) < 2:
        return
    best = max((n for n in there if n != subject), key=lambda n: there[n].figures["dice"]["mean"])
    first, second = (there[n].figures["dice"]["values"] for n in (subject, best))
    one, two = (_by_picture(there[n]) for n in (subject, best))
    gaps = [one[name] - two[name] for name in one if name in two]
    run.comparisons.append(
        {
            "protocol": "vessels", "task": task.name, "setting": setting, "metric": "dice",
            "model": subject, "next_best": best, "difference": float(np.mean(first) - np.mean(second)),
            "t_test_p": t_test(first, second), "permutation_p": sign_flip_test(gaps),
        }
    )  # fmt: skip


def _by_picture(cell: Cell) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in cell.extra["runs"]:
        for name, figures in one["pictures"].items():
            values.setdefault(name, []).append(figures["dice"])
    return {name: float(np.mean(found)) for name, found in values.items()}


def _as_dict(one: VesselRun) -> dict[str, Any]:
    return {"seed": one.seed, "drawn": one.drawn, "pictures": {p.name: p.figures for p in one.pictures}}


def _slug(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9_.-]", "-", text)
