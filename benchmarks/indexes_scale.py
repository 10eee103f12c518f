"""Scale of the index with made vectors: build time, memory, speed, recall, beside the machine's own limits.

``python benchmarks/indexes_scale.py --rows 1000000 --store /tmp/scale --out scale_1m.json``

The vectors lie in clusters on a 64-dimensional manifold in 1024 dimensions, with a little noise in all.
The store is made block by block (nothing is ever held as a whole), and removed at the end unless ``--keep``.
Memory bandwidth and matrix rate are measured in the same run, between the searches they are compared with.
"""

from __future__ import annotations

import argparse
import json
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import psutil
import torch
from timing import best_of

from retina_fm.indexes import ImageIndex, index
from retina_fm.indexes.cache import build_cache
from retina_fm.indexes.searcher import Searcher

WIDTH, LATENT, CLUSTERS = 1024, 64, 10_000
BLOCK = 250_000


def made_blocks(rows: int, seed: int = 0) -> Iterator[np.ndarray]:
    shape = np.random.Generator(np.random.PCG64(seed))
    centres = shape.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    basis = np.linalg.qr(shape.standard_normal((WIDTH, LATENT)))[0].T.astype(np.float32)
    noise = 0.02 * shape.standard_normal((4096, WIDTH), dtype=np.float32)
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        random = np.random.Generator(np.random.PCG64([seed, first]))
        latent = random.standard_normal((count, LATENT), dtype=np.float32) * np.float32(0.7)
        latent += centres[random.integers(0, CLUSTERS, count)]
        block = latent @ basis
        start = int(random.integers(0, 4096))
        for offset in range(0, count, 4096):
            part = block[offset : offset + 4096]
            part += np.roll(noise, start + offset, axis=0)[: len(part)]
        yield block


class Memory:
    """The largest resident set of this process, sampled: pages of mapped files apart."""

    def __init__(self) -> None:
        self.process = psutil.Process()
        self.anonymous = self.resident = 0
        self._stop = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._stop.wait(0.2):
            info = self.process.memory_info()
            self.resident = max(self.resident, info.rss)
            self.anonymous = max(self.anonymous, info.rss - info.shared)

    def peak(self) -> dict[str, float]:
        found = {"own_gb": self.anonymous / 1e9, "with_mapped_files_gb": self.resident / 1e9}
        self.anonymous = self.resident = 0
        return {key: round(value, 2) for key, value in found.items()}


def recall(found: np.ndarray, truth: np.ndarray) -> float:
    return float(np.mean([np.isin(t, f).mean() for t, f in zip(truth, found, strict=True)]))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--store", type=Path, required=True)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--vectors", default="float32", choices=("float32", "float16"))
    parser.add_argument("--no-exact", action="store_true", help="leave out exact search in memory")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", action="store_true")
    parser.add_argument("--reuse", action="store_true", help="the store was written by an earlier run")
    arguments = parser.parse_args()
    memory, rows = Memory(), arguments.rows
    result: dict[str, object] = {"rows": rows, "width": WIDTH, "vectors": arguments.vectors}
    queries = next(made_blocks(64, seed=0))  # the first 64 rows' own clusters and noise, drawn apart below
    random = np.random.Generator(np.random.PCG64(99))
    queries = queries + 0.02 * random.standard_normal(queries.shape, dtype=np.float32)

    found, building, generating = None, 0.0, 0.0
    blocks = made_blocks(0 if arguments.reuse else rows)
    if arguments.reuse:
        found = ImageIndex.open(arguments.store)
    while True:
        started = time.perf_counter()
        block = next(blocks, None)
        generating += time.perf_counter() - started
        if block is None:
            break
        started = time.perf_counter()
        if found is None:
            found = index(block[:1], None, store=arguments.store, vectors=arguments.vectors)
            block = block[1:]
        found.add(block, build=False)
        building += time.perf_counter() - started
        print(f"{len(found)} rows, {building:.0f} s, {memory.resident / 1e9:.1f} GB", flush=True)
    assert found is not None
    result["write"] = {
        "seconds": round(building, 1),
        **memory.peak(),
        "making_them_seconds": round(generating),
    }
    started = time.perf_counter()
    found.add(block_of_none(), build=True)
    result["build"] = {"seconds": round(time.perf_counter() - started, 1), **memory.peak()}
    result["recall_at_build"] = found.manifest.recall
    result["disk_gb"] = round(sum(p.stat().st_size for p in arguments.store.rglob("*")) / 1e9, 2)
    started = time.perf_counter()
    found = ImageIndex.open(arguments.store)
    first = found.search(queries[0], 10)
    result["open_and_first_search_seconds"] = round(time.perf_counter() - started, 2)
    assert len(first) == 10

    jobs: dict[str, Callable[[], object]] = {}
    traffic = torch.ones(256 << 20)
    square = torch.randn(3072, 3072)
    jobs["bandwidth"] = traffic.sum
    jobs["matrix"] = lambda: square @ square
    if found.approximate:
        jobs["approximate 1"] = lambda: [found.search(q, 10) for q in queries[:16]]
        jobs["approximate 64"] = lambda: found.search(queries, 10)
    if not arguments.no_exact:
        exact = Searcher(found.state, found.space, build_cache(found.state, found.space, exact_up_to=rows))
        jobs["exact 1"] = lambda: exact.search(queries[:1], 10)
        jobs["exact 64"] = lambda: exact.search(queries, 10)
    memory.peak()
    seconds = best_of(jobs, arguments.rounds, warm=0)
    bandwidth = traffic.nbytes / seconds["bandwidth"]
    matrix = 2 * 3072**3 / seconds["matrix"]
    result["machine"] = {
        "bandwidth_gb_s": round(bandwidth / 1e9, 1),
        "matrix_gflop_s": round(matrix / 1e9, 1),
    }
    speed: dict[str, float] = {}
    if found.approximate:
        speed["approximate, 1 query at a time, queries/s"] = 16 / seconds["approximate 1"]
        speed["approximate, 64 at once, queries/s"] = 64 / seconds["approximate 64"]
    if not arguments.no_exact:
        size = 4.0 * rows * WIDTH
        speed["exact, 1 query at a time, queries/s"] = 1 / seconds["exact 1"]
        speed["exact, 64 at once, queries/s"] = 64 / seconds["exact 64"]
        speed["exact 1 / memory bandwidth"] = size / seconds["exact 1"] / bandwidth
        speed["exact 64 / matrix rate"] = 64 * size / 2 / seconds["exact 64"] / matrix
        if found.approximate:
            speed["approximate / exact, 1 query"] = seconds["exact 1"] / (seconds["approximate 1"] / 16)
            speed["approximate / exact, 64 queries"] = seconds["exact 64"] / seconds["approximate 64"]
    result["speed"] = {key: round(value, 3) for key, value in speed.items()}
    result["search_memory"] = memory.peak()
    started = time.perf_counter()
    if found.approximate:
        truth = (
            found.searcher.search(queries, 10, exact=True)
            if arguments.no_exact
            else exact.search(queries, 10)
        )
        result["exact_scan_from_disk_seconds"] = round(time.perf_counter() - started, 1)
        approximate = found.searcher.search(queries, 10)
        result["recall@10 of 64 fresh queries"] = round(recall(approximate.positions, truth.positions), 4)
    print(json.dumps(result, indent=2))
    if arguments.out:
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
    if not arguments.keep:
        shutil.rmtree(arguments.store)


def block_of_none() -> np.ndarray:
    return np.empty((0, WIDTH), np.float32)


if __name__ == "__main__":
    main()
