"""How benchmarks here take time: interleaved, best of several, ratios in one run."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch


def best_of(jobs: dict[str, Callable[[], object]], rounds: int = 5, warm: int = 1) -> dict[str, float]:
    """Least seconds of each job over rounds in which every job runs once, so that noise meets all alike."""
    for job in jobs.values():
        for _ in range(warm):
            job()
    seconds = dict.fromkeys(jobs, float("inf"))
    for _ in range(rounds):
        for name, job in jobs.items():
            wait()
            started = time.perf_counter()
            job()
            wait()
            seconds[name] = min(seconds[name], time.perf_counter() - started)
    return seconds


def wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()


def matrix_job(dtype: torch.dtype, device: torch.device) -> tuple[Callable[[], object], float]:
    """A square matrix product and its floating-point operations: the rate that a machine really has."""
    edge = 8192 if device.type == "cuda" else 3072
    a = torch.randn(edge, edge, device=device).to(dtype)
    return lambda: a @ a, 2.0 * edge**3
