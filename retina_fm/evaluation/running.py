"""An evaluation from beginning to end: features, cells, comparisons, and the one file that holds them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import write_bytes, write_json
from retina_fm.errors import ConfigError
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.classifying import run_cell, settings_of
from retina_fm.evaluation.contenders import Contender, VesselsOnly, Videos
from retina_fm.evaluation.leaks import (
    fingerprint_id,
)
from retina_fm.evaluation.outcomes import compare
from retina_fm.evaluation.report.assets import write_assets
from retina_fm.evaluation.report.markdown import markdown
from retina_fm.evaluation.report.page import page
from retina_fm.evaluation.report.readme import summary
from retina_fm.evaluation.run_state import FEATURE_PROTOCOLS, FORMAT, Run, Say, logger, record, versions
from retina_fm.evaluation.suite import Asked, Suite
from retina_fm.evaluation.tasks import Task
from retina_fm.evaluation.vessel_running import run_vessels
from retina_fm.evaluation.video_running import run_videos
from retina_fm.metrics.intervals import sign_flip_test


def evaluate(
    suite: Suite,
    contenders: Sequence[Contender | VesselsOnly | Videos],
    out: str | Path,
    *,
    protocols: Iterable[str] | None = None,
    cache: str | Path | None = None,
    say: Say = logger.info,
) -> dict[str, Any]:
    """Run a suite and write results and report; finished cells are kept in ``out/cells`` and used again.

    Args:
        suite: what is asked.
        contenders: what is compared; the first is the subject.
        out: folder of the results.
        protocols: of the suite's; all without it.
        cache: folder of embeddings and fingerprints; ``out/cache`` without it.
        say: told what is going on.

    Returns:
        What ``results.json`` holds.

    Raises:
        ManifestError, LeakError: data that must not be evaluated on.
        ConfigError: nothing to do, or two contenders of one name.
    """
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"Models {names} need a name each; write NAME=FOLDER to give one.")
    wanted = set(protocols) if protocols is not None else None
    folder = Path(out)
    run = Run(suite, contenders, folder, Path(cache) if cache else folder / "cache", say)
    asked = [
        Asked(one.task, tuple(p for p in one.protocols if wanted is None or p in wanted))
        for one in suite.asked
    ]
    asked = [one for one in asked if one.protocols]
    if not asked:
        raise ConfigError(f"The suite {suite.name} asks nothing by {sorted(wanted or ())}.")
    for one in asked:  # what is wrong with the data shows before hours of work
        if set(one.protocols) & set(FEATURE_PROTOCOLS):
            run.patients_of(one.task)
    _features_part(run, asked)
    run_vessels(run, asked)
    run_videos(run, asked)
    results = _assembled(run)
    write_json(folder / "results.json", results)
    write_json(folder / "summary.json", summary(results))
    assets = write_assets(run, {one.task.name: one.task for one in asked})
    write_bytes(folder / "report.md", markdown(results).encode())
    write_bytes(folder / "report.html", page(results, assets, folder).encode())
    return results


def _features_part(run: Run, asked: Sequence[Asked]) -> None:
    asked = [one for one in asked if set(one.protocols) & set(FEATURE_PROTOCOLS)]
    if not asked:
        return
    for contender in run.feature_contenders:
        for data in dict.fromkeys(one.task.data for one in asked):
            manifest = run.suite.manifest(data)
            run.say(f"{contender.name}: features of {data} ({len(manifest.rows)} pictures)")
            features = contender.features(manifest, run.cache)
            for one in asked:
                if one.task.data == data:
                    _one_task(run, contender, one, features[one.task.positions])
    for one in asked:
        for protocol in one.protocols:
            if protocol in FEATURE_PROTOCOLS:
                _compare_all(run, protocol, one.task)


def _one_task(run: Run, contender: Contender, one: Asked, features: NDArray[np.float64]) -> None:
    task, patients, settings = one.task, run.patients_of(one.task), run.suite.settings
    for protocol in one.protocols:
        if protocol not in FEATURE_PROTOCOLS:
            continue
        for setting in settings_of(protocol, settings):
            key = run.store.key(
                FORMAT, versions(), protocol, setting, contender.identity(), settings.as_dict(),
                task.sha256, task.names, task.truth.tolist(), patients.tolist(),
                None if task.official is None else task.official.tolist(),
            )  # fmt: skip
            if setting == "whitened" and contender.whitening is None:
                continue
            cell = run.store.get(key)
            if cell is None:
                given = features
                if setting == "whitened" and contender.whitening is not None:
                    given = contender.whitening.apply(features.astype(np.float32)).astype(np.float64)
                found = run_cell(protocol, setting, given, task, patients, settings, contender.widths)
                if isinstance(found, str):
                    run.skip(protocol, task.name, setting, contender.name, found)
                    continue
                cell = found
                run.store.put(key, cell)
            record(run, protocol, task.name, setting, contender.name, cell)
            run.draws.setdefault(f"{protocol}/{task.name}/{setting}", _drawn_ids(task, cell))


def _compare_all(run: Run, protocol: str, task: Task) -> None:
    """The subject against the best of the others, in every setting."""
    models = [c.name for c in run.feature_contenders]
    primary = "recall_mean" if protocol == "retrieval" else "auroc"
    for setting in settings_of(protocol, run.suite.settings):
        there = {
            m: run.cells[protocol, task.name, setting, m]
            for m in models
            if (protocol, task.name, setting, m) in run.cells
        }
        if len(there) < 2 or models[0] not in there:
            continue
        others = {m: cell.figures[primary]["mean"] for m, cell in there.items() if m != models[0]}
        best = max(others, key=lambda m: -1.0 if others[m] is None else others[m])
        where = {"protocol": protocol, "task": task.name, "setting": setting, "metric": primary}
        pair = there[models[0]], there[best]
        if protocol == "retrieval":
            said = _compared_retrieval(*pair, task, run.suite.settings.permutations)
        else:
            said = compare(
                pair[0].outcomes, pair[1].outcomes, task.truth, run.patients_of(task),
                samples=run.suite.settings.permutations,
            )  # fmt: skip
        run.comparisons.append({**where, "model": models[0], "next_best": best, **said})


def _compared_retrieval(first: Cell, second: Cell, task: Task, samples: int) -> dict[str, float | None]:
    hits = [np.mean([cell.extra["hits"][k] for k in cell.extra["hits"]], axis=0) for cell in (first, second)]
    _, member, counts = np.unique(task.patients, return_inverse=True, return_counts=True)
    who = member[counts[member] > 1]
    _, who = np.unique(who, return_inverse=True)
    gap = np.bincount(who, weights=hits[0] - hits[1])
    return {
        "difference": float((hits[0] - hits[1]).mean()),
        "t_test_p": None,
        "permutation_p": sign_flip_test(gap, samples=max(samples, 1)),
    }


def _drawn_ids(task: Task, cell: Cell) -> dict[str, Any]:
    names = np.array(task.names)
    return {
        str(outcome.seed): {
            **{part: names[rows].tolist() for part, rows in outcome.parts.items()},
            **(
                {}
                if any(p.startswith("fold") for p in outcome.parts)
                else {"test": names[outcome.tested].tolist()}
            ),
        }
        for outcome in cell.outcomes
    }


def _assembled(run: Run) -> dict[str, Any]:
    return {
        "format": FORMAT,
        "suite": run.suite.name,
        "settings": run.suite.settings.as_dict(),
        "leaks": {"across official parts": run.suite.leaks, "fingerprints": fingerprint_id()},
        "versions": versions(),
        "models": {contender.name: contender.identity() for contender in run.contenders},
        "tasks": run.tasks,
        "results": run.results,
        "comparisons": run.comparisons,
        "skipped": run.skipped,
        "draws": run.draws,
    }
