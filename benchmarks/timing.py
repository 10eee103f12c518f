"""How benchmarks here take time: interleaved, best of several, ratios in one run."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch


@dataclass
class Taken:
    """Seconds that a block took, and processor seconds of this process."""

    seconds: float = 0.0
    processor: float = 0.0


@contextmanager
def taken() -> Iterator[Taken]:
    """Time of a block, what it started on a GPU included; known once the block has ended."""
    result = Taken()
    wait()
    began, used = time.perf_counter(), time.process_time()
    yield result
    wait()
    result.seconds, result.processor = time.perf_counter() - began, time.process_time() - used


def best_of(jobs: dict[str, Callable[[], object]], rounds: int = 5, warm: int = 1) -> dict[str, float]:
    """Least seconds of each job over rounds in which every job runs once, so that noise meets all alike."""
    for job in jobs.values():
        for _ in range(warm):
            job()
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            with taken() as once:
                job()
            seconds[name] = min(seconds[name], once.seconds)
    return seconds


def rate(work: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Items a second; ``work`` does some and says how many.

    On a CPU a second is one of processor time, so that what else the machine does hardly counts.
    """
    work()
    done, spent = 0, 0.0
    while spent < seconds:
        with taken() as once:
            done += work()
        spent += once.processor if device.type == "cpu" else once.seconds
    return done / spent


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_job(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], object], float]:
    """A square matrix product and its floating-point operations: the rate that a machine really has."""
    edge = 8192 if device.type == "cuda" else 3072
    a = torch.randn(edge, edge, device=device).to(dtype)
    return lambda: a @ a, 2.0 * edge**3
