"""One contract, two stores: what an index promises, it keeps in SQLite and in LanceDB, with equal answers."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_helpers import TINY, draw, made, sorted_by_score

import retina_fm
from retina_fm.errors import ConfigError, IndexDamagedError, IndexNotFoundError, OutputError
from retina_fm.indexes import ImageIndex, Sql

WITHOUT_LANCE = pytest.mark.skipif(
    importlib.util.find_spec("lancedb") is None, reason="lancedb is not installed (extra lance)"
)
ROWS = 60
NAMES = [f"p{number}" for number in range(ROWS)]
ABOUT: dict[str, list[Any]] = {
    "patient_id": [f"{number // 2:03d}" for number in range(ROWS)],
    "eye": ["left", "right"] * (ROWS // 2),
    "age": [None if number % 7 == 0 else 40 + number for number in range(ROWS)],
    "odd name, ü": [number / 4 for number in range(ROWS)],
    "seen": [number % 3 == 0 for number in range(ROWS)],
}


@pytest.fixture(params=["sqlite", pytest.param("lance", marks=WITHOUT_LANCE)])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for an index."""
    return str(tmp_path / "s") if request.param == "sqlite" else f"lance://{tmp_path / 's'}"


def built(store: str, seed: int = 0) -> ImageIndex:
    return retina_fm.index(made(ROWS, seed=seed), None, store=store, paths=NAMES, metadata=ABOUT)


def told(index: ImageIndex, query: Any, **settings: Any) -> list[Any]:
    found = index.search(query, **settings)
    return [[hit.as_dict() for hit in hits] for hits in found]


def same(one: ImageIndex, other: ImageIndex) -> None:
    """Two indexes with the same rows and the same answers."""
    assert one.paths == other.paths
    assert np.array_equal(one.embeddings, other.embeddings)
    assert one.metadata.equals(other.metadata)
    assert told(one, made(4, seed=9), k=7) == told(other, made(4, seed=9), k=7)


def test_search_finds_what_sorting_finds_before_and_after_opening_again(store: str) -> None:
    index = built(store)
    queries = made(5, seed=3)
    expected = [[NAMES[int(row)] for row in found] for found in sorted_by_score(queries, made(ROWS), 9)]
    for one in (index, ImageIndex.open(store)):
        assert [[hit.path for hit in hits] for hits in one.search(queries, 9)] == expected
    assert index.report.total == index.report.encoded == ROWS
    assert index.search(queries[0], 1000)[0].metadata.keys() == ABOUT.keys()


@pytest.mark.parametrize("where", [
    "eye=left", "age>60 and eye=left or seen=true", '"odd name, ü" < 3', "age=",
    {"eye": "left", "age >=": 50},
    {"patient_id": ["001", "002"]}, {"age": lambda age: age is not None and age % 2 == 0},
    Sql("age BETWEEN ? AND ?", 50, 60), ["seen=false", "age!="],
])  # fmt: skip
def test_filters_mean_what_they_mean_in_memory(store: str, where: Any) -> None:
    built(store)
    memory = retina_fm.index(made(ROWS), None, paths=NAMES, metadata=ABOUT)
    queries = made(3, seed=4)
    found = told(ImageIndex.open(store), queries, k=ROWS, where=where)
    assert found == told(memory, queries, k=ROWS, where=where)
    assert 0 < len(found[0]) < ROWS


def test_a_filter_on_a_column_that_is_not_there_is_refused(store: str) -> None:
    with pytest.raises(ConfigError, match="colour"):
        built(store).search(made(1)[0], where="colour=red")


def test_changes_come_to_the_same_as_in_memory(store: str) -> None:
    index, memory = built(store), retina_fm.index(made(ROWS), None, paths=NAMES, metadata=ABOUT)
    for one in (index, memory):
        assert one.remove(["p3", "p4"]) == 2
        one.add(
            made(3, seed=5), paths=["p5", "new", "p3"], metadata={"age": [1, 2, 3], "note": ["x", None, "y"]}
        )
        assert one.remove(where="age=50") == 1
        one.index_column("age")
    same(index, memory)
    same(ImageIndex.open(store), memory)
    index.compact()
    again = ImageIndex.open(store)
    same(again, memory)
    assert again.state.total == len(again) == len(memory)
    assert again.verify() == []
    assert told(again, made(2), where="age<50") == told(memory, made(2), where="age<50")


def test_whole_numbers_and_fractions_share_a_column(store: str) -> None:
    index = retina_fm.index(made(2), None, store=store, paths=["a", "b"], metadata={"age": [1, 2]})
    index.add(made(1, seed=1), paths=["c"], metadata={"age": [2.5]})
    assert ImageIndex.open(store).metadata.column("age").to_pylist() == [1, 2, 2.5]
    assert [hit.path for hit in ImageIndex.open(store).search(made(1)[0], where="age>2")] == ["c"]


def test_embeddings_without_names_are_called_by_numbers(store: str) -> None:
    index = retina_fm.index(made(5), None, store=store)
    index.remove("1")
    index.add(made(2, seed=2))
    assert ImageIndex.open(store).paths == index.paths == ["0", "2", "3", "4", "5", "6"]


@pytest.mark.parametrize("settings", [{"metric": "dot"}, {"vectors": "float16"}])
def test_metrics_and_types_give_the_scores_of_memory(store: str, settings: dict[str, Any]) -> None:
    retina_fm.index(made(ROWS), None, store=store, **settings)
    memory = retina_fm.index(made(ROWS), None, **settings)
    same(ImageIndex.open(store), memory)


def test_recall_is_that_of_memory(store: str) -> None:
    memory = retina_fm.index(made(ROWS), None, paths=NAMES, metadata=ABOUT)
    built(store)
    index = ImageIndex.open(store)
    assert (
        index.evaluate(k=(1, 5), where="seen=false", repeats=50).as_dict()
        == memory.evaluate(k=(1, 5), where="seen=false", repeats=50).as_dict()
    )
    assert 0 < len(index.duplicates(0.5)) == len(memory.duplicates(0.5))


def test_a_reader_keeps_its_version_while_others_write(store: str) -> None:
    built(store)
    reader = ImageIndex.open(store)
    before = told(reader, made(2), k=5)
    writer = ImageIndex.open(store)
    writer.remove(where="eye=left")
    writer.add(made(10, seed=8))
    assert told(reader, made(2), k=5) == before and len(reader) == ROWS
    reader.reload()
    assert len(reader) == len(writer) == ROWS // 2 + 10


def test_a_writer_builds_upon_what_another_committed(store: str) -> None:
    one, other = built(store), ImageIndex.open(store)
    one.add(made(1, seed=6), paths=["of one"])
    other.add(made(1, seed=7), paths=["of the other"])
    assert other.paths[-2:] == ["of one", "of the other"] == ImageIndex.open(store).paths[-2:]


def test_one_writer_at_a_time(store: str) -> None:
    from retina_fm.indexes.store import writing

    index = built(store)
    with writing(index.place), pytest.raises(OutputError, match="another process"):
        ImageIndex.open(store).add(made(1))


def test_what_failed_leaves_nothing(store: str) -> None:
    index = built(store)
    with pytest.raises(ConfigError, match="convert"):
        index.add(made(2, seed=1), paths=["x", "y"], metadata={"age": ["old", "young"]})
    same(index, built(store))
    same(ImageIndex.open(store), index)
    index.add(made(1, seed=2), paths=["z"])
    assert ImageIndex.open(store).paths == [*NAMES, "z"] and index.verify() == []


def test_an_index_moves_from_store_to_store(store: str, tmp_path: Path) -> None:
    index = built(store)
    index.remove("p0")
    for place in [
        tmp_path / "plain",
        *([f"lance://{tmp_path / 'other'}"] if store.startswith("lance") else []),
    ]:
        same(index.save(place), index)
        same(ImageIndex.open(str(place)), index)
        with pytest.raises(OutputError, match="already"):
            index.save(place)


def test_a_table_is_indexed_block_by_block(
    store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from retina_fm.indexes import parquet_vectors

    monkeypatch.setattr(parquet_vectors, "_BYTES", 7 * 32 * 4)
    monkeypatch.setattr(parquet_vectors, "_BATCH", 5)
    vectors = pa.FixedSizeListArray.from_arrays(pa.array(made(ROWS).reshape(-1)), 32)
    pq.write_table(
        pa.table({"path": NAMES, "embedding": vectors, "eye": ABOUT["eye"]}), tmp_path / "t.parquet"
    )
    index = retina_fm.index(tmp_path / "t.parquet", store=store)
    assert index.paths == NAMES and np.array_equal(index.embeddings, made(ROWS))
    assert ImageIndex.open(store).metadata.column("eye").to_pylist() == ABOUT["eye"]
    assert retina_fm.index(tmp_path / "t.parquet", store=store).report.encoded == 0


def test_a_table_with_embeddings_of_several_lengths_is_refused(store: str, tmp_path: Path) -> None:
    table = pa.table({"path": ["a", "b"], "embedding": pa.array([[1.0, 2.0], [1.0, 2.0, 3.0]])})
    pq.write_table(table, tmp_path / "t.parquet")
    with pytest.raises(ConfigError, match="several lengths"):
        retina_fm.index(tmp_path / "t.parquet", store=store)
    with pytest.raises(IndexNotFoundError):
        ImageIndex.open(store)


def test_photos_are_brought_up_to_date_and_found_in_every_space(store: str, tmp_path: Path) -> None:
    photos = draw(tmp_path / "eyes", [f"{number}.png" for number in range(4)])
    retina_fm.index(tmp_path / "eyes", TINY, store=store, progress=False, workers=0)
    memory = retina_fm.index(photos, TINY, progress=False, workers=0)
    index = ImageIndex.open(store)
    assert [Path(path).name for path in index.paths] == [f"{number}.png" for number in range(4)]
    assert np.array_equal(index.embeddings, memory.embeddings)
    assert index.signatures is not None and np.array_equal(index.signatures, memory.signatures)
    for space in ("embedding", "signature", "retrieval"):
        found, expected = index.search(photos[0], space=space), memory.search(photos[0], space=space)
        assert [(Path(hit.path).name, hit.score, hit.why) for hit in found] == [
            (Path(hit.path).name, hit.score, hit.why) for hit in expected
        ]
    photos[1].unlink()
    draw(tmp_path / "eyes", ["9.png"], seed=9)
    again = retina_fm.index(tmp_path / "eyes", store=store, progress=False, workers=0)
    report = again.report
    assert (report.total, report.unchanged, report.encoded, report.removed) == (4, 3, 1, 1)
    again.forget_signatures()
    opened = ImageIndex.open(store)
    assert opened.signatures is None and len(opened) == 4 and opened.verify() == []


def test_a_place_without_an_index_says_so(store: str) -> None:
    with pytest.raises(IndexNotFoundError, match="makes one"):
        ImageIndex.open(store)


@WITHOUT_LANCE
class TestLance:
    """What LanceDB alone has."""

    def test_a_folder_holds_one_kind_of_index(self, tmp_path: Path) -> None:
        built(str(tmp_path / "s"))
        with pytest.raises(OutputError, match="another kind"):
            built(f"lance://{tmp_path / 's'}")

    def test_what_a_killed_writer_appended_is_taken_back(self, tmp_path: Path) -> None:
        import lancedb

        store = f"lance://{tmp_path / 's'}"
        built(store)
        table = lancedb.connect(tmp_path / "s").open_table("retina_fm_vectors")
        table.add(table.search().limit(10).to_arrow())
        lancedb.connect(tmp_path / "s").open_table("retina_fm_pictures").delete("_place < 30")
        same(ImageIndex.open(store), retina_fm.index(made(ROWS), None, paths=NAMES, metadata=ABOUT))
        index = ImageIndex.open(store).add(made(1, seed=1), paths=["z"])
        assert index.paths == ImageIndex.open(store).paths == [*NAMES, "z"] and index.verify() == []

    def test_changed_vectors_are_told(self, tmp_path: Path) -> None:
        store = f"lance://{tmp_path / 's'}"
        index = built(store)
        [file] = (tmp_path / "s" / "retina_fm_vectors.lance" / "data").iterdir()
        data = file.read_bytes()
        row = index.embeddings[7].tobytes()
        assert data.count(row) == 1
        file.write_bytes(data.replace(row, bytes([row[0] ^ 1]) + row[1:]))
        with pytest.raises(IndexDamagedError, match="checksum"):
            ImageIndex.open(store).search(made(1)[0])
        assert "1 of 60 rows were changed" in ImageIndex.open(store).verify()[0]

    def test_many_vectors_are_searched_approximately_with_a_measured_recall(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for module in ("searcher", "lance_search"):
            monkeypatch.setattr(f"retina_fm.indexes.{module}.EXACT_UP_TO", 1000)
        monkeypatch.setattr("retina_fm.indexes.lance_search.MEASURED_QUERIES", 50)
        store, rows = f"lance://{tmp_path / 's'}", 3000
        values = made(rows, 16)
        retina_fm.index(values, None, store=store, metadata={"half": [n % 2 for n in range(rows)]})
        index = ImageIndex.open(store)
        assert index.approximate
        measured = index.manifest.recall
        assert measured is not None and measured["recall"] >= 0.97 and measured["rows"] == rows
        exact = index.search(values[:50], 10, exact=True)
        found = index.search(values[:50], 10)
        hit = [len({h.path for h in a} & {h.path for h in b}) / 10 for a, b in zip(exact, found, strict=True)]
        assert np.mean(hit) > 0.95
        assert [h.score for h in found[0] if h.path == "0"] == [h.score for h in exact[0] if h.path == "0"]
        assert told(index, values[:3], where="half=1") == told(index, values[:3], where="half=1", exact=True)
        index.add(made(5, 16, seed=3))  # too few for another index: searched beside it
        assert index.search(made(1, 16, seed=3)[0], 1)[0].path == str(rows)
        index.remove("0")
        assert index.approximate and "0" not in [hit.path for hit in index.search(values[0], 10)]
        index.compact()
        again = ImageIndex.open(store)
        assert again.manifest.recall is not None and again.manifest.recall["rows"] == rows + 4
