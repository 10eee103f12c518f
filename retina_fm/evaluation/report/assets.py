"""What a report shows beside figures: curves, overlays, retrieved pictures; small files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from retina_fm._io.files import write_json, written_beside
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.names import file_name
from retina_fm.evaluation.outcomes import Outcome
from retina_fm.evaluation.run_state import Run
from retina_fm.evaluation.tasks import Task

_GRID = np.linspace(0, 1, 51)
_SIDE = 120


def write_assets(run: Run, tasks: dict[str, Task]) -> dict[str, Any]:
    """Write ``assets.json`` and the thumbnails that it names; see :mod:`retina_fm.evaluation.report.page`."""
    found: dict[str, Any] = {"curves": [], "overlays": [], "galleries": [], "videos": []}
    for (protocol, task, setting, model), cell in run.cells.items():
        where = {"protocol": protocol, "task": task, "setting": setting, "model": model}
        judged = [o for o in cell.outcomes if np.ptp(tasks[task].truth[o.tested])]
        if judged and len(tasks[task].classes) == 2:
            found["curves"].append({**where, **_curves(judged, tasks[task])})
        for overlay in cell.extra.get("overlays", ()):
            found["overlays"].append({**where, **overlay})
        if cell.extra.get("examples"):
            found["galleries"].append({**where, "rows": _gallery(run.out, cell, tasks[task])})
        found["videos"] += [{**where, **sheet} for sheet in cell.extra.get("sheets", ())]
    write_json(run.out / "assets.json", found)
    return found


def _curves(outcomes: Sequence[Outcome], task: Task) -> dict[str, list[float]]:
    """Mean curves over runs with both classes on a common grid: true positive rate, and precision."""
    from sklearn.metrics import precision_recall_curve, roc_curve

    true, precise = [], []
    for outcome in outcomes:
        truth, scores = task.truth[outcome.tested] == 1, outcome.scores[:, 1]
        x, y, _ = roc_curve(truth, scores, drop_intermediate=False)
        true.append(np.interp(_GRID, x, np.maximum.accumulate(y)))
        precision, recall, _ = precision_recall_curve(truth, scores)  # by rising score, then recall 0
        precision, recall = precision[-2::-1], recall[-2::-1]
        best = np.maximum.accumulate(precision[::-1])[::-1]  # no threshold with more recall is more precise
        precise.append(np.interp(_GRID, recall, best))
    return {
        "grid": _GRID.round(3).tolist(),
        "true_positives": np.mean(true, 0).round(4).tolist(),
        "precision": np.mean(precise, 0).round(4).tolist(),
    }


def _gallery(out: Path, cell: Cell, task: Task) -> list[dict[str, Any]]:
    place = {row.name: row for row in task.rows}
    rows = []
    for example in cell.extra["examples"]:
        query = place[example["query"]]
        shown = [query, *(place[name] for name in example["nearest"])]
        rows.append(
            {
                "query": query.name,
                "pictures": [_thumbnail(out, task.data, row.name, row.path) for row in shown],
                "same": [row.patient == query.patient for row in shown],
            }
        )
    return rows


def _thumbnail(out: Path, data: str, name: str, path: Path) -> str:
    from retina_fm.pictures import read_picture

    # two names may come to one once their odd letters are gone; the hash keeps them apart
    digest = hashlib.sha256(f"{data}\0{name}".encode(errors="surrogateescape")).hexdigest()[:8]
    target = out / "gallery" / f"{file_name(f'{data}-{name}')[-150:]}-{digest}.jpg"
    if not target.is_file():
        image = Image.fromarray(read_picture(path))
        image.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
        with written_beside(target) as scratch:
            image.save(scratch, "JPEG", quality=80)
    return str(target.relative_to(out).as_posix())
