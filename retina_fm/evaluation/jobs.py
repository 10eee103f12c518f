"""The jobs of an evaluation: features judged by classification and retrieval, then vessels, then videos."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from retina_fm._io.files import written_beside
from retina_fm.evaluation.cells import Cell
from retina_fm.evaluation.classifying import SIGNED, run_cell, settings_of
from retina_fm.evaluation.contenders import Contender
from retina_fm.evaluation.manifest import Manifest, Row
from retina_fm.evaluation.names import file_name
from retina_fm.evaluation.protocols.frame_overlays import frame_overlays
from retina_fm.evaluation.protocols.retrieval_questions import (
    Scorer,
    eyes_first_of,
    products_of,
    turned_cosines_of,
)
from retina_fm.evaluation.protocols.vessels import vessel_figures, vessel_runs
from retina_fm.evaluation.protocols.video import score_videos, video_figures
from retina_fm.evaluation.run_state import FEATURE_PROTOCOLS, Job, Run
from retina_fm.evaluation.suite import Asked
from retina_fm.evaluation.tasks import Task
from retina_fm.evaluation.vessel_methods import VesselMethod
from retina_fm.evaluation.video_sources import VideoSource
from retina_fm.indexes.space import Space
from retina_fm.indexes.spaces import same_eye_from
from retina_fm.metrics.scores import Floats
from retina_fm.signatures import SignatureBasis

FRAMES_SETTING = "12 frames"
_OVERLAY_WIDTH = 420


def all_jobs(run: Run, asked: Sequence[Asked]) -> Iterator[Job]:
    """Every job of what is asked, in the order of the results; a job is done before the next is asked for."""
    yield from feature_jobs(run, asked)
    yield from vessel_jobs(run, asked)
    yield from video_jobs(run, asked)


class _Embedded:
    """A contender's features of one data set, computed when the first unfinished job needs them."""

    def __init__(self, run: Run, contender: Contender, manifest: Manifest) -> None:
        self.run, self.contender, self.manifest = run, contender, manifest

    @property
    def parts(self) -> list[Manifest]:
        """The sets that a union is of, so that none is encoded twice; the set itself where it is none."""
        names = self.run.suite.sets[self.manifest.name].union
        return [self.run.suite.manifest(name) for name in names] or [self.manifest]

    @cached_property
    def features(self) -> Floats:
        self.run.say(
            f"{self.contender.name}: features of {self.manifest.name} ({len(self.manifest.rows)} pictures)"
        )
        found = [self.contender.features(part, self.run.cache) for part in self.parts]
        return found[0] if len(found) == 1 else np.concatenate(found)

    @cached_property
    def signatures(self) -> tuple[NDArray[np.float32], SignatureBasis]:
        self.run.say(f"{self.contender.name}: signatures of {self.manifest.name}")
        found = [self.contender.signatures(part, self.run.cache) for part in self.parts]
        return np.concatenate([rows for rows, _ in found]), found[0][1]

    def of(self, task: Task, setting: str) -> Floats | Scorer:
        """Of a task's rows: features, whitened where the setting says so, or how alike rows are."""
        if setting.startswith("signature"):
            rows, basis = self.signatures
            mine = rows[task.positions]
            return turned_cosines_of(mine, basis) if setting.endswith("turned") else products_of(mine)
        features = self.features[task.positions]
        if setting == "joined":  # as an index joins them
            rows, basis = self.signatures
            points = Space("cosine", self.contender.whitening).points(features)
            least = same_eye_from(basis, len(points), turned=True)
            return eyes_first_of(products_of(points), turned_cosines_of(rows[task.positions], basis), least)
        if setting != "whitened":
            return features
        whitened: Floats = self.contender.whitening.apply(features.astype(np.float32)).astype(np.float64)
        return whitened


def feature_jobs(run: Run, asked: Sequence[Asked]) -> Iterator[Job]:
    """Classification and retrieval: a model's features of a set serve all tasks of that set."""
    asked = [one for one in asked if set(one.protocols) & set(FEATURE_PROTOCOLS)]
    for contender in [c for c in run.contenders if c.gives_features] if asked else []:
        identity, whitening = contender.identity(), contender.whitening
        for data in dict.fromkeys(one.task.data for one in asked):
            embedded = _Embedded(run, contender, run.suite.manifest(data))
            for one in [one for one in asked if one.task.data == data]:
                for protocol in [p for p in one.protocols if p in FEATURE_PROTOCOLS]:
                    for setting in settings_of(protocol, run.suite.settings):
                        needed = {"whitened": whitening is not None}
                        needed |= dict.fromkeys(SIGNED, contender.reads_signatures)
                        if needed.get(setting, True):
                            yield _feature_job(run, embedded, identity, one.task, protocol, setting)


def _feature_job(
    run: Run, embedded: _Embedded, identity: dict[str, Any], task: Task, protocol: str, setting: str
) -> Job:
    patients, settings = run.patients_of(task), run.suite.settings
    official = None if task.official is None else task.official.tolist()
    files = run.hashes_of(row.path for row in task.rows)

    def make() -> Cell | str:
        given = embedded.of(task, setting)
        cell = run_cell(protocol, setting, given, task, patients, settings, embedded.contender.widths)
        first = embedded.contender is run.contenders[0] and setting == "cosine"
        if protocol == "retrieval" and first and isinstance(cell, Cell):
            cell.extra["overlays"] = frame_overlays(task.rows, run.out, task.name)
        return cell

    return Job(
        protocol, task, setting, embedded.contender.name,
        (protocol, setting, identity, settings.as_dict(), task.sha256, task.names, files,
         task.truth.tolist(), patients.tolist(), official,
         *(("questions", 1) if protocol == "retrieval" else ())),
        make, lambda cell: _drawn_ids(task, cell),
    )  # fmt: skip


def _drawn_ids(task: Task, cell: Cell) -> dict[str, Any]:
    names = np.array(task.names)
    drawn = {}
    for outcome in cell.outcomes:
        parts = {part: names[rows].tolist() for part, rows in outcome.parts.items()}
        if not any(part.startswith("fold") for part in parts):
            parts["test"] = names[outcome.tested].tolist()
        drawn[str(outcome.seed)] = parts
    return drawn


def vessel_jobs(run: Run, asked: Sequence[Asked]) -> Iterator[Job]:
    """Vessels of each task, for every number of pictures to learn from."""
    settings = run.suite.settings
    for task in [one.task for one in asked if "vessels" in one.protocols]:
        _describe(run, task, "drawn by patient")
        methods = [m for c in run.contenders if (m := c.vessels(settings)) is not None]
        for shots in settings.vessel_shots:
            for method in methods:
                yield _vessel_job(run, method, task, shots)


def _vessel_job(run: Run, method: VesselMethod, task: Task, shots: int) -> Job:
    settings, setting = run.suite.settings, f"{shots} shots"

    def make() -> Cell | str:
        run.say(f"{method.name}: vessels of {task.data}, {setting}")
        overlays: list[dict[str, str]] = []

        def look(row: Row, picture: NDArray[np.uint8]) -> None:
            names = (task.name, str(shots), method.name, row.name)
            name = f"overlays/{'-'.join(map(file_name, names))}.jpg"
            image = Image.fromarray(picture)
            size = (_OVERLAY_WIDTH, round(_OVERLAY_WIDTH * image.height / image.width))
            with written_beside(run.out / name) as scratch:
                image.resize(size, Image.Resampling.LANCZOS).save(scratch, "JPEG", quality=82)
            overlays.append({"picture": row.name, "file": name})

        found = vessel_runs(
            method, task.rows, shots, settings.vessel_seeds, tests=settings.vessel_tests, look=look
        )
        if isinstance(found, str):
            return found
        runs = [
            {"seed": one.seed, "drawn": one.drawn, "pictures": {p.name: p.figures for p in one.pictures}}
            for one in found
        ]
        figures = vessel_figures(found, samples=settings.bootstrap)
        return Cell(figures, [], {"runs": runs, "overlays": overlays})

    read = [(row.path, row.mask, row.columns.get("field")) for row in task.rows]
    files = run.hashes_of(file for of_row in read for file in of_row if file)
    determined_by = ("vessels", setting, method.identity, settings.as_dict(), task.sha256, task.names, files)
    return Job("vessels", task, setting, method.name, determined_by, make, _drawn_pictures)


def _drawn_pictures(cell: Cell) -> dict[str, Any]:
    return {
        str(one["seed"]): {"train": one["drawn"], "test": list(one["pictures"])} for one in cell.extra["runs"]
    }


def video_jobs(run: Run, asked: Sequence[Asked]) -> Iterator[Job]:
    """Generated videos against the real ones of each task."""
    for task in [one.task for one in asked if "video" in one.protocols]:
        for contender in run.contenders:
            source = contender.videos()
            if isinstance(source, str):
                run.skip("video", task.name, FRAMES_SETTING, contender.name, source)
            elif source is not None:
                _describe(run, task, "all")
                yield _video_job(run, source, task)


def _video_job(run: Run, source: VideoSource, task: Task) -> Job:
    from retina_fm.training.pairs.table import read_pairs

    settings = run.suite.settings
    wanted = {row.name for row in task.rows}
    sequences = [s for s in read_pairs(run.suite.pairs_of(task.data)) if s.name in wanted]

    def make() -> Cell:
        run.say(f"{source.name}: videos of {task.data}")
        sheet = f"sheets/{task.name}-{source.name}.png"
        scores = score_videos(
            source,
            sequences,
            size=settings.video_size,
            lpips=settings.lpips,
            fvd=settings.fvd,
            sheet=run.out / sheet,
        )
        extra = {"sequences": scores.names, "columns": scores.columns, "sheets": [{"file": sheet}]}
        return Cell(video_figures(scores, samples=settings.bootstrap), [], extra)

    files = run.hashes_of(path for s in sequences for path in (s.photo, *(frame.path for frame in s.frames)))
    determined_by = ("video", source.identity, settings.as_dict(), task.sha256, task.names, files)
    return Job("video", task, FRAMES_SETTING, source.name, determined_by, make)


def _describe(run: Run, task: Task, split: str) -> None:
    run.tasks[task.name] = {
        "set": task.data,
        "pictures": len(task.rows),
        "patients": len(set(task.patients.tolist())),
        "split": split,
        "manifest_sha256": task.sha256,
    }
