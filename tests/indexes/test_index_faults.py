from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from index_helpers import TINY, draw, files_of, made

import retina_fm
from retina_fm._io import files as _files
from retina_fm.errors import IndexDamagedError, IndexMismatchError, IndexNotFoundError, OutputError
from retina_fm.indexes import ImageIndex, building, changing, rebuild, verify

ROOT = Path(retina_fm.__file__).parent.parent

BUILD = """
import sys, retina_fm
from retina_fm.indexes import building
building.CHUNK = 5
model = retina_fm.load("fundus2video-tiny")
retina_fm.index(retina_fm.encode([sys.argv[2]], model))  # everything is imported before the clock starts
print("ready", flush=True)
index = retina_fm.index(sys.argv[1], model, workers=0)
print("done", index.report.encoded, len(index), flush=True)
"""


def killed_after(seconds: float, photos: Path) -> bool:
    """Run an update, kill it some time after its start; whether it was done before."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", BUILD, str(photos), str(photos.parent / "first.png")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as run:
        assert run.stdout is not None and run.stdout.readline() == "ready\n"
        try:
            run.wait(seconds)
        except subprocess.TimeoutExpired:
            run.send_signal(signal.SIGKILL)
    return run.returncode == 0


def check_whole(photos: Path, kept: dict[str, bytes]) -> None:
    """An index that was killed opens, lacks no row that it had, and has none twice."""
    store = photos / ".retina-fm-index"
    try:
        index = ImageIndex.open(store)
    except IndexNotFoundError:
        assert not kept
        return
    assert [fault for fault in verify(store) if "index.faiss" not in fault] == []
    paths = index.paths
    assert len(set(paths)) == len(paths) == len(index) == index.manifest.count
    rows = {path: row.tobytes() for path, row in zip(paths, index.embeddings, strict=True)}
    for path, row in kept.items():
        assert not Path(path).exists() or path in rows, f"{path} was lost"
        if path in rows and "changed" not in path:
            assert rows[path] == row
    kept.clear()
    kept.update(rows)
    index.search(index.embeddings[0], 3)


def kill_at_random_moments(folder: Path, moments: int, seed: int, longest: float) -> int:
    photos = folder / "photos"
    draw(folder, ["first.png"], seed=999)
    draw(photos, [f"eye{number}.png" for number in range(30)] + ["changed.png"])
    moment = random.Random(seed)
    kept: dict[str, bytes] = {}
    done = 0
    for number in range(moments):
        if number and number % 3 == 0:  # an update: one new, one changed, one gone
            draw(photos, [f"new{number}.png", "changed.png"], seed=100 + number)
            (photos / f"eye{number}.png").unlink(missing_ok=True)
        done += killed_after(moment.uniform(0.0, longest), photos)
        check_whole(photos, kept)
    index = retina_fm.index(photos, retina_fm.load(TINY), workers=0)
    assert sorted(index.paths) == sorted(str(path) for path in photos.glob("*.png"))
    fresh = retina_fm.encode([Path(path) for path in index.paths], TINY, dtype="float32")
    assert np.allclose(index.embeddings, fresh, atol=1e-3)
    assert index.verify() == []
    return done


@pytest.mark.slow
def test_twenty_kills_at_random_moments_lose_and_double_nothing(tmp_path: Path) -> None:
    assert kill_at_random_moments(tmp_path, 20, seed=0, longest=1.5) < 20


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "empty", "description"])
def test_a_damaged_faiss_file_is_noticed_and_made_again(tmp_path: Path, harm: str) -> None:
    vectors = made(2000)
    store = tmp_path / "store"
    expected = retina_fm.index(vectors, store=store).search(vectors[:5], 5)
    target = store / ("index.json" if harm == "description" else "index.faiss")
    data = bytearray(target.read_bytes())
    if harm in ("flipped", "description"):
        data[len(data) // 2] ^= 0x10
    target.unlink()
    if harm != "missing":
        target.write_bytes(data[: len(data) // 3] if harm == "cut" else b"" if harm == "empty" else data)
    assert verify(store) != []
    assert ImageIndex.open(store).search(vectors[:5], 5) == expected
    assert retina_fm.index(vectors, store=store).search(vectors[:5], 5) == expected
    assert verify(store) == []


@pytest.mark.parametrize("harm", ["cut", "missing", "flipped", "rows cut"])
def test_a_damaged_vector_file_is_reported_with_what_remains_and_the_rest_is_saved(
    eyes: Path, tmp_path: Path, harm: str
) -> None:
    store = tmp_path / "store"
    retina_fm.index(eyes, TINY, store=store, dtype="float32")
    draw(tmp_path / "more", ["a.png", "b.png"], seed=50)
    index = retina_fm.index(tmp_path / "more", TINY, store=store, dtype="float32")
    before = dict(zip(index.paths, index.embeddings, strict=True))
    assert len(index) == 10
    part = sorted((store / "vectors").glob("*.parquet" if harm == "rows cut" else "*.npy"))[0]
    data = bytearray(part.read_bytes())
    if harm == "missing":
        part.unlink()
    elif harm == "flipped":
        data[-3] ^= 4
        part.write_bytes(data)
        assert any("SHA-256" in fault for fault in verify(store))
    else:
        part.write_bytes(data[: len(data) - 300])
    if harm != "flipped":
        with pytest.raises(IndexDamagedError, match="2 of 10 rows lie in files that are whole"):
            ImageIndex.open(store)
    report = rebuild(store)
    lost = {"cut": 2, "missing": 8, "flipped": 1, "rows cut": 8}[harm]
    assert (report.rows, report.lost) == (10 - lost, lost)
    assert verify(store) == []
    again = retina_fm.index(eyes, TINY, store=store, dtype="float32")
    assert again.report.encoded == lost and len(again) == 10
    for path, row in zip(again.paths, again.embeddings, strict=True):
        assert np.allclose(row, before[path], atol=1e-2)


def test_a_full_disk_leaves_the_old_index_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    vectors = made(100)
    index = retina_fm.index(vectors, store=store)
    original = _files.os.fsync
    for failing in range(1, 5):
        calls = [0]

        def full(handle: int, failing: int = failing, calls: list[int] = calls) -> None:
            calls[0] += 1
            if calls[0] == failing:
                raise OSError(28, "No space left on device")
            original(handle)

        monkeypatch.setattr(_files.os, "fsync", full)
        with pytest.raises(OutputError, match=r"No space left.*last state is kept"):
            index.add(made(10, seed=failing), paths=[f"new{i}" for i in range(10)])
        monkeypatch.setattr(_files.os, "fsync", original)
        found = ImageIndex.open(store)
        assert len(found) == 100 and found.search(vectors[3], 1)[0].path == "3"
    index.add(made(10, seed=9))
    assert len(ImageIndex.open(store)) == 110 and verify(store) == []
    assert not list(store.rglob("*.part"))


def test_a_second_writer_is_told_or_waits(tmp_path: Path) -> None:
    store = tmp_path / "store"
    index = retina_fm.index(made(10), store=store)
    with FileLock(store / ".lock"):
        with pytest.raises(OutputError, match="being changed by another process"):
            index.add(made(1))
        started = time.monotonic()
        with pytest.raises(OutputError, match="wait"):
            index.remove("3", wait=0.3)
        assert time.monotonic() - started > 0.25
        assert len(ImageIndex.open(store).search(made(1)[0], 3)) == 3, "readers take no lock"
    index.add(made(1))
    assert len(index) == 11


def test_a_writer_builds_on_what_another_committed_since_it_was_opened(tmp_path: Path) -> None:
    one = retina_fm.index(made(10), store=tmp_path / "store")
    other = ImageIndex.open(tmp_path / "store")
    one.add(made(3, seed=1))
    other.add(made(2, seed=2))
    assert len(other) == 15 and len(ImageIndex.open(tmp_path / "store")) == 15
    assert len(one) == 13 and len(one.search(made(1)[0], 20)) == 13, "a reader keeps the state it opened"


def test_a_reader_keeps_its_state_while_files_are_replaced(tmp_path: Path) -> None:
    vectors = made(500)
    writer = retina_fm.index(vectors, store=tmp_path / "store")
    reader = ImageIndex.open(tmp_path / "store")
    writer.remove([str(number) for number in range(200)])
    writer.compact()
    assert reader.search(vectors[7], 1)[0].path == "7"
    assert writer.search(vectors[7], 1)[0].path != "7"


def test_searching_touches_nothing_and_a_folder_that_cannot_be_written_says_so(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    retina_fm.index(eyes, TINY, store=store, metadata=tmp_path / "labels.csv")
    before = files_of(store)
    index = ImageIndex.open(store)
    index.search(eyes / "p1_left.png", where="eye=right")
    (store / "index.faiss").unlink()
    del before["index.faiss"]
    assert len(ImageIndex.open(store).search(eyes / "p1_left.png")) == 8
    assert files_of(store) == before

    def refuse(self: object, *_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(FileLock, "acquire", refuse)
    with pytest.raises(OutputError, match="search works, changes do not"):
        index.add(eyes)


def test_many_small_updates_are_merged_and_a_quarter_removed_is_swept(tmp_path: Path) -> None:
    vectors = made(300)
    index = retina_fm.index(vectors[:100], store=tmp_path / "store")
    for start in range(100, 300, 10):
        index.add(vectors[start : start + 10])
    assert len(index.manifest.parts) < 18 and len(index) == 300
    assert [hits[0].path for hits in index.search(vectors, 1)] == [str(i) for i in range(300)]
    index.remove([str(i) for i in range(80)])
    assert index.snapshot.total == 220
    assert [hits[0].path for hits in index.search(vectors[80:], 1)] == [str(i) for i in range(80, 300)]
    index.add(made(1, seed=8))
    assert index.paths[-1] == "300", "numbers are not used twice"
    assert index.verify() == []


def test_other_models_transforms_and_metrics_are_refused(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    index = retina_fm.index(eyes, TINY, store=store)
    with pytest.raises(IndexMismatchError, match="weights"):
        retina_fm.index(eyes, "fundus2video-random", store=store)
    with pytest.raises(IndexMismatchError, match="weights"):
        ImageIndex.open(store, model="fundus2video-random")
    with pytest.raises(IndexMismatchError, match="metric='cosine', not 'dot'"):
        retina_fm.index(eyes, TINY, store=store, metric="dot")
    with pytest.raises(IndexMismatchError, match="do not go into one index"):
        retina_fm.index(made(3, 64), store=store)
    other = retina_fm.load(TINY)
    other.transform = retina_fm.Transform(size=160)
    with pytest.raises(IndexMismatchError, match="transform"):
        retina_fm.index(eyes, other, store=store)
    assert len(ImageIndex.open(store)) == len(index) == 8


def test_scratch_of_a_killed_build_is_used_and_then_swept(
    eyes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(changing, "_commit", stop)
    with pytest.raises(KeyboardInterrupt):
        retina_fm.index(eyes, TINY)
    monkeypatch.undo()
    store = eyes / ".retina-fm-index"
    assert (store / building.SCRATCH).exists()
    monkeypatch.setattr("retina_fm.encoding.embedder.Embedder.__call__", stop)
    assert len(retina_fm.index(eyes, TINY)) == 8
    assert not [path.name for path in store.iterdir() if path.name.startswith(".encoding")]
