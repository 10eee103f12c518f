"""Writers of an index in LanceDB that are killed at random moments, and a reader beside them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest

import retina_fm
from retina_fm.errors import IndexNotFoundError
from retina_fm.indexes import ImageIndex

pytest.importorskip("lancedb", reason="lancedb is not installed (extra lance)")

ROOT = Path(retina_fm.__file__).parent.parent
KILLS = int(os.environ.get("RETINA_FM_KILLS", "4"))
ROWS, WIDTH = 2000, 16
WRITER = """
import sys
import lancedb
import numpy as np
import retina_fm
from retina_fm.indexes import ImageIndex, lance_search, lance_store, searcher

act, store, rows, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
lance_search.EXACT_UP_TO = searcher.EXACT_UP_TO = 1000  # so that LanceDB's own index is made, too
lance_search.MEASURED_QUERIES = 20
lance_store._BUFFERED = 20_000  # so that vectors are written in several steps
names = [f"p{i}" for i in range(rows)]
retina_fm.index(np.ones((2, width), np.float32)).search(np.ones(width, np.float32))
print("ready", flush=True)
generation = 0
while True:
    values = np.random.default_rng(generation).standard_normal((rows, width), np.float32)
    values[:, 0] = generation
    about = {"generation": [generation] * rows}
    if act == "build":
        retina_fm.index(values, store=store, paths=names, metadata=about)
        break
    index = ImageIndex.open(store)
    index.compact() if act == "compact" else index.add(values, paths=names, metadata=about)
    generation += 1
print("done", flush=True)
"""


@contextmanager
def writer(act: str, store: str) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WRITER, act, store, str(ROWS), str(WIDTH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        try:
            yield run
        finally:
            run.send_signal(signal.SIGKILL)


def generation_of(index: ImageIndex) -> int:
    """The one generation of all embeddings and all metadata, which are as they were written."""
    [generation] = {*index.metadata.column("generation").to_pylist()}
    expected = np.random.default_rng(generation).standard_normal((ROWS, WIDTH), np.float32)
    expected[:, 0] = generation
    assert sorted(index.paths) == sorted(f"p{i}" for i in range(ROWS))
    order = np.argsort([int(path[1:]) for path in index.paths])
    assert np.array_equal(index.embeddings[order], expected)
    return int(generation)


@pytest.mark.slow
def test_a_killed_build_left_nothing_or_all_and_is_finished_by_the_next(tmp_path: Path) -> None:
    moment = random.Random(1)
    for number in range(KILLS):
        store = f"lance://{tmp_path / str(number)}"
        with writer("build", store) as run, suppress(subprocess.TimeoutExpired):
            run.wait(moment.uniform(0, 0.6))
        with suppress(IndexNotFoundError):
            assert generation_of(ImageIndex.open(store)) == 0
        with writer("build", store) as run:
            assert run.wait(60) == 0
        index = ImageIndex.open(store)
        assert generation_of(index) == 0 and index.verify() == []


@pytest.mark.slow
@pytest.mark.parametrize("act", ["update", "compact"])
def test_a_killed_change_leaves_one_whole_version(tmp_path: Path, act: str) -> None:
    store, moment = f"lance://{tmp_path / 's'}", random.Random(2)
    with writer("build", store) as run:
        assert run.wait(60) == 0
    for _ in range(KILLS):
        with writer(act, store) as run, suppress(subprocess.TimeoutExpired):
            run.wait(moment.uniform(0, 2))
        index = ImageIndex.open(store)
        generation_of(index)
        assert index.verify() == []


@pytest.mark.slow
def test_a_reader_beside_a_writer_sees_one_generation(tmp_path: Path) -> None:
    store = f"lance://{tmp_path / 's'}"
    with writer("build", store) as run:
        assert run.wait(60) == 0
    held, seen = ImageIndex.open(store), set()
    with writer("update", store):
        for _ in range(6):
            seen.add(generation_of(ImageIndex.open(store)))
        assert generation_of(held) == 0
    assert seen
