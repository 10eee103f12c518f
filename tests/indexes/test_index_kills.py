"""Writers that are killed at random moments, and readers beside a writer that never stops."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from index_helpers import TINY, draw

import retina_fm
from retina_fm.errors import IndexNotFoundError
from retina_fm.indexes import ImageIndex, verify

ROOT = Path(retina_fm.__file__).parent.parent
KILLS = int(os.environ.get("RETINA_FM_KILLS", "4"))
ROWS, WIDTH = 2000, 16

WRITER = """
import sys
import numpy as np
import retina_fm
from retina_fm.indexes import ImageIndex

act, store, rows, width = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
names = [f"p{i}" for i in range(rows)]
made = lambda generation: np.random.default_rng(generation).standard_normal((rows, width), np.float32)
retina_fm.index(made(0)).search(made(0)[0])  # everything is imported before the clock starts
generation = 0
if act in ("update", "remove"):
    index = ImageIndex.open(store)
    generation = index.metadata.column("generation").to_pylist()[0] if act == "update" else 0
print("ready", flush=True)
while True:
    generation += 1
    if act == "build":
        retina_fm.index(made(0), store=store, paths=names, metadata={"generation": [0] * rows})
    elif act == "update":
        values = made(generation)
        values[:, 0] = generation
        index.add(values, paths=names, metadata={"generation": [generation] * rows})
    elif act == "remove":
        index.remove(index.paths[:20])
    elif act == "compact":
        ImageIndex.open(store).compact()
    if act == "build":
        break
print("done", flush=True)
"""


@contextmanager
def writer(act: str, store: Path) -> Iterator[subprocess.Popen[str]]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-c", WRITER, act, str(store), str(ROWS), str(WIDTH)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        try:
            yield run
        finally:
            run.send_signal(signal.SIGKILL)


def killed(act: str, store: Path, seconds: float) -> None:
    with writer(act, store) as run, contextlib.suppress(subprocess.TimeoutExpired):
        run.wait(seconds)


def made(generation: int) -> np.ndarray:
    return np.random.default_rng(generation).standard_normal((ROWS, WIDTH), np.float32)


@pytest.fixture
def store(tmp_path: Path) -> Path:
    values = made(0)
    values[:, 0] = 0
    names = [f"p{i}" for i in range(ROWS)]
    retina_fm.index(values, store=tmp_path / "s", paths=names, metadata={"generation": [0] * ROWS})
    return tmp_path / "s"


def whole(store: Path) -> ImageIndex:
    """An index that a kill may have left; only ``index.faiss`` may be missing or behind."""
    assert [fault for fault in verify(store) if "index.faiss" not in fault] == []
    assert {path.name for path in store.iterdir()} <= {
        ".lock", "index.db", "index.db-journal", "index.faiss", "index.faiss.new",
        *(f"vectors-{number}.f32" for number in range(300)),
    }  # fmt: skip
    return ImageIndex.open(store)


def swept(store: Path) -> None:
    """The next writer leaves nothing behind that a killed one began."""
    ImageIndex.open(store).add(np.ones((1, WIDTH), np.float32), paths=["last"])
    assert len(list(store.iterdir())) == 4 and verify(store) == []


def generation_of(index: ImageIndex) -> int:
    """The one generation of all embeddings and all metadata."""
    found = {*index.metadata.column("generation").to_pylist(), *index.embeddings[:, 0].tolist()}
    assert len(found) == 1, f"rows of several generations: {found}"
    generation = int(found.pop())
    expected = made(generation)
    expected[:, 0] = generation
    assert np.array_equal(index.embeddings, expected)
    return generation


@pytest.mark.slow
def test_a_killed_build_gives_the_same_when_it_is_run_again(tmp_path: Path) -> None:
    moment = random.Random(1)
    for number in range(KILLS):
        store = tmp_path / f"s{number}"
        killed("build", store, moment.uniform(0, 0.3))
        with contextlib.suppress(IndexNotFoundError):
            assert len(whole(store)) == ROWS
        index = retina_fm.index(made(0), store=store, paths=[f"p{i}" for i in range(ROWS)])
        assert np.array_equal(index.embeddings, made(0)) and verify(store) == []
        assert len(list(store.iterdir())) == 4
        shutil.rmtree(store)


@pytest.mark.slow
def test_a_killed_update_leaves_one_generation_of_rows_and_metadata(store: Path) -> None:
    moment = random.Random(2)
    last = 0
    for _ in range(KILLS):
        killed("update", store, moment.uniform(0, 1.5))
        now = generation_of(whole(store))
        assert now >= last
        last = now
    assert last > 0
    swept(store)


@pytest.mark.slow
def test_a_killed_removal_removes_all_that_it_was_asked_to_or_nothing(store: Path) -> None:
    moment = random.Random(3)
    before = ImageIndex.open(store)
    known = dict(zip(before.paths, before.embeddings, strict=True))
    left = ROWS
    for _ in range(KILLS):
        killed("remove", store, moment.uniform(0, 0.6))
        index = whole(store)
        assert (
            index.paths == before.paths[ROWS - len(index) :] and len(index) % 20 == 0 and len(index) <= left
        )
        assert all(np.array_equal(known[p], e) for p, e in zip(index.paths, index.embeddings, strict=True))
        left = len(index)
    assert left < ROWS
    swept(store)


@pytest.mark.slow
def test_a_killed_compaction_changes_nothing_that_is_found(store: Path) -> None:
    moment = random.Random(4)
    ImageIndex.open(store).remove([f"p{i}" for i in range(0, ROWS, 5)])
    truth = ImageIndex.open(store)
    for _ in range(KILLS):
        killed("compact", store, moment.uniform(0, 0.6))
        index = whole(store)
        assert index.paths == truth.paths and np.array_equal(index.embeddings, truth.embeddings)
        assert index.search(truth.embeddings[:5], 7) == truth.search(truth.embeddings[:5], 7)
    swept(store)


@pytest.mark.slow
def test_a_killed_upgrade_leaves_the_old_index_or_the_new_one(tmp_path: Path) -> None:
    moment = random.Random(5)
    old = Path(__file__).parent / "format1" / "store"
    truth = ImageIndex.open(old).embeddings
    seen = set()
    for number in range(KILLS):
        store = tmp_path / f"s{number}"
        shutil.copytree(old, store)
        killed("compact", store, moment.uniform(0, 0.15))
        index = ImageIndex.open(store)
        seen.add((store / "manifest.json").exists())
        assert np.array_equal(index.embeddings, truth) and len(index.search(truth, 3)[2]) == 3
        index.compact()
        assert np.array_equal(ImageIndex.open(store).embeddings, truth) and verify(store) == []
        assert len(list(store.iterdir())) == 4
    assert seen


@pytest.mark.slow
def test_six_hundred_opens_beside_a_writer_see_one_generation_each(store: Path) -> None:
    seen = set()
    with writer("update", store):
        for _ in range(150 * KILLS):
            seen.add(generation_of(ImageIndex.open(store)))
    assert len(seen) > 2
    swept(store)


@pytest.mark.slow
def test_churn_loses_and_doubles_nothing(tmp_path: Path) -> None:
    moment = random.Random(6)
    store, expected = tmp_path / "s", dict[str, np.ndarray]()
    index = retina_fm.index(made(0)[:1], store=store, paths=["first"])
    expected["first"] = made(0)[0]
    for step in range(50 * KILLS):
        act = moment.random()
        if act < 0.5:
            names = [f"p{moment.randrange(400)}" for _ in range(moment.randrange(1, 40))]
            names = list(dict.fromkeys(names))
            values = made(step)[: len(names)]
            index.add(values, paths=names, metadata={"step": [step] * len(names)}, build=act < 0.25)
            expected.update(zip(names, values, strict=True))
        elif act < 0.9 and len(expected) > 30:
            gone = moment.sample(sorted(expected), moment.randrange(1, 25))
            index.remove(gone)
            for name in gone:
                del expected[name]
        elif act > 0.97:
            index.compact()
        if step % 10 == 0:
            index = ImageIndex.open(store)
            assert sorted(index.paths) == sorted(expected)
            assert all(
                np.array_equal(expected[p], e) for p, e in zip(index.paths, index.embeddings, strict=True)
            )
    assert index.verify() == [] and len(list(store.iterdir())) <= 4


@pytest.mark.slow
def test_a_killed_build_of_photos_continues_where_it_was(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    draw(photos, [f"eye{number}.png" for number in range(30)])
    code = (
        "import sys, retina_fm\nfrom retina_fm.indexes import updating\nupdating.COMMIT_EVERY = 0.0\n"
        "model = retina_fm.load('fundus2video-tiny')\nretina_fm.encode([sys.argv[1] + '/eye0.png'], model)\n"
        "print('ready', flush=True)\nretina_fm.index(sys.argv[1], model, workers=0, batch_size=2)"
    )
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    moment, counts = random.Random(7), [0]
    for _ in range(KILLS):
        command = [sys.executable, "-c", code, str(photos)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
            assert run.stdout is not None and run.stdout.readline() == "ready\n"
            try:
                run.wait(moment.uniform(0, 0.5))
            except subprocess.TimeoutExpired:
                run.send_signal(signal.SIGKILL)
        try:
            index = whole(photos / ".retina-fm-index")
        except IndexNotFoundError:
            continue
        assert len(index) >= counts[-1] and len(set(index.paths)) == len(index)
        counts.append(len(index))
    index = retina_fm.index(photos, retina_fm.load(TINY), workers=0)
    fresh = retina_fm.encode([Path(path) for path in index.paths], TINY, dtype="float32")
    assert len(index) == 30 and np.allclose(index.embeddings, fresh, atol=1e-3) and index.verify() == []
