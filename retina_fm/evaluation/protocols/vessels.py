"""Vessels from 0 to 16 labelled pictures: draws by patient, the rest judged a picture at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ManifestError
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.manifest import Row
from retina_fm.evaluation.vessel_methods import Fitted, Mask, VesselMethod, call_vessels
from retina_fm.metrics.intervals import (
    bootstrap_of,
    mean_interval,
    patient_weights,
    sign_flip_test,
    t_test,
    weighted_means,
)
from retina_fm.metrics.scores import auroc, average_precision, dice

METRICS = ("auroc", "aupr", "dice")
_SHOWN = 2


class Judged(NamedTuple):
    """One picture in one run: its figures by metric."""

    name: str
    patient: str
    figures: dict[str, float]


class VesselRun(NamedTuple):
    """One draw: ids learnt from, and every picture that was judged."""

    seed: int
    drawn: list[str]
    pictures: list[Judged]


def vessel_runs(
    method: VesselMethod,
    rows: Sequence[Row],
    shots: int,
    seeds: Sequence[int],
    *,
    tests: int | None = None,
    look: Callable[[Row, NDArray[np.uint8]], None] | None = None,
) -> list[VesselRun] | str:
    """Runs of one method with a number of pictures to learn from.

    Args:
        method: what segments.
        rows: photos with masks (and, in the column ``field``, fields of view).
        shots: pictures drawn, each of another patient; 0 has one run, for nothing is drawn.
        seeds: one a draw.
        tests: pictures judged a run at most, evenly chosen from those of patients not drawn.
        look: given an overlay of the first pictures of the first run.

    Returns:
        The runs, or why the method cannot do it.
    """
    from retina_fm.adapters import draw_pictures

    patients = np.array([row.patient for row in rows])
    runs: list[VesselRun] = []
    for seed in seeds if shots else seeds[:1]:
        train, rest = np.empty(0, np.int64), np.arange(len(rows))
        if shots:
            if len(set(patients.tolist())) <= shots:
                return f"{len(set(patients.tolist()))} patients are too few for {shots} shots and a test"
            train, rest = draw_pictures(len(rows), shots, seed=seed, groups=patients)
        examples = [rows[i] for i in train.tolist()]
        labels = [read_labels(row) for row in examples]
        masks, fields = [mask for mask, _ in labels], [inside for _, inside in labels]
        fitted = method.fit([row.path for row in examples], masks, fields, seed)
        if isinstance(fitted, str):
            return fitted
        pictures = []
        for number, position in enumerate(_some(rest, tests).tolist()):
            wanted = look is not None and not runs and number < _SHOWN
            judged, overlay = _judge(fitted, rows[position], wanted=wanted)
            pictures.append(judged)
            if overlay is not None and look is not None:
                look(rows[position], overlay)
        runs.append(VesselRun(seed, [row.name for row in examples], pictures))
    return runs


def vessel_figures(runs: Sequence[VesselRun], *, samples: int, seed: int = 0) -> dict[str, Any]:
    """Means over pictures and runs, with the paper's interval over runs and a bootstrap of patients.

    AUROC and average precision are those of a picture's pixels inside the field of view, averaged over
    pictures; pooling all pixels would mix up pictures with different exposures.
    """
    figures: dict[str, Any] = {}
    for metric in METRICS:
        means = [float(np.mean([p.figures[metric] for p in run.pictures])) for run in runs]
        by_name: dict[str, list[float]] = {}
        patient: dict[str, str] = {}
        for run in runs:
            for picture in run.pictures:
                by_name.setdefault(picture.name, []).append(picture.figures[metric])
                patient[picture.name] = picture.patient
        values = np.array([np.mean(v) for v in by_name.values()])
        weights = patient_weights([patient[name] for name in by_name], samples, seed)
        bootstrap = bootstrap_of(weighted_means(values, weights))
        figures[metric] = {**mean_interval(means).as_dict(), "values": means, **bootstrap}
    return figures


def compare_vessels(first: Cell, second: Cell, *_: Any, **__: Any) -> dict[str, float | None]:
    """Two models' runs: difference of Dice, a t-test over runs, signs flipped over pictures."""
    one, two = (cell.figures["dice"]["values"] for cell in (first, second))
    mine, others = (_dice_by_picture(cell.extra["runs"]) for cell in (first, second))
    gaps = [mine[name] - others[name] for name in mine if name in others]
    return {
        "difference": float(np.mean(one) - np.mean(two)),
        "t_test_p": t_test(one, two),
        "permutation_p": sign_flip_test(gaps),
    }


def _dice_by_picture(runs: Sequence[dict[str, Any]]) -> dict[str, float]:
    values: dict[str, list[float]] = {}
    for one in runs:
        for name, figures in one["pictures"].items():
            values.setdefault(name, []).append(figures["dice"])
    return {name: float(np.mean(found)) for name, found in values.items()}


def read_labels(row: Row) -> tuple[Mask, Mask]:
    """Vessels and field of view of a row, bool ``(H, W)``; grey masks are cut at half of their largest value.

    Raises:
        ManifestError: no mask, an empty one, or one of another size.
    """
    from retina_fm.pictures import Transform, read_picture
    from retina_fm.pictures.masks import read_mask

    if row.mask is None:
        raise ManifestError(f"{row.name} has no mask to judge vessels by. Fill the column mask.")
    picture = read_picture(row.path)
    shape = picture.shape[:2]
    values = read_mask(row.mask, shape, row.name)
    if not values.any():
        raise ManifestError(f"The mask of {row.name} is empty. Check {row.mask}.")
    if row.columns.get("field"):
        field = read_mask(row.columns["field"], shape, row.name)
        inside = field > field.max() / 2
    else:
        inside = Transform().locate(picture).mask_in_picture()
    return (values > values.max() / 2) & inside, inside


def _some(positions: NDArray[np.int64], tests: int | None) -> NDArray[np.int64]:
    if tests is None or len(positions) <= tests:
        return positions
    return np.asarray(positions[np.linspace(0, len(positions) - 1, tests).astype(int)])


def _judge(fitted: Fitted, row: Row, *, wanted: bool) -> tuple[Judged, NDArray[np.uint8] | None]:
    from retina_fm.pictures.sheets import comparison

    truth, inside = read_labels(row)
    scores = np.asarray(fitted.scores(row.path), np.float64)
    called = call_vessels(scores, inside, fitted.threshold)
    figures = {
        "auroc": float(auroc(truth[inside], scores[inside])),
        "aupr": float(average_precision(truth[inside], scores[inside])),
        "dice": dice(called, truth, inside),
    }
    return Judged(row.name, row.patient, figures), comparison(row.path, called, truth) if wanted else None
