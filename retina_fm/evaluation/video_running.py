"""The video part of an evaluation: sources, sequences, cells, sheets."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from retina_fm.errors import ConfigError
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.contenders import Contender, Encoder, VesselsOnly, Videos
from retina_fm.evaluation.protocols.video import score_videos, video_figures
from retina_fm.evaluation.run_state import FORMAT, Run, record, versions
from retina_fm.evaluation.suite import Asked
from retina_fm.evaluation.video_sources import VideoSource, from_folder, from_model
from retina_fm.metrics.intervals import sign_flip_test

SETTING = "12 frames"


def run_videos(run: Run, asked: Sequence[Asked]) -> None:
    """All video tasks of a suite."""
    for one in asked:
        if "video" not in one.protocols:
            continue
        names = []
        for contender in run.contenders:
            try:
                source = video_source(contender)
            except ConfigError as error:
                run.skip("video", one.task.name, SETTING, contender.name, str(error))
                continue
            if source is not None:
                names.append(source.name)
                _one_cell(run, source, one)
        _compare(run, one.task.name, names)


def video_source(contender: Contender | VesselsOnly | Videos) -> VideoSource | None:
    """How a contender makes videos; None where it makes none.

    Raises:
        ConfigError: an encoder without a generator, or a folder that is not there.
    """
    if isinstance(contender, Videos):
        return from_folder(contender.name, contender.folder)
    return from_model(contender.name, contender.source) if isinstance(contender, Encoder) else None


def _one_cell(run: Run, source: VideoSource, one: Asked) -> None:
    from retina_fm.training.pairs.table import read_pairs

    settings, task = run.suite.settings, one.task
    key = run.store.key(
        FORMAT, versions(), "video", source.identity, settings.as_dict(), task.sha256, task.names
    )
    cell = run.store.get(key)
    if cell is None:
        run.say(f"{source.name}: videos of {task.data}")
        sheet = f"sheets/{task.name}-{source.name}.png"
        wanted = {row.name for row in task.rows}
        sequences = [s for s in read_pairs(run.suite.pairs_of(task.data)) if s.name in wanted]
        scores = score_videos(
            source,
            sequences,
            size=settings.video_size,
            lpips=settings.lpips,
            fvd=tuple(settings.fvd) if settings.fvd else None,  # type: ignore[arg-type]
            sheet=run.out / sheet,
        )
        extra = {"sequences": scores.names, "columns": scores.columns, "sheets": [{"file": sheet}]}
        cell = Cell(video_figures(scores, samples=settings.bootstrap), [], extra)
        run.store.put(key, cell)
    record(run, "video", task.name, SETTING, source.name, cell)
    run.tasks[task.name] = {
        "set": task.data, "pictures": len(task.rows), "patients": len(set(task.patients.tolist())),
        "split": "all", "manifest_sha256": task.sha256,
    }  # fmt: skip


def _compare(run: Run, task: str, names: Sequence[str]) -> None:
    """The subject against the best other by SSIM: sign flips over sequences."""
    there = {n: run.cells[key] for n in names if (key := ("video", task, SETTING, n)) in run.cells}
    subject = run.contenders[0].name
    if subject not in there or len(there) < 2:
        return
    best = max((n for n in there if n != subject), key=lambda n: there[n].figures["ssim"]["mean"])
    one, two = (np.array(there[n].extra["columns"]["ssim"]) for n in (subject, best))
    run.comparisons.append(
        {
            "protocol": "video", "task": task, "setting": SETTING, "metric": "ssim", "model": subject,
            "next_best": best, "difference": float((one - two).mean()), "t_test_p": None,
            "permutation_p": sign_flip_test(one - two),
        }
    )  # fmt: skip
