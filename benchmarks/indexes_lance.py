"""An index in LanceDB beside one of SQLite and FAISS: building from Parquet, memory, speed, recall, kills.

``python benchmarks/indexes_lance.py SCRATCH --out lance.json [--rows 1000000] [--photos PHOTOS]``

The vectors (512 numbers, in clusters on a 64-dimensional manifold) go into a Parquet table block by block.
Each build runs in a process of its own, whose largest resident set is its memory. ``--steps`` runs some of
the steps; what earlier ones left in SCRATCH is used, and the last one removes it.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tables import table
from timing import best_of

import retina_fm
from retina_fm.errors import IndexNotFoundError
from retina_fm.indexes import ImageIndex

WIDTH, LATENT, CLUSTERS, BLOCK = 512, 64, 10_000, 50_000
STEPS = ("make", "sqlite", "lance", "search", "kills", "photos", "clean")
MODEL = "fundus2video-tiny"


def made_blocks(rows: int, seed: int = 0) -> Iterator[np.ndarray]:
    shape = np.random.Generator(np.random.PCG64(seed))
    centres = shape.standard_normal((CLUSTERS, LATENT), dtype=np.float32)
    basis = np.linalg.qr(shape.standard_normal((WIDTH, LATENT)))[0].T.astype(np.float32)
    noise = 0.02 * shape.standard_normal((BLOCK, WIDTH), dtype=np.float32)
    for first in range(0, rows, BLOCK):
        count = min(BLOCK, rows - first)
        drawn = np.random.Generator(np.random.PCG64([seed, first]))
        latent = drawn.standard_normal((count, LATENT), dtype=np.float32) * np.float32(0.7)
        latent += centres[drawn.integers(0, CLUSTERS, count)]
        yield latent @ basis + np.roll(noise, int(drawn.integers(BLOCK)), axis=0)[:count]


def make(path: Path, rows: int) -> None:
    schema = pa.schema([("path", pa.string()), ("embedding", pa.list_(pa.float32(), WIDTH))])
    with pq.ParquetWriter(path, schema, compression="none") as writer:
        done = 0
        for block in made_blocks(rows):
            names = [f"photo-{number}.jpg" for number in range(done, done + len(block))]
            vectors = pa.FixedSizeListArray.from_arrays(pa.array(block.reshape(-1)), WIDTH)
            writer.write_table(pa.table([names, vectors], schema=schema))
            done += len(block)


def build(source: Path, store: str) -> None:
    """In a process of its own: the index of a table, and what it took, as JSON."""
    started = time.perf_counter()
    found = retina_fm.index(source, store=store)
    seconds = time.perf_counter() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024  # kilobytes on Linux
    report = {
        "rows": len(found),
        "build_seconds": round(seconds, 1),
        "peak_resident_gb": round(peak / 1e9, 2),
        "recall": found.manifest.recall,
    }
    print(json.dumps(report))


def process(source: Path, store: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, "--build", str(source), store], stdout=subprocess.PIPE, text=True
    )


def built(source: Path, store: str) -> dict[str, Any]:
    run = process(source, store)
    text = run.communicate()[0]
    if run.returncode:
        raise SystemExit(f"the build of {store} failed")
    found: dict[str, Any] = json.loads(text)
    folder = Path(store.removeprefix("lance://"))
    size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    return {**found, "disk_gb": round(size / 1e9, 2)}


def search(stores: dict[str, str], rounds: int) -> dict[str, Any]:
    """Both stores asked the same, in turns."""
    drawn = np.random.Generator(np.random.PCG64(99))
    queries = next(made_blocks(BLOCK))[:64]
    queries = queries + 0.02 * drawn.standard_normal(queries.shape, dtype=np.float32)
    result: dict[str, Any] = {}
    indexes, answers = {}, {}
    for name, store in stores.items():
        started = time.perf_counter()
        indexes[name] = ImageIndex.open(store)
        opened = time.perf_counter() - started
        started = time.perf_counter()
        answers[name] = indexes[name].search(queries, 10, exact=True)
        exact = time.perf_counter() - started
        result[name] = {"open_seconds": round(opened, 2), "exact_64_from_disk_seconds": round(exact, 1)}
    told = [[[(h.path, h.score) for h in hits] for hits in found] for found in answers.values()]
    result["exact answers are equal"] = all(one == told[0] for one in told)
    jobs: dict[str, Callable[[], object]] = {}
    for name, index in indexes.items():
        found = index.search(queries, 10)
        hit = [
            len({h.path for h in a} & {h.path for h in b}) for a, b in zip(found, answers[name], strict=True)
        ]
        result[name]["recall@10 of 64 fresh queries"] = round(float(np.mean(hit)) / 10, 4)
        jobs[f"{name} 1"] = lambda index=index: [index.search(q, 10) for q in queries[:16]]  # type: ignore[misc]
        jobs[f"{name} 64"] = lambda index=index: index.search(queries, 10)  # type: ignore[misc]
    seconds = best_of(jobs, rounds)
    for name in stores:
        result[name]["queries/s, one at a time"] = round(16 / seconds[f"{name} 1"], 1)
        result[name]["queries/s, 64 at once"] = round(64 / seconds[f"{name} 64"], 1)
    result["peak_resident_gb"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9, 2)
    return result


def kills(scratch: Path, rows: int, count: int) -> dict[str, Any]:
    """Builds killed at random moments: there is no index yet or a whole one, and the next run finishes."""
    source, store = scratch / "killed.parquet", f"lance://{scratch / 'killed'}"
    make(source, rows)
    started = time.perf_counter()
    built(source, store)
    whole = time.perf_counter() - started
    moments, states = random.Random(0), []
    for _ in range(count):
        shutil.rmtree(scratch / "killed")
        run, moment = process(source, store), moments.uniform(0.1, 1) * whole
        try:
            run.wait(moment)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
        run.communicate()
        try:
            states.append((round(moment, 1), len(ImageIndex.open(store)), ImageIndex.open(store).verify()))
        except IndexNotFoundError:
            states.append((round(moment, 1), 0, []))
        assert states[-1][1] in (0, rows) and states[-1][2] == [], states[-1]
        print(states[-1], flush=True)
    again = built(source, store)
    assert again["rows"] == rows and ImageIndex.open(store).verify() == []
    source.unlink()
    shutil.rmtree(scratch / "killed")
    return {"rows": rows, "whole_build_seconds": round(whole, 1), "killed_at_seconds_rows_found": states}


def photos(folder: str, scratch: Path, count: int) -> dict[str, Any]:
    """Photographs in both stores, and every answer of both."""
    chosen = [*map(str, retina_fm.pictures.expand(folder))][:count]
    result: dict[str, Any] = {"photos": len(chosen), "model": MODEL}
    indexes = {}
    for name, store in (("sqlite", str(scratch / "p")), ("lance", f"lance://{scratch / 'pl'}")):
        started = time.perf_counter()
        retina_fm.index(chosen, MODEL, store=store, progress=False)
        result[f"{name}_build_seconds"] = round(time.perf_counter() - started, 1)
        indexes[name] = ImageIndex.open(store)
    for space in ("embedding", "signature", "retrieval"):
        answers = [
            [[hit.as_dict() for hit in hits] for hits in index.search(chosen, 10, space=space)]
            for index in indexes.values()
        ]
        result[f"{space}: equal answers"] = answers[0] == answers[1]
    shutil.rmtree(scratch / "p")
    shutil.rmtree(scratch / "pl")
    return result


def main() -> None:
    if sys.argv[1:2] == ["--build"]:
        build(Path(sys.argv[2]), sys.argv[3])
        return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("scratch", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--killed-rows", type=int, default=210_000, help="enough for an approximate index")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--photos", help="folder of photographs")
    parser.add_argument("--count", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", nargs="+", choices=STEPS, default=STEPS)
    arguments = parser.parse_args()
    scratch = arguments.scratch
    scratch.mkdir(parents=True, exist_ok=True)
    source = scratch / "made.parquet"
    stores = {"sqlite": str(scratch / "sqlite"), "lance": f"lance://{scratch / 'lance'}"}
    result = json.loads(arguments.out.read_text()) if arguments.out.exists() else {}
    for step in arguments.steps:
        if step == "make":
            make(source, arguments.rows)
        elif step in stores:
            result[step] = built(source, stores[step])
        elif step == "search":
            result["search"] = search(stores, arguments.rounds)
        elif step == "kills":
            result["kills"] = kills(scratch, arguments.killed_rows, arguments.kills)
        elif step == "photos" and arguments.photos:
            result["photos"] = photos(arguments.photos, scratch, arguments.count)
        elif step == "clean":
            shutil.rmtree(scratch)
        arguments.out.write_text(json.dumps(result, indent=2) + "\n")
        print(step, flush=True)
    if "search" in result:
        print(table(["", *stores], figures(result, list(stores))))


def figures(result: dict[str, Any], names: list[str]) -> list[list[Any]]:
    """Rows of the table that the documentation has."""
    keys = [*dict.fromkeys(key for name in names for key in {**result[name], **result["search"][name]})]
    both = {name: {**result[name], **result["search"][name]} for name in names}
    return [[key, *(str(both[name].get(key)) for name in names)] for key in keys if key != "recall"]


if __name__ == "__main__":
    main()
