"""What goes wrong around an index: mixed states, damage, full and read-only disks, other people's files."""

from __future__ import annotations

import contextlib
import json
import os
import random
import shutil
import sqlite3
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from index_helpers import TINY, draw, files_of, made

import retina_fm
from retina_fm._io.files import sha256_of
from retina_fm.errors import (
    IndexDamagedError,
    IndexMismatchError,
    IndexNotFoundError,
    OutputError,
    RetinaError,
)
from retina_fm.indexes import ImageIndex, database, rebuild, updating, verify

FORMAT1 = Path(__file__).parent / "format1"


def answers(index: ImageIndex) -> object:
    """Everything that a user sees of a small index."""
    rows = list(zip(index.paths, index.embeddings.tobytes(), strict=False))
    found = [[(h.path, h.score, h.metadata) for h in hits] for hits in index.search(index.embeddings[:3], 5)]
    return index.paths, index.embeddings.tobytes(), index.metadata.to_pylist(), found, len(rows)


def described(tmp_path: Path, count: int = 60) -> Path:
    store = tmp_path / "store"
    table = {"age": list(range(count)), "label": [f"D|{i % 3}" for i in range(count)]}
    index = retina_fm.index(made(count), store=store, paths=[f"p{i}" for i in range(count)], metadata=table)
    index.remove([f"p{i}" for i in range(10)])
    return store


def damaged(data: bytes, bit: int) -> bytes:
    changed = bytearray(data)
    changed[bit // 8] ^= 1 << bit % 8
    return bytes(changed)


def mutate(store: Path, mutations: int, seed: int = 0) -> dict[str, int]:
    """Flip one bit at a time anywhere in an index; each must be told, or change nothing that is seen."""
    truth = answers(ImageIndex.open(store))
    moment = random.Random(seed)
    told = {"told": 0, "harmless": 0}
    names = sorted(path.name for path in store.iterdir() if path.name != ".lock")
    assert names == ["index.db", "index.faiss", "vectors-0.f32"]
    for number in range(mutations):
        path = store / names[number % 3]
        data = path.read_bytes()
        bit = moment.randrange(8 * len(data))
        path.write_bytes(damaged(data, bit))
        try:
            assert answers(ImageIndex.open(store)) == truth, f"bit {bit} of {path.name} changed results"
            # search goes on without index.faiss, and does not use what was removed; verify tells
            gone = path.name == "vectors-0.f32" and bit < 10 * 8 * 32 * 4
            assert gone or path.name == "index.faiss", f"bit {bit} of {path.name} was not noticed"
            assert verify(store), f"bit {bit} of {path.name} was not noticed"
            told["harmless"] += 1
        except RetinaError:
            told["told"] += 1
        path.write_bytes(data)
    assert answers(ImageIndex.open(store)) == truth
    return told


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(database, "_PAUSE", 0.0)


def test_a_flipped_bit_anywhere_is_told_before_it_is_used(tmp_path: Path, impatient: None) -> None:
    assert mutate(described(tmp_path), 150)["told"] > 80


@pytest.mark.slow
def test_one_thousand_six_hundred_and_sixty_four_flipped_bits(tmp_path: Path, impatient: None) -> None:
    found = mutate(described(tmp_path), 1664, seed=1)
    assert found["told"] + found["harmless"] == 1664


def test_every_bit_of_the_header_is_told(tmp_path: Path, impatient: None) -> None:
    path = described(tmp_path) / "index.db"
    data = path.read_bytes()
    for bit in range(8 * 100):
        path.write_bytes(damaged(data, bit))
        with pytest.raises(IndexDamagedError, match="rebuild"):
            ImageIndex.open(path.parent)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_cut_file_is_told_and_the_rest_is_saved(tmp_path: Path, impatient: None, share: float) -> None:
    store = described(tmp_path)
    before = ImageIndex.open(store)
    path = store / "vectors-0.f32"
    path.write_bytes(path.read_bytes()[: int(share * path.stat().st_size)])
    with pytest.raises(IndexDamagedError, match="is cut"):
        ImageIndex.open(store)
    report = rebuild(store)
    after = ImageIndex.open(store)
    assert report.rows + report.lost == 50 and len(after) == report.rows == max(0, int(share * 60) - 10)
    assert after.paths == before.paths[: len(after)] and verify(store) == []
    assert after.metadata.to_pylist()[:5] == before.metadata.to_pylist()[: len(after)][:5]
    again = retina_fm.index(made(60)[10:], store=store, paths=[f"p{i}" for i in range(10, 60)])
    assert len(again) == 50 and again.report.encoded == report.lost


def test_rows_of_a_damaged_database_are_saved_with_their_metadata(tmp_path: Path, impatient: None) -> None:
    store = described(tmp_path, 3000)
    before = ImageIndex.open(store)
    known = dict(zip(before.paths, before.metadata.to_pylist(), strict=True))
    vectors = dict(zip(before.paths, before.embeddings, strict=True))
    data = (store / "index.db").read_bytes()
    saved = 0
    for seed in range(12):
        moment = random.Random(seed)
        page = 4096 * moment.randrange(6, len(data) // 4096)
        harm = data[:page] + bytes(4096) + data[page + 4096 :] if seed % 2 else damaged(data, 8 * page + 9000)
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(store, tmp_path / "copy")
        (tmp_path / "copy" / "index.db").write_bytes(harm)
        assert verify(tmp_path / "copy") != []
        try:
            report = rebuild(tmp_path / "copy")
        except IndexDamagedError as error:
            assert "Build the index again" in str(error)
            continue
        after = ImageIndex.open(tmp_path / "copy")
        assert verify(tmp_path / "copy") == [] and report.dropped
        assert len(after) == report.rows and report.rows + report.lost == 2990
        for path, row, vector in zip(after.paths, after.metadata.to_pylist(), after.embeddings, strict=True):
            assert known[path] == row and np.array_equal(vectors[path], vector)
        saved += report.rows > 2000
    assert saved >= 6


@pytest.mark.parametrize("harm", ["cut", "flipped", "missing", "empty", "foreign"])
def test_a_damaged_faiss_file_is_noticed_and_made_again(tmp_path: Path, harm: str) -> None:
    vectors = made(2000)
    store = tmp_path / "store"
    expected = retina_fm.index(vectors, store=store).search(vectors[:5], 5)
    target = store / "index.faiss"
    data = target.read_bytes()
    target.unlink()
    if harm == "foreign":
        retina_fm.index(made(2000, seed=3), store=tmp_path / "other")
        shutil.copy(tmp_path / "other" / "index.faiss", target)
    elif harm != "missing":
        cut = data[: len(data) // 3] if harm == "cut" else b"" if harm == "empty" else damaged(data, 70_000)
        target.write_bytes(cut)
    assert harm == "foreign" or verify(store) != []
    assert ImageIndex.open(store).search(vectors[:5], 5) == expected
    assert retina_fm.index(vectors, store=store).search(vectors[:5], 5) == expected
    assert verify(store) == [] and len(list(store.iterdir())) == 4


def test_a_flipped_bit_does_not_bring_removed_rows_back(tmp_path: Path, impatient: None) -> None:
    store = described(tmp_path)
    data = (store / "index.db").read_bytes()
    for bit in range(0, 8 * len(data), 1009):
        (store / "index.db").write_bytes(damaged(data, bit))
        with pytest.raises(IndexDamagedError):
            ImageIndex.open(store)


# Files of others


def test_files_of_others_in_the_folder_stay(tmp_path: Path) -> None:
    store = tmp_path / "store"
    store.mkdir()
    theirs = [
        "metadata-2024.csv", "metadata-1.parquet", "removed-patients.txt", "removed-1.npy", "vectors-0.f32",
        "vectors-1.f32.part", "whitening-notes.txt", ".hidden.part", "index.faiss.bak",
    ]  # fmt: skip
    for name in theirs:
        (store / name).write_text(name)
    index = retina_fm.index(made(50), store=store)
    index.add(made(20, seed=1))
    index.remove([str(i) for i in range(40)])
    index.compact()
    rebuild(store)
    assert [(store / name).read_text() for name in theirs] == theirs
    assert len(ImageIndex.open(store)) == 30 and verify(store) == []


def test_a_cache_of_somebody_else_stays_and_search_goes_without(tmp_path: Path) -> None:
    (tmp_path / "index.faiss").write_text("mine")
    (tmp_path / "index.faiss.new").write_text("mine")
    index = retina_fm.index(made(50), store=tmp_path)
    index.add(made(5, seed=1))
    assert all((tmp_path / name).read_text() == "mine" for name in ("index.faiss", "index.faiss.new"))
    assert index.search(made(50)[3], 1)[0].path == "3"


@pytest.mark.parametrize("name", ["vectors-0.f32", "index.faiss", "index.db", ".lock", "index.db-journal"])
def test_nothing_is_changed_or_removed_through_a_link(tmp_path: Path, name: str) -> None:
    store, precious = tmp_path / "store", tmp_path / "precious"
    index = retina_fm.index(made(50), store=store)
    path = store / name
    data = path.read_bytes() if path.exists() else b"x"
    precious.write_bytes(data)
    path.unlink(missing_ok=True)
    path.symlink_to(precious)
    before = precious.read_bytes(), precious.stat().st_mtime_ns
    for change in (lambda: index.add(made(9, seed=2)), lambda: index.remove(["3"]), index.compact):
        with contextlib.suppress(OutputError, IndexDamagedError):
            change()
    assert (precious.read_bytes(), precious.stat().st_mtime_ns) == before


def test_an_old_index_whose_vectors_are_linked_is_upgraded_without_touching_what_lies_behind(
    tmp_path: Path,
) -> None:
    store, precious = tmp_path / "store", tmp_path / "precious"
    shutil.copytree(FORMAT1 / "store", store)
    (store / "vectors").rename(precious)
    (store / "vectors").symlink_to(precious, target_is_directory=True)
    (store / "metadata-2024.csv").write_text("mine")
    (store / "removed-patients.txt").write_text("mine")
    before = files_of(precious)
    ImageIndex.open(store).compact()
    assert files_of(precious) == before and len(ImageIndex.open(store)) == 3
    assert sorted(path.name for path in store.iterdir()) == sorted(
        [
            ".lock",
            "index.db",
            "index.faiss",
            "metadata-2024.csv",
            "removed-patients.txt",
            "vectors",
            "vectors-0.f32",
        ]
    )


def test_names_in_a_database_lead_nowhere_else(tmp_path: Path) -> None:
    store, precious = tmp_path / "store", tmp_path / "precious.txt"
    precious.write_text("mine")
    retina_fm.index(made(10), store=store)
    with database.connect_file(store) as db:
        database.begin(db)
        for name in ("../precious.txt", str(precious), "vectors/../../precious.txt"):
            db.execute("INSERT INTO file VALUES (?, 'old')", (name,))
        database.commit(db, store / "index.db")
    ImageIndex.open(store).add(made(2, seed=1))
    assert precious.read_text() == "mine"
    with database.connect_file(store) as db:
        database.begin(db)
        db.execute("UPDATE space SET file = '../precious.txt'")
        db.execute("UPDATE checksum SET file = '../precious.txt'")
        database.commit(db, store / "index.db")
    with pytest.raises(IndexDamagedError, match="none of an index"):
        ImageIndex.open(store)


# The format before this one


@pytest.fixture
def old(tmp_path: Path) -> Path:
    shutil.copytree(FORMAT1 / "store", tmp_path / "store")
    draw(tmp_path / "eyes", ["a.png", "b.png", "c.png"])
    draw(tmp_path / "eyes", ["d.png"], seed=9)
    return tmp_path / "store"


def test_half_precision_of_the_old_format_is_checked_by_its_files(old: Path) -> None:
    """Its rows' checksums were taken before the values were rounded, so they fit nothing."""
    expected = np.load(FORMAT1 / "expected.npy").astype(np.float16).astype(np.float32)
    said = json.loads((old / "manifest.json").read_text())
    said["dtype"] = "float16"
    for part in said["parts"]:
        matrix = old / "vectors" / f"{part['name']}.npy"
        np.save(matrix, np.load(matrix).astype(np.float16))
        part["sizes"][0], part["sha256"][0] = matrix.stat().st_size, sha256_of(matrix)
    (old / "manifest.json").write_text(json.dumps(said))
    index = ImageIndex.open(old)
    assert np.array_equal(index.embeddings, expected) and verify(old) == []
    index.compact()
    assert np.array_equal(ImageIndex.open(old).embeddings, expected) and verify(old) == []


def test_a_changed_file_of_half_precision_is_told(old: Path) -> None:
    said = json.loads((old / "manifest.json").read_text())
    matrix = old / "vectors" / f"{said['parts'][0]['name']}.npy"
    np.save(matrix, np.load(matrix).astype(np.float16))
    said["parts"][0]["sizes"][0] = matrix.stat().st_size
    (old / "manifest.json").write_text(json.dumps(said))
    with pytest.raises(IndexDamagedError, match="SHA-256"):
        ImageIndex.open(old)


def test_an_index_of_the_old_format_is_read_as_it_is_and_upgraded_whole(old: Path) -> None:
    expected = np.load(FORMAT1 / "expected.npy")
    before = files_of(old)
    index = ImageIndex.open(old)
    assert np.array_equal(index.embeddings, expected) and files_of(old) == before
    names = [Path(path).name for path in index.paths]
    assert names == ["a.png", "c.png", "d.png"] and index.manifest.whiten and index.whitening is not None
    assert index.metadata.to_pylist() == [
        {"eye": "left", "age": 61}, {"eye": None, "age": 33}, {"eye": None, "age": None}
    ]  # fmt: skip
    seen = index.search(expected, 3)
    assert verify(old) == []
    index.index_column("age")
    assert sorted(path.name for path in old.iterdir()) == [
        ".lock",
        "index.db",
        "index.faiss",
        "vectors-0.f32",
    ]
    for one in (index, ImageIndex.open(old)):
        assert one.search(expected, 3) == seen and np.array_equal(one.embeddings, expected)
    again = retina_fm.index(old.parent / "eyes", TINY, store=old, dtype="float32")
    assert again.report.copied == 3 and again.report.encoded == 1, "touched files and the removed one"
    assert len(again.search(old.parent / "eyes" / "a.png", where="age>30")) == 1 and verify(old) == []


def test_an_upgrade_that_is_interrupted_leaves_the_old_index(
    old: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = ImageIndex.open(old).search(np.load(FORMAT1 / "expected.npy"), 3)
    original = os.fsync
    for failing in range(1, 12):
        calls = [0]

        def full(handle: int, failing: int = failing, calls: list[int] = calls) -> None:
            calls[0] += 1
            if calls[0] == failing:
                raise OSError(28, "No space left on device")
            original(handle)

        monkeypatch.setattr(os, "fsync", full)
        try:
            ImageIndex.open(old).compact()
        except OutputError:
            pass
        finally:
            monkeypatch.setattr(os, "fsync", original)
        assert ImageIndex.open(old).search(np.load(FORMAT1 / "expected.npy"), 3) == expected
    ImageIndex.open(old).compact()
    assert ImageIndex.open(old).search(np.load(FORMAT1 / "expected.npy"), 3) == expected
    assert verify(old) == [] and not (old / "manifest.json").exists()


@pytest.mark.parametrize("name", ["manifest.json", "removed-4.npy", "metadata-2.parquet", "whitening-1.npz"])
def test_damage_of_an_old_index_is_told(old: Path, name: str) -> None:
    truth = answers(ImageIndex.open(old))
    data = (old / name).read_bytes()
    moment = random.Random(0)
    for _ in range(40):
        (old / name).write_bytes(damaged(data, moment.randrange(8 * len(data))))
        with contextlib.suppress(RetinaError):
            assert answers(ImageIndex.open(old)) == truth


def test_a_full_disk_leaves_the_old_state_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    vectors = made(100)
    index = retina_fm.index(vectors, store=store)
    original = os.fsync

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    for number in range(3):
        with pytest.raises(OutputError, match=r"No space left.*last state is kept"):
            index.add(made(10, seed=number), paths=[f"new{i}" for i in range(10)])
        assert ImageIndex.open(store).search(vectors[3], 1)[0].path == "3"
    monkeypatch.setattr(os, "fsync", original)
    connect = database.connect_file

    def small(*arguments: object) -> sqlite3.Connection:
        db = connect(*arguments)  # type: ignore[arg-type]
        db.execute(f"PRAGMA max_page_count={db.execute('PRAGMA page_count').fetchone()[0]}")
        return db

    monkeypatch.setattr(database, "connect_file", small)
    with pytest.raises(OutputError, match=r"full.*last state is kept"):
        index.add(made(10_000, seed=4))
    monkeypatch.setattr(database, "connect_file", connect)
    assert len(ImageIndex.open(store)) == 100 and ImageIndex.open(store).search(vectors[3], 1)[0].path == "3"
    index.add(made(10, seed=9))
    assert len(ImageIndex.open(store)) == 110 and verify(store) == []
    assert sorted(path.name for path in store.iterdir()) == [
        ".lock",
        "index.db",
        "index.faiss",
        "vectors-0.f32",
    ]


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
    writer = retina_fm.index(vectors, store=tmp_path / "store", metadata={"n": list(range(500))})
    reader = ImageIndex.open(tmp_path / "store")
    writer.remove([str(number) for number in range(200)])
    writer.compact()
    writer.add(None, metadata=[{"path": str(i), "n": -1} for i in range(200, 500)])
    hits = reader.search(vectors[7], 1, where="n=7")
    assert hits[0].path == "7" and hits[0].metadata == {"n": 7}
    assert reader.metadata.column("n").to_pylist() == list(range(500))
    assert writer.search(vectors[7], 1)[0].path != "7" and writer.search(vectors[7], 1)[0].metadata == {
        "n": -1
    }


def test_rows_and_metadata_are_of_one_commit(tmp_path: Path) -> None:
    store, names = tmp_path / "store", [f"p{i}" for i in range(20)]
    index = retina_fm.index(
        np.full((20, 4), 1, np.float32), store=store, paths=names, metadata={"n": [1] * 20}
    )
    original = database.commit
    states: list[set[float]] = []

    def watched(db: sqlite3.Connection, path: Path | None) -> None:
        for _ in range(2):
            now = ImageIndex.open(store)
            states.append({*now.embeddings[:, 0].tolist(), *now.metadata.column("n").to_pylist()})
            if len(states) % 2:
                original(db, path)

    database.commit = watched
    try:
        for number in (2, 3):
            index.add(np.full((20, 4), number, np.float32), paths=names, metadata={"n": [number] * 20})
    finally:
        database.commit = original
    assert states and all(len(state) == 1 for state in states) and {3.0} in states


def read_only(folder: Path) -> Callable[[], None]:
    for path in [*folder.iterdir(), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return lambda: [path.chmod(0o755) for path in [folder, *folder.iterdir()]]  # type: ignore[return-value]


def test_searching_touches_nothing_and_a_folder_that_cannot_be_written_opens(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = tmp_path / "store"
    retina_fm.index(eyes, TINY, store=store, metadata=tmp_path / "labels.csv")
    (store / "index.faiss").unlink()
    before = files_of(store)
    again = read_only(store)
    try:
        index = ImageIndex.open(store)
        assert len(index.search(eyes / "p1_left.png", where="eye=right")) == 4
        assert len(index.search(eyes / "p1_left.png", include_query=True)) == 8
        assert verify(store) and files_of(store) == before

        def refuse(self: object, *_: object, **__: object) -> None:
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(FileLock, "acquire", refuse)
        with pytest.raises(OutputError, match="search works, changes do not"):
            index.add(eyes)
    finally:
        again()
    assert files_of(store) == before


def half_written(store: Path) -> Path:
    """A copy of an index as a kill in the middle of a commit leaves it: pages changed, and a journal."""
    copy = store.with_name("killed")
    db = sqlite3.connect(store / "index.db", isolation_level=None)
    db.execute("PRAGMA cache_size=2")
    db.execute("BEGIN")
    db.execute("UPDATE picture SET _path = 'changed' || _place, _size = _size + 1")
    shutil.copytree(store, copy)
    db.execute("ROLLBACK")
    db.close()
    assert (copy / "index.db-journal").stat().st_size > 512
    assert (copy / "index.db").read_bytes() != (store / "index.db").read_bytes()
    return copy


def test_what_a_killed_writer_left_half_done_is_undone_also_where_nothing_can_be_written(
    tmp_path: Path,
) -> None:
    store = described(tmp_path, 3000)
    truth = answers(ImageIndex.open(store))
    killed = half_written(store)
    before = files_of(killed)
    again = read_only(killed)
    try:
        assert answers(ImageIndex.open(killed)) == truth and files_of(killed) == before
    finally:
        again()
    ImageIndex.open(killed).add(made(1, seed=5))
    assert len(ImageIndex.open(killed)) == 2991 and verify(killed) == []
    assert not (killed / "index.db-journal").exists()


def test_a_commit_that_was_not_sealed_is_read_and_sealed_by_the_next_writer(tmp_path: Path) -> None:
    store = described(tmp_path)
    truth = answers(ImageIndex.open(store))
    with database.connect_file(store) as db:
        database.begin(db)
        db.execute("COMMIT")
    assert not database.is_sealed((store / "index.db").read_bytes())
    assert answers(ImageIndex.open(store)) == truth
    ImageIndex.open(store).remove("p20")
    assert database.is_sealed((store / "index.db").read_bytes()) and verify(store) == []


def test_a_first_build_that_never_committed_is_no_index(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(updating, "finished", stop)
    with pytest.raises(KeyboardInterrupt):
        retina_fm.index(made(5), store=tmp_path / "store", metric="dot")
    monkeypatch.undo()
    with pytest.raises(IndexNotFoundError, match="never finished"):
        ImageIndex.open(tmp_path / "store")
    index = retina_fm.index(made(6), store=tmp_path / "store")
    assert len(index) == 6 and index.manifest.metric == "cosine" and verify(tmp_path / "store") == []


def test_something_else_called_index_db_is_refused_and_stays(tmp_path: Path, impatient: None) -> None:
    db = sqlite3.connect(tmp_path / "index.db")
    db.execute("CREATE TABLE mine (a)")
    db.commit()
    db.close()
    data = (tmp_path / "index.db").read_bytes()
    for act in (lambda: ImageIndex.open(tmp_path), lambda: retina_fm.index(made(3), store=tmp_path),
                lambda: rebuild(tmp_path)):  # fmt: skip
        with pytest.raises(IndexDamagedError):
            act()
    assert (tmp_path / "index.db").read_bytes() == data


def test_a_database_is_read_without_deserialize_too(tmp_path: Path) -> None:
    data = (described(tmp_path) / "index.db").read_bytes()
    rows = [
        database.in_memory(data, native).execute("SELECT * FROM picture").fetchall()
        for native in (True, False)
    ]
    assert rows[0] == rows[1] and len(rows[0]) == 50


def test_many_small_updates_stay_one_file_and_a_quarter_removed_is_swept(tmp_path: Path) -> None:
    vectors = made(300)
    index = retina_fm.index(vectors[:100], store=tmp_path / "store")
    for start in range(100, 300, 10):
        index.add(vectors[start : start + 10])
    assert len(list((tmp_path / "store").iterdir())) == 4 and len(index) == 300
    assert [hits[0].path for hits in index.search(vectors, 1)] == [str(i) for i in range(300)]
    index.remove([str(i) for i in range(80)])
    assert index.state.total == 220 and len(list((tmp_path / "store").iterdir())) == 4
    assert [hits[0].path for hits in index.search(vectors[80:], 1)] == [str(i) for i in range(80, 300)]
    index.add(made(1, seed=8))
    assert index.paths[-1] == "300", "numbers are not used twice"
    assert index.verify() == []


def test_other_models_transforms_and_metrics_are_refused(eyes: Path, tmp_path: Path) -> None:
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


def test_what_was_encoded_before_an_error_is_kept(eyes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (eyes / "z_broken.png").write_bytes(b"no picture")
    with pytest.raises(RetinaError, match=r"z_broken\.png"):
        retina_fm.index(eyes, TINY, batch_size=2, workers=0)
    assert len(ImageIndex.open(eyes / ".retina-fm-index")) == 8
    (eyes / "z_broken.png").unlink()
    assert retina_fm.index(eyes, TINY).report.unchanged == 8
