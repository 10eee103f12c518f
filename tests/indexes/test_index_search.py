from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pytest
from index_helpers import made, sorted_by_score

import retina_fm
from retina_fm.errors import ConfigError, IndexMismatchError
from retina_fm.indexes import ImageIndex, approximate, cache, searcher
from retina_fm.indexes.where import Sql, places_where


def paths(found: list) -> list[list[str]]:
    return [[hit.path for hit in hits] for hits in found]


def test_twenty_thousand_vectors_are_found_as_by_sorting_with_ties_filters_and_removals(
    tmp_path: Path,
) -> None:
    vectors = made(20_000)
    random = np.random.default_rng(1)
    vectors[random.integers(0, 20_000, 600)] = vectors[7]
    vectors[[5, 900, 19_999]] = 0
    eye = np.where(random.random(20_000) < 0.3, "left", "right")
    index = retina_fm.index(vectors, store=tmp_path / "store", metadata={"eye": eye.tolist()})
    queries = np.concatenate([vectors[[7, 5, 123]], made(5, seed=9)])
    assert paths(index.search(queries, 12)) == sorted_by_score(queries, vectors, 12)
    assert paths(index.search(queries, 12, where="eye=left")) == sorted_by_score(
        queries, vectors, 12, eye == "left"
    )
    gone = random.permutation(20_000)[:3000]
    assert index.remove([str(number) for number in gone]) == 3000
    live = np.ones(20_000, np.bool_)
    live[gone] = False
    reopened = ImageIndex.open(tmp_path / "store")
    for one in (index, reopened):
        assert len(one) == 17_000
        assert paths(one.search(queries, 12)) == sorted_by_score(queries, vectors, 12, live)
        both = live & (eye == "left")
        assert paths(one.search(queries, 12, where={"eye": "left"})) == sorted_by_score(
            queries, vectors, 12, both
        )
    index.compact()
    assert index.state.total == 17_000
    assert paths(index.search(queries, 12)) == sorted_by_score(queries, vectors, 12, live)
    assert index.verify() == []


def test_one_query_and_many_give_the_same_and_hits_are_numbered_from_one() -> None:
    vectors = made(300)
    index = retina_fm.index(vectors, metadata=[{"patient_id": f"{i:03d}"} for i in range(300)])
    hits = index.search(vectors[4], 3)
    assert hits == index.search(vectors[4:5], 3)[0]
    assert (
        [hit.rank for hit in hits] == [1, 2, 3] and hits[0].path == "4" and hits[0].score == pytest.approx(1)
    )
    assert hits[0].metadata == {"patient_id": "004"}
    assert hits[0].as_dict()["rank"] == 1


def test_the_dot_metric_sees_lengths_and_cosine_does_not() -> None:
    vectors = made(50)
    vectors[3] *= 100
    asked = np.abs(vectors[3]) * np.sign(vectors[3]) * 0.001
    assert retina_fm.index(vectors, metric="dot").search(vectors[4], 1)[0].score != pytest.approx(1)
    assert retina_fm.index(vectors, metric="dot").search(asked, 1)[0].path == "3"
    assert retina_fm.index(vectors).search(vectors[4], 1)[0].path == "4"


def test_k_larger_than_the_index_gives_all_of_it() -> None:
    index = retina_fm.index(made(5))
    assert len(index.search(made(1)[0], 50)) == 5
    assert [len(hits) for hits in index.search(made(2), 50)] == [5, 5]


def test_a_query_can_leave_out_itself_and_its_patient(tmp_path: Path) -> None:
    vectors = made(40)
    names = [f"eye{i}" for i in range(40)]
    index = retina_fm.index(
        vectors, None, paths=names, metadata={"patient_id": [str(i // 4) for i in range(40)]}
    )
    with pytest.raises(ConfigError, match="not in the index"):
        index.search(vectors[0], exclude_same="patient_id")
    places = index.state.find(["eye5", "eye9"])
    found = index.searcher.search(vectors[[5, 9]], 40, excluded=[np.array([4, 5, 6, 7]), places[1:]])
    assert not {4, 5, 6, 7} & set(found.positions[0].tolist()) and (found.positions[0] >= 0).sum() == 36
    assert 9 not in found.positions[1] and 5 in found.positions[1]


@pytest.fixture
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "EXACT_UP_TO", 1500)
    monkeypatch.setattr(searcher, "EXACT_UP_TO", 100)


def clustered(count: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(0)
    centres, basis = random.standard_normal((40, 8)), random.standard_normal((8, 32))
    random = np.random.default_rng(seed)
    latent = centres[random.integers(0, 40, count)] + 0.5 * random.standard_normal((count, 8))
    return (latent @ basis + 0.05 * random.standard_normal((count, 32))).astype(np.float32)


def test_an_approximate_index_reaches_the_recall_it_states_and_ranks_exactly(
    tmp_path: Path, small_limits: None
) -> None:
    vectors = clustered(4000)
    group = (np.arange(4000) % 50).astype(str)
    index = retina_fm.index(vectors, store=tmp_path / "store", metadata={"group": group.tolist()})
    assert (
        index.approximate
        and "IVF" in cache.load_cache(tmp_path / "store", index.state, index.space).about.factory
    )
    stated = index.manifest.recall["recall"]
    assert stated >= 0.95
    queries = clustered(60, seed=5)
    truth = sorted_by_score(queries, vectors, 10)
    found = paths(ImageIndex.open(tmp_path / "store").search(queries, 10))
    assert np.mean([len(set(t) & set(f)) / 10 for t, f in zip(truth, found, strict=True)]) > 0.9
    assert paths(index.search(queries, 10, exact=True)) == truth
    assert paths(index.search(queries, 10, where="group=7")) == sorted_by_score(
        queries, vectors, 10, group == "7"
    )
    half = np.isin(group, [str(i) for i in range(25)])
    many = paths(index.search(queries, 10, where=lambda_filter(half)))
    truth = sorted_by_score(queries, vectors, 10, half)
    assert all(half[int(path)] for row in many for path in row)
    assert np.mean([len(set(t) & set(f)) / 10 for t, f in zip(truth, many, strict=True)]) > 0.9


def lambda_filter(mask: np.ndarray) -> dict:
    chosen = {str(number) for number in np.flatnonzero(mask)}
    return {"path": lambda path: path in chosen}


def test_rows_added_after_an_approximate_index_was_made_are_found_and_removed_ones_are_not(
    tmp_path: Path, small_limits: None
) -> None:
    vectors = clustered(3000)
    index = retina_fm.index(vectors, store=tmp_path / "store")
    more = clustered(200, seed=3)
    before = cache.load_cache(tmp_path / "store", index.state, index.space).about
    index.add(more)
    after = cache.load_cache(tmp_path / "store", index.state, index.space).about
    assert after == before, "a small tail does not have it made again"
    assert [hits[0].path for hits in index.search(more[:20], 1)] == [str(3000 + i) for i in range(20)]
    index.remove([str(i) for i in range(100)] + ["3005"])
    assert all(
        int(h.path) >= 100 and h.path != "3005" for hits in index.search(vectors[:50], 10) for h in hits
    )
    index.add(clustered(1500, seed=4))
    assert index.manifest.recall["rows"] == 4700
    assert index.verify() == []


def test_lists_and_codes_follow_the_documented_rule() -> None:
    flat = made(2000, 128)
    low = (made(2000, 20) @ made(20, 128, 1)).astype(np.float32)
    assert approximate.plan_approximate(1_000_000, low, 10**9).factory == "PCAR64,IVF4096,SQ8"
    assert approximate.plan_approximate(1_000_000, flat, 10**9).factory == "IVF4096,SQ8"
    assert approximate.plan_approximate(10_000_000, low, 10**9).factory == "PCAR64,IVF8192,SQ8"
    assert approximate.plan_approximate(10_000_000, low, 5 * 10**8).factory == "PCAR64,IVF8192,PQ32"
    assert approximate.plan_approximate(10_000_000, low, 1).factory == "PCAR64,IVF8192,PQ8"


def test_conditions_mean_what_they_say() -> None:
    table = {
        "eye": ["left", "right", None, ""], "age": ["9", "60", "x", None], "id": ["007", "7", "07", "8"],
        "grade": [0, 1, None, 3], "date": ["2024-01-31", "2023-12-01", None, "2024-02-01"],
        "label": ["D", "N|D", "DR|A", None], "odd \"name": ["a", "b", "c", "it's and"],
        "seen": [True, False, None, True],
    }  # fmt: skip
    index = retina_fm.index(made(4), metadata=table)

    def met(where: object) -> list[int]:
        return np.flatnonzero(places_where(index.state, where)).tolist()  # type: ignore[arg-type]

    assert (
        met("eye=left") == [0]
        and met("eye!=left") == [1, 3]
        and met("eye=") == [2, 3]
        and met("eye!=") == [0, 1]
    )
    assert met("age>=10") == [1] and met("age<10") == [0]
    assert met("id=7") == [1] and met("id=007") == [0]
    assert met("grade>=1") == [1, 3] and met("grade=1.0") == [1] and met("grade!=1") == [0, 3]
    assert met("date>=2024-01-01") == [0, 3]
    assert met(["eye=left", "grade=0"]) == [0] and met(["eye=left", "grade=1"]) == []
    assert met({"eye": ["left", "right"], "grade": lambda g: g == 1}) == [1]
    assert met({"grade": 3}) == [3] and met({"eye": [None, "left"]}) == [0, 2, 3]
    assert met({"grade >=": 1, "label contains": "D"}) == [1] and met({"seen": True}) == [0, 3]
    assert met("label contains 'D'") == [0, 1] and met("label contains DR") == [2]
    assert met("grade>=1 and label contains 'D'") == [1]
    assert met("grade=0 or (eye=right and not age<10)") == [0, 1]
    assert met("not label contains D") == [2, 3] and met("seen=true") == [0, 3] and met("seen=0") == [1]
    assert met("\"odd \"\"name\"='it''s and'") == [3] and met({'odd "name': "b"}) == [1]
    assert met(Sql("grade BETWEEN ? AND ?", 1, 3)) == [1, 3]
    assert met([Sql("grade IS NULL"), "eye="]) == [2]
    with pytest.raises(ConfigError, match="Did you mean 'eye'"):
        met("eyes=left")
    for text in ("left", "age>1 and label contain 'D'", "(eye=left", "eye=left) or 1", "eye='left' x"):
        with pytest.raises(ConfigError, match="cannot be read"):
            met(text)


@pytest.mark.parametrize(
    "where",
    [
        "eye='x' OR 1=1 --'",
        "eye=x'; DROP TABLE picture; --",
        {"eye": "x' OR '1'='1"},
        {"eye": ["x') OR 1=1 --", "'"]},
        'eye="x" OR 1',
    ],
)
def test_values_are_never_part_of_a_statement(where: object) -> None:
    index = retina_fm.index(
        made(3), metadata={"eye": ["left", "right", "left"], 'a"); DROP TABLE x': [1, 2, 3]}
    )
    try:
        assert index.search(made(1)[0], where=where) == []  # type: ignore[arg-type]
    except ConfigError as error:
        assert "cannot be read" in str(error) or "no metadata column" in str(error)
    assert len(index.search(made(1)[0], where="eye=left")) == 2
    assert [hit.path for hit in index.search(made(1)[0], where={'a"); DROP TABLE x': 2})] == ["1"]


@pytest.mark.parametrize(
    "expression",
    ["1; DELETE FROM picture", "1) UNION SELECT value FROM settings --", "load_extension('x')", "nothing > 3",
     "(SELECT count(*) FROM pragma_database_list) > 0", "writefile('x', 'y')"],
)  # fmt: skip
def test_an_expression_can_only_read(expression: str, tmp_path: Path) -> None:
    index = retina_fm.index(made(3), store=tmp_path / "s", metadata={"eye": ["left", "right", "left"]})
    with pytest.raises(ConfigError, match="cannot be read"):
        index.search(made(1)[0], where=Sql(expression))
    assert len(index) == 3 and len(ImageIndex.open(tmp_path / "s").search(made(1)[0])) == 3


def test_an_index_of_embeddings_refuses_photos_and_other_embeddings(eyes: Path) -> None:
    index = retina_fm.index(made(10))
    with pytest.raises(IndexMismatchError, match="plain embeddings"):
        index.search(eyes / "p0_left.png")
    with pytest.raises(ConfigError, match=r"\(N, 32\) is needed"):
        index.search(made(1, 31)[0])
    with pytest.raises(ConfigError, match=r"\(N, 32\) is needed"):
        index.add(made(3, 31))
    with pytest.raises(ConfigError, match="NaN"):
        index.search(np.full(32, np.nan, np.float32))
    with pytest.raises(ConfigError, match="row 2"):
        bad = made(4)
        bad[2, 5] = np.inf
        retina_fm.index(bad)
    with pytest.raises(ConfigError, match="k is 0"):
        index.search(made(1)[0], 0)
    with pytest.raises(ConfigError, match="twice"):
        retina_fm.index(made(3), paths=["a", "b", "a"])
    with pytest.raises(ConfigError, match="2 paths for 3"):
        retina_fm.index(made(3), paths=["a", "b"])
    with pytest.raises(ConfigError, match="Did you mean 'cosine'"):
        retina_fm.index(made(3), metric="cosin")


def test_a_thousand_queries_find_what_faiss_finds_in_the_exported_table(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    from retina_fm.indexes.products import load_faiss

    vectors = made(6000)
    random = np.random.default_rng(3)
    vectors[random.integers(0, 6000, 1500)] = vectors[random.integers(0, 40, 1500)]
    table = {
        "age": random.integers(20, 90, 6000).tolist(),
        "label": random.choice(["D", "N|D", "G", "A|N"], 6000),
    }
    index = retina_fm.index(vectors, store=tmp_path / "s", metadata=table)
    index.remove([str(number) for number in random.permutation(6000)[:1000]])
    queries = np.concatenate([made(500, seed=9), vectors[random.integers(0, 6000, 500)]])
    unit = queries / np.linalg.norm(queries.astype(np.float64), axis=1, keepdims=True)
    exported = pq.read_table(index.to_parquet(tmp_path / "out.parquet"))
    ages, labels = exported.column("age").to_numpy(), np.array(exported.column("label").to_pylist())
    for where, chosen in (
        (None, np.ones(5000, np.bool_)),
        ("age>60", ages > 60),
        ("age>60 and label contains 'D'", (ages > 60) & np.isin(labels, ["D", "N|D"])),
    ):
        part = exported.filter(chosen)
        points = np.array(part.column("embedding").to_pylist(), np.float32)
        points /= np.linalg.norm(points.astype(np.float64), axis=1, keepdims=True).astype(np.float32)
        flat = load_faiss().IndexFlatIP(32)
        flat.add(points)
        # ties: FAISS orders equal scores by accident, so that all of them are taken and put in order
        candidates = flat.search(unit.astype(np.float32), 500)[1]
        names = part.column("path").to_pylist()
        found = paths(index.search(queries, 10, where=where))
        for number, row in enumerate(found):
            exact = points[candidates[number]].astype(np.float64) @ unit[number].astype(np.float32).astype(
                np.float64
            )
            order = np.lexsort((candidates[number], -exact.astype(np.float32)))[:10]
            assert row == [names[i] for i in candidates[number][order]], f"query {number}, where={where}"


@pytest.mark.parametrize(
    "spaces", ["eye" + " " * 30_000, "eye=left" + " " * 30_000 + "x", " " * 30_000, "(" * 30_000]
)
def test_a_condition_of_thirty_thousand_characters_is_answered_at_once(spaces: str) -> None:
    index = retina_fm.index(made(3), metadata={"eye": ["left", "right", "left"]})
    started = time.perf_counter()
    try:
        index.search(made(1), where=spaces)
    except ConfigError as error:
        assert len(str(error)) < 600
    assert time.perf_counter() - started < 1


def test_spaces_between_words_of_a_column_and_of_a_value_are_kept() -> None:
    index = retina_fm.index(made(3), metadata={"left or right": ["a  b", "b", "c"], "n": [1, 2, 3]})
    found = index.search(made(1), k=3, where="left or right = a  b  and  n = 1")[0]
    assert [hit.metadata["n"] for hit in found] == [1]
    found = index.search(made(1), k=3, where="n = 1  or  n = 3 ")[0]
    assert {hit.metadata["n"] for hit in found} == {1, 3}


def test_more_neighbours_than_fit_into_memory_are_all_there_are() -> None:
    index = retina_fm.index(made(5), metadata={"patient_id": ["a", "a", "b", "b", "c"]})
    assert len(index.search(made(1), k=10**12)[0]) == 5
    assert index.evaluate(k=(1, 10**12), repeats=0).any_hit[10**12].mean == 1
