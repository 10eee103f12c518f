"""Runs of ``retina-fm pretrain`` side by side, one a core, and what their validations said."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeVar

_Job = TypeVar("_Job")
_Out = TypeVar("_Out")
PROGRAM = str(Path(sys.executable).with_name("retina-fm"))


def each_on_a_core(work: Callable[[_Job, int], _Out], jobs: Sequence[_Job]) -> list[_Out]:
    """``work(job, core)`` for all jobs, as many at once as this process has cores."""
    own = sorted(os.sched_getaffinity(0))
    cores: SimpleQueue[int] = SimpleQueue()
    for core in own:
        cores.put(core)

    def one(job: _Job) -> _Out:
        core = cores.get()
        try:
            return work(job, core)
        finally:
            cores.put(core)

    with ThreadPoolExecutor(len(own)) as pool:
        return list(pool.map(one, jobs))


def call(command: Sequence[str], core: int) -> None:
    """A command on one core; ends the script with what it wrote to standard error if it fails."""
    finished = subprocess.run(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"},
        preexec_fn=lambda: os.sched_setaffinity(0, {core}),
        capture_output=True,
        text=True,
    )
    if finished.returncode:
        raise SystemExit(f"{' '.join(command[:6])}: {finished.stderr[-2000:]}")


def pretrain_command(
    run: Path,
    *,
    preset: str,
    data: Iterable[Path],
    vessels: Iterable[Path],
    minutes: float,
    every: float,
    seed: int = 0,
    crops: Iterable[str] = (),
    settings: Mapping[str, Any] = {},
) -> list[str]:
    """``retina-fm pretrain`` with a schedule of so many minutes, continued where it was killed."""
    command = [PROGRAM, "pretrain", "--preset", preset, "--out", str(run), "--resume", "--seed", str(seed)]
    command += ["--schedule-minutes", str(minutes), "--save-minutes", "2", "--validate-minutes", str(every)]
    command += ["--vessels", *map(str, vessels)]
    command += [part for folder in data for part in ("--data", str(folder))]
    command += [part for crop in crops for part in ("--crop", crop)]
    return command + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]


def curve(run: Path) -> list[dict[str, float]]:
    """Minutes, samples and zero-shot AUROC of vessels of each validation."""
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    about = json.loads((run / "run.json").read_text())["preset"]
    samples = about["batch"] * about["accumulation"]
    clock = {row["step"]: row["minutes"] for row in rows if "minutes" in row}
    points = []
    for row in rows:
        if "validation/vessel_auroc" in row:
            step = row["step"]
            near = min(clock, key=lambda other: abs(other - step))
            points.append(
                {
                    "minutes": round(clock[near] * step / near, 1),
                    "samples": step * samples,
                    "auroc": round(row["validation/vessel_auroc"], 4),
                }
            )
    return points


def run_name(name: str) -> str:
    """A variant's name as a folder's."""
    return "".join(letter if letter.isalnum() else "_" for letter in name)
