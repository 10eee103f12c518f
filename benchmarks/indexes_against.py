"""The index of this checkout beside that of another one: the same steps, in turns, in one run.

    python benchmarks/indexes_against.py --other OTHER_CHECKOUT --work DIR --rows 10000 100000 1000000

Each checkout is a process of its own; every step is taken by one and then by the other, the best of a few
rounds counts. Printed are seconds, also of the processor alone (for a machine that others use too), and the
ratio other / this (more than 1: this one is faster). The vectors
lie in clusters; with ``--names`` each has a path, else it is called by its number.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
WORKER = """
import json, shutil, sys, time
from pathlib import Path
import numpy as np
from retina_fm.indexes import ImageIndex, index

rows, width, names, store = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3] == "names", Path(sys.argv[4])
shape = np.random.default_rng(0)
centres = shape.standard_normal((10_000, width), dtype=np.float32)

def block(count, seed):
    random = np.random.default_rng(seed)
    noise = random.standard_normal((count, width), dtype=np.float32)
    return centres[random.integers(0, 10_000, count)] + np.float32(0.6) * noise

queries = block(64, 999)
index(block(100, 1)).search(queries, 3)
paths = [f"clinic/{i // 100:06d}/photo_{i % 100:02d}.jpg" for i in range(rows)] if names else None
found = None

def write():
    global found
    shutil.rmtree(store, ignore_errors=True)
    found, spent = None, 0.0
    for first in range(0, rows, 250_000):
        part = block(min(250_000, rows - first), first + 1)
        some = {"paths": paths[first : first + len(part)]} if names else {}
        started = time.perf_counter()
        if found is None:
            found = index(part[:1], None, store=store, **({"paths": paths[:1]} if names else {}))
            part = part[1:]
            some = {"paths": paths[1 : 1 + len(part)]} if names else {}
        found.add(part, build=False, **some)
        spent += time.perf_counter() - started
    return spent

def build():
    started = time.perf_counter()
    found.add(np.empty((0, width), np.float32), build=True, **({"paths": []} if names else {}))
    return time.perf_counter() - started

def timed(job):
    started = time.perf_counter()
    job()
    return time.perf_counter() - started

def opened():
    global found
    found = ImageIndex.open(store)
    found.search(queries[0], 10)

steps = {
    "write": write, "build": build, "open and first search": lambda: timed(opened),
    "one query": lambda: timed(lambda: [found.search(q, 10) for q in queries[:16]]) / 16,
    "64 queries": lambda: timed(lambda: found.search(queries, 10)),
    "exact, one query": lambda: timed(lambda: found.search(queries[1], 10, exact=True)),
    "answers": lambda: [[[h.path, h.score] for h in hits] for hits in found.search(queries, 10, exact=True)],
}
for line in sys.stdin:
    used = time.process_time()
    answer = steps[line.strip()]()
    print(json.dumps([answer, time.process_time() - used]), flush=True)
"""


class Worker:
    """A checkout in a process of its own."""

    def __init__(self, root: Path, rows: int, width: int, names: bool, store: Path) -> None:
        environment = {**os.environ, "PYTHONPATH": str(root)}
        command = [sys.executable, "-c", WORKER, str(rows), str(width), "names" if names else "", str(store)]
        self.run = subprocess.Popen(
            command, env=environment, cwd=root, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )

    def step(self, name: str) -> Any:
        assert self.run.stdin is not None and self.run.stdout is not None
        self.run.stdin.write(name + "\n")
        self.run.stdin.flush()
        return json.loads(self.run.stdout.readline())

    def end(self) -> None:
        assert self.run.stdin is not None
        self.run.stdin.close()
        self.run.wait()


def beside(other: Path, work: Path, rows: int, width: int, names: bool, rounds: int) -> dict[str, Any]:
    """Seconds of both, and their ratios."""
    stores = [work / "this", work / "other"]
    workers = [
        Worker(root, rows, width, names, store) for root, store in zip((ROOT, other), stores, strict=True)
    ]
    searches = ("open and first search", "one query", "64 queries", "exact, one query")
    steps = {"write": 1 if rows >= 10**6 else 3, "build": 1, **dict.fromkeys(searches, rounds)}
    best: dict[str, list[float]] = {}
    for step, times in steps.items():
        for turn in range(times):
            order = (0, 1) if turn % 2 else (1, 0)
            for number in order:
                seconds, processor = workers[number].step(step)
                for name, value in ((step, seconds), (f"{step}, processor", processor)):
                    both = best.setdefault(name, [float("inf")] * 2)
                    both[number] = min(both[number], value)
    mine, others = (worker.step("answers")[0] for worker in workers)
    for worker in workers:
        worker.end()
    for kind in ("", ", processor"):
        pairs = zip(best[f"write{kind}"], best[f"build{kind}"], strict=True)
        best[f"write and build{kind}"] = [written + built for written, built in pairs]
    result: dict[str, Any] = {
        step: {"this": round(a, 5), "other": round(b, 5), "ratio": round(b / a, 2)}
        for step, (a, b) in best.items()
    }
    result |= {"rows": rows, "width": width, "names": names, "same answers": mine == others}
    result["disk, MB"] = [round(sum(p.stat().st_size for p in s.rglob("*")) / 1e6, 1) for s in stores]
    for store in stores:
        shutil.rmtree(store)
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--other", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--rows", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--names", action="store_true")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    found = []
    for rows in arguments.rows:
        found.append(beside(arguments.other.resolve(), arguments.work, rows, arguments.width, arguments.names,
                            arguments.rounds))  # fmt: skip
        print(json.dumps(found[-1], indent=1), flush=True)
    if arguments.out:
        arguments.out.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
