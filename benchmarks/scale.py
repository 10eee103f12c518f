"""What a large job costs, worked out from measured rates, and 1,000 workers with stragglers and failures.

``python benchmarks/scale.py [--seeds 20] [--json docs/results/scale.json]``

Nothing here is timed: rates and prices are the parameters below, each with where it comes from. The
simulation draws, from a seed, how large each shard is, how fast each worker is and when it dies, and plays
the job through.
"""

from __future__ import annotations

import argparse
import heapq
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from tables import table, written

CORE_SECONDS = {
    "fundus2video-half, float32": 0.72,
    "fundus2video-half, bfloat16": 0.45,
    "fundus2video, float32": 2.7,
    "fundus2video, bfloat16": 1.08,
}
"""Of one core a photo, docs/performance.md; those of `fundus2video` by its ratios to ViT-L/16."""
DECODING = 0.028
"""Core seconds a photo of 964 x 640, docs/performance.md."""
CORE_PRICE, GPU_PRICE = 0.0816 / 2, 1.006
"""Dollars an hour: m7g.large (two cores) and g5.xlarge on demand, us-east-1, June 2026."""
GPU_RATES = (50, 200, 800)
"""Photos a second of one GPU: a parameter, none was measured."""
CORES = 16


@dataclass(frozen=True)
class Job:
    """What is simulated: 10^8 photos of `fundus2video-half` in bfloat16 on 1,000 machines of 16 cores."""

    photos: int = 100_000_000
    workers: int = 1000
    seconds: float = (CORE_SECONDS["fundus2video-half, bfloat16"] + DECODING) / CORES
    slow_share: float = 0.02
    slow_times: float = 4.0
    jitter: float = 0.1
    hours_between_failures: float = 24.0
    restart: float = 300.0
    kept_every: float = 1.0


@dataclass(frozen=True)
class Division:
    """How the job is cut.

    Attributes:
        pieces: of which a free worker takes the next.
        resumed: whether finished rows of a piece outlive its worker.
        start: seconds before a piece's first photo: Python, the model, the queue.
        noticed: seconds until the piece of a dead worker is given to another.
    """

    pieces: int
    resumed: bool = True
    start: float = 30.0
    noticed: float = 300.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    print(table(["model", "core hours, 10^6", "dollars", "core hours, 10^8", "dollars"], cpu_rows()), "\n")
    print(table(["nodes of 16 cores", "10^6, hours", "10^8, hours"], node_rows()), "\n")
    print(
        table(["photos/s a GPU", "10^6, hours", "dollars", "10^8, hours", "dollars", "cores"], gpu_rows()),
        "\n",
    )
    print(
        table(["vectors", "vectors, GB", "float16, GB", "codes of 64, GB", "codes of 256, GB"], vector_rows())
    )
    found = simulations(Job(), arguments.seeds)
    rows = [(name, *figures.values()) for name, figures in found.items()]
    print("\n" + table(["division", "hours, mean", "worst", "of the ideal", "work done twice"], rows))
    if arguments.json:
        job = {**asdict(Job()), "seeds": arguments.seeds, "ideal_hours": ideal(Job()) / 3600}
        written(arguments.json, {"job": job, "simulated": found})


def cpu_rows() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for name, seconds in CORE_SECONDS.items():
        hours = [photos * (seconds + DECODING) / 3600 for photos in (1e6, 1e8)]
        rows.append((name, *(f"{value:,.0f}" for hour in hours for value in (hour, hour * CORE_PRICE))))
    return rows


def node_rows() -> list[tuple[object, ...]]:
    each = (CORE_SECONDS["fundus2video-half, bfloat16"] + DECODING) / CORES / 3600
    return [
        (nodes, *(f"{photos * each / nodes:,.2f}" for photos in (1e6, 1e8))) for nodes in (1, 10, 100, 1000)
    ]


def gpu_rows() -> list[tuple[object, ...]]:
    rows: list[tuple[object, ...]] = []
    for rate in GPU_RATES:
        hours = [photos / rate / 3600 for photos in (1e6, 1e8)]
        told = [f"{value:,.1f}" for hour in hours for value in (hour, hour * GPU_PRICE)]
        rows.append((rate, *told, int(np.ceil(rate * DECODING))))
    return rows


def vector_rows(length: int = 512) -> list[tuple[object, ...]]:
    """Whole vectors on disk, and what an index in memory holds: codes of a byte a number, and an id of 8."""
    return [
        (f"10^{power}", *(f"{10**power * size / 1e9:,.1f}" for size in (4 * length, 2 * length, 72, 264)))
        for power in (6, 7, 8, 9)
    ]


def ideal(job: Job) -> float:
    """Seconds with workers all alike that never fail."""
    return job.photos * job.seconds / job.workers


def simulations(job: Job, seeds: int) -> dict[str, dict[str, float]]:
    """Hours of each way to divide the work, over seeds, the same workers and failures in each way."""
    ways = {
        "1,000 shards, a killed one begins anew": Division(1000, resumed=False),
        "1,000 shards": Division(1000),
        "3,000 shards": Division(3000),
        "10,000 shards": Division(10_000),
        "30,000 shards": Division(30_000),
        "100,000 shards": Division(100_000),
        "batches of 256 (Ray)": Division(job.photos // 256, resumed=False, start=0.0, noticed=10.0),
    }
    found = {}
    for name, way in ways.items():
        runs = [played(job, way, seed) for seed in range(seeds)]
        hours = np.array([run[0] for run in runs]) / 3600
        again = np.array([run[1] for run in runs]) / (job.photos * job.seconds)
        found[name] = {
            "hours": float(hours.mean()),
            "worst": float(hours.max()),
            "of_the_ideal": float(ideal(job) / 3600 / hours.mean()),
            "twice": float(again.mean()),
        }
    return found


def played(job: Job, way: Division, seed: int) -> tuple[float, float]:
    """Seconds until the last photo is done, and seconds of work that were done twice.

    A free worker takes the next piece. When it dies, what it had not kept is lost, the rest of the piece goes
    back to the queue once that is noticed, and the worker is free again after the restart.
    """
    random = np.random.Generator(np.random.PCG64([seed, 0]))  # workers are the same for every division
    pace = np.exp(job.jitter * random.standard_normal(job.workers))
    pace[random.random(job.workers) < job.slow_share] *= job.slow_times
    dying = np.random.Generator(np.random.PCG64([seed, 1]))
    sizes = np.random.Generator(np.random.PCG64([seed, 2])).poisson(job.photos / way.pieces, way.pieces)
    queue = [float(size) for size in sizes]
    free: list[tuple[float, int, float]] = [(0.0, worker, 0.0) for worker in range(job.workers)]
    idle: list[int] = []
    last = again = 0.0
    while free:
        now, worker, returned = heapq.heappop(free)
        if worker < 0:
            queue.append(returned)
        else:
            idle.append(worker)
        while queue and idle:
            size, worker = queue.pop(), idle.pop()
            each = job.seconds * pace[worker]
            takes, dies = way.start + size * each, dying.exponential(job.hours_between_failures * 3600)
            if dies >= takes:
                last = max(last, now + takes)
                heapq.heappush(free, (now + takes, worker, 0.0))
                continue
            done = max(0.0, dies - way.start)
            kept = max(0.0, done - job.kept_every) if way.resumed else 0.0
            again += done - kept
            heapq.heappush(free, (now + dies + way.noticed, -1, size - kept / each))
            heapq.heappush(free, (now + dies + job.restart, worker, 0.0))
    return last, again


if __name__ == "__main__":
    main()
