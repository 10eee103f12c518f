"""Filters on an index of a million made rows, with and without an index on the column.

    python benchmarks/indexes_filters.py --rows 1000000 --store DIR

Prints milliseconds of finding the pictures that meet a condition, and of a whole search with it.
"""

from __future__ import annotations

import argparse
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from retina_fm.indexes import ImageIndex, index
from retina_fm.indexes.where import places_where
from retina_fm.vocabulary import EYES

WHERE = ("age=61", "age>85", "patient=p4711", "eye=left", "age>60 and label contains 'D'")
COLUMNS = ("age", "patient")


def milliseconds(job: Callable[[], Any], rounds: int = 3) -> float:
    best = float("inf")
    for _ in range(rounds):
        started = time.perf_counter()
        job()
        best = min(best, time.perf_counter() - started)
    return round(1e3 * best, 2)


def measured(store: Path, query: np.ndarray) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for where in WHERE:
        opened = ImageIndex.open(store)
        mask = places_where(opened.state, where)
        found[where] = {
            "pictures": int(mask.sum()),
            "condition, ms": milliseconds(lambda: places_where(opened.state, where)),  # noqa: B023
            "search, ms": milliseconds(lambda: opened.search(query, 10, where=[where])),  # noqa: B023
        }
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--store", type=Path, required=True)
    arguments = parser.parse_args()
    rows, random = arguments.rows, np.random.default_rng(0)
    vectors = random.standard_normal((rows, 16), dtype=np.float32)
    metadata = {
        "age": random.integers(20, 90, rows).tolist(),
        "eye": random.choice(EYES, rows).tolist(),
        "patient": [f"p{number // 4}" for number in range(rows)],
        "label": random.choice(["D", "N", "D|G", "A|N"], rows).tolist(),
    }
    started = time.perf_counter()
    made = index(vectors[:1], store=arguments.store, metadata={name: v[:1] for name, v in metadata.items()})
    made.add(vectors[1:], metadata={name: v[1:] for name, v in metadata.items()})
    result: dict[str, Any] = {"rows": rows, "made, s": round(time.perf_counter() - started, 1)}
    result["without an index"] = measured(arguments.store, vectors[0])
    for column in COLUMNS:
        made.index_column(column)
    result["with an index on age and patient"] = measured(arguments.store, vectors[0])
    result["index.db, MB"] = round((arguments.store / "index.db").stat().st_size / 1e6, 1)
    result["open, ms"] = milliseconds(lambda: ImageIndex.open(arguments.store))
    print(json.dumps(result, indent=1))
    shutil.rmtree(arguments.store)


if __name__ == "__main__":
    main()
