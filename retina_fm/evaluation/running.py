"""An evaluation from beginning to end: jobs, comparisons, and the one file that holds them all."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from retina_fm._io.files import reporting, write_bytes, write_json
from retina_fm._io.folders import own_folder
from retina_fm.errors import ConfigError
from retina_fm.evaluation.classifying import compare_classified
from retina_fm.evaluation.contenders import Contender
from retina_fm.evaluation.jobs import all_jobs
from retina_fm.evaluation.leaks import fingerprint_id
from retina_fm.evaluation.protocols.retrieval import compare_retrieval
from retina_fm.evaluation.protocols.vessels import compare_vessels
from retina_fm.evaluation.protocols.video import compare_videos
from retina_fm.evaluation.report.assets import write_assets
from retina_fm.evaluation.report.markdown import markdown
from retina_fm.evaluation.report.page import page
from retina_fm.evaluation.report.readme import summary
from retina_fm.evaluation.results import Results
from retina_fm.evaluation.run_state import FEATURE_PROTOCOLS, FORMAT, Run, Say, logger, versions
from retina_fm.evaluation.suite import Asked, Suite
from retina_fm.evaluation.tasks import Task


def evaluate(
    suite: Suite,
    contenders: Sequence[Contender],
    out: str | Path,
    *,
    protocols: Iterable[str] | None = None,
    cache: str | Path | None = None,
    say: Say = logger.info,
) -> Results:
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
        OutputError: ``out`` holds something else, or cannot be written; finished cells are kept.
    """
    with reporting(Path(out)):
        return _evaluate(suite, contenders, Path(out), protocols, cache, say)


def _evaluate(
    suite: Suite,
    contenders: Sequence[Contender],
    folder: Path,
    protocols: Iterable[str] | None,
    cache: str | Path | None,
    say: Say,
) -> Results:
    names = [contender.name for contender in contenders]
    if len(set(names)) < len(names) or not names:
        raise ConfigError(f"Models {names} need a name each; write NAME=FOLDER to give one.")
    folder = own_folder(folder, "an evaluation", "results.json", "cells")
    run = Run(suite, contenders, folder, Path(cache) if cache else folder / "cache", say)
    asked = suite.asked_by(protocols)
    for one in asked:  # what is wrong with the data shows before hours of work
        if set(one.protocols) & set(FEATURE_PROTOCOLS):
            run.patients_of(one.task)
    for job in all_jobs(run, asked):
        run.finish(job)
    _compare_all(run, asked)
    results = _assembled(run)
    write_json(folder / "results.json", results)
    write_json(folder / "summary.json", summary(results))
    assets = write_assets(run, {one.task.name: one.task for one in asked})
    write_bytes(folder / "report.md", markdown(results).encode())
    write_bytes(folder / "report.html", page(results, assets, folder).encode())
    return results


def _compare_all(run: Run, asked: Sequence[Asked]) -> None:
    """The subject against the best of the others, in every setting; of features first, vessels, videos."""
    for part in (FEATURE_PROTOCOLS, ("vessels",), ("video",)):
        able = [c.name for c in run.contenders if c.gives_features or part is not FEATURE_PROTOCOLS]
        for one in asked:
            for protocol in [p for p in one.protocols if p in part]:
                places = [place for place in run.cells if place[:2] == (protocol, one.task.name)]
                for setting in dict.fromkeys(place[2] for place in places):
                    _compare(run, protocol, one.task, setting, able)


def _compare(run: Run, protocol: str, task: Task, setting: str, models: Sequence[str]) -> None:
    places = {model: (protocol, task.name, setting, model) for model in models}
    cells = {model: run.cells[place] for model, place in places.items() if place in run.cells}
    if len(cells) < 2 or models[0] not in cells:
        return
    metric, compare = _COMPARED.get(protocol, ("auroc", partial(compare_classified, run.patients_of)))
    others = {model: cell.figures[metric]["mean"] for model, cell in cells.items() if model != models[0]}
    best = max(others, key=lambda model: -1.0 if others[model] is None else others[model])
    said = compare(cells[models[0]], cells[best], task, samples=run.suite.settings.permutations)
    run.comparisons.append(
        {
            "protocol": protocol, "task": task.name, "setting": setting, "metric": metric,
            "model": models[0], "next_best": best, **said,
        }
    )  # fmt: skip


_COMPARED: dict[str, tuple[str, Callable[..., dict[str, float | None]]]] = {
    "retrieval": ("recall_mean", compare_retrieval),
    "vessels": ("dice", compare_vessels),
    "video": ("ssim", compare_videos),
}
"""Metric that models are compared by, and how; protocols that are not named are compared by AUROC."""


def _assembled(run: Run) -> Results:
    whole = {
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
    return Results(whole)
