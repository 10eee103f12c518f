"""What a search gives back, tables of embeddings, and metadata that stays with its picture."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from index_helpers import TINY, draw, made

import retina_fm
from retina_fm.cli.main import main
from retina_fm.errors import ConfigError, IndexMismatchError, MissingDependencyError
from retina_fm.indexes import Hit, Hits, ImageIndex
from retina_fm.indexes.models import identity_of


def test_hits_are_a_list_that_can_be_looked_at(eyes: Path, tmp_path: Path) -> None:
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    hits = index.search(eyes / "p0_left.png", 3)
    assert isinstance(hits, list) and isinstance(hits, Hits) and isinstance(hits[0], Hit)
    assert hits == list(hits) and len(hits) == 3 and hits.metadata["patient_id"] == "000"
    lines = repr(hits).splitlines()
    assert lines[0] == f"3 hits for {eyes / 'p0_left.png'}" and len(lines) == 4
    assert hits[0].path in lines[1] and "patient_id=" in lines[1] and f"{hits[0].score:.4f}" in lines[1]
    page = hits._repr_html_()
    assert page.count("data:image/jpeg;base64,") == 4 and "<html" not in page
    saved = hits.save_gallery(tmp_path / "out.html", title="<Two & three>").read_text()
    rows = page.partition("</style>")[2].rpartition("</div>")[0].strip()
    assert rows.count("<figure") == 4 and rows in saved and "&lt;Two &amp; three&gt;" in saved
    assert hits.save_gallery(tmp_path / "out.png").stat().st_size > 1000
    many = index.search([eyes / "p0_left.png", eyes / "p1_left.png"], 2)
    assert [len(one) for one in many] == [2, 2] and all(isinstance(one, Hits) for one in many)
    assert repr(index.search(index.embeddings[0], 1)).startswith("1 hits for vector 0")


def test_hits_become_a_data_frame(eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    hits = index.search(eyes / "p0_left.png", 3)
    with monkeypatch.context() as patch:
        patch.setitem(sys.modules, "pandas", None)
        with pytest.raises(MissingDependencyError, match="pip install pandas"):
            hits.to_pandas()
    pytest.importorskip("pandas", reason="pandas is not installed")
    frame = hits.to_pandas()
    assert list(frame.columns) == ["rank", "score", "path", "patient_id", "eye", "age"]
    assert frame["path"].tolist() == [hit.path for hit in hits] and frame["rank"].tolist() == [1, 2, 3]
    assert list(Hits().to_pandas().columns) == ["rank", "score", "path"]


def test_a_query_of_the_index_is_left_out_unless_it_is_asked_for(eyes: Path, tmp_path: Path) -> None:
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    query = eyes / "p1_left.png"
    assert str(query) not in [hit.path for hit in index.search(query, 20)]
    assert index.search(query, 20, include_query=True)[0].path == str(query)
    assert len(index.search(query, 20, exclude_same="patient_id")) == 6
    found = [hit.path for hit in index.search(query, 20, exclude_same="patient_id", include_query=True)]
    assert len(found) == 7 and found[0] == str(query)
    shutil.copy(query, tmp_path / "elsewhere.png")
    assert index.search(tmp_path / "elsewhere.png", 20)[0].path == str(query), "another file is no member"
    draw(eyes, ["p1_left.png"], seed=90)
    assert str(query) not in [hit.path for hit in index.search(query, 20)], "changed, and still the same file"


def test_a_renamed_picture_keeps_its_metadata(eyes: Path, tmp_path: Path) -> None:
    retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    (eyes / "p1_left.png").rename(eyes / "renamed.png")
    shutil.copy(eyes / "p2_left.png", eyes / "copy.png")
    index = retina_fm.index(eyes, TINY)
    assert (index.report.encoded, index.report.copied, index.report.removed) == (0, 2, 1)
    rows = dict(zip([Path(path).name for path in index.paths], index.metadata.to_pylist(), strict=True))
    assert rows["renamed.png"]["patient_id"] == "001" and rows["copy.png"]["patient_id"] is None
    draw(eyes, ["renamed.png"], seed=77)
    again = retina_fm.index(eyes, TINY)
    rows = dict(zip([Path(path).name for path in again.paths], again.metadata.to_pylist(), strict=True))
    assert again.report.encoded == 1 and rows["renamed.png"]["patient_id"] == "001", "so does a changed one"


def test_an_index_opened_through_another_path_knows_its_pictures(eyes: Path, tmp_path: Path) -> None:
    store = tmp_path / "deep" / "er" / "store"
    retina_fm.index(eyes, TINY, store=store, metadata=tmp_path / "labels.csv")
    (tmp_path / "link").symlink_to(store, target_is_directory=True)
    (tmp_path / "photos").symlink_to(eyes, target_is_directory=True)
    index = ImageIndex.open(tmp_path / "link")
    assert all(Path(path).is_file() for path in index.paths)
    hits = index.search(tmp_path / "photos" / "p0_left.png", 20)
    assert len(hits) == 7 and hits.metadata["patient_id"] == "000", "the query was found by its path"
    again = retina_fm.index(tmp_path / "photos", TINY, store=tmp_path / "link")
    assert again.report.unchanged == 8 and again.metadata.column("eye").null_count == 0
    before = Path.cwd()
    os.chdir(tmp_path)
    try:
        assert ImageIndex.open("link").search("eyes/p0_left.png", 2)[0].metadata["eye"] is not None
    finally:
        os.chdir(before)


def test_a_table_of_embeddings_becomes_an_index(eyes: Path, tmp_path: Path) -> None:
    table = tmp_path / "tables" / "emb.parquet"
    table.parent.mkdir()
    retina_fm.encode_to(eyes, table, TINY, dtype="float32")
    index = retina_fm.index(str(table), metadata=tmp_path / "labels.csv")
    assert len(index) == 8 and index.folder is None and index.manifest.model.name == TINY
    assert sorted(Path(path).resolve() for path in index.paths) == sorted(p.resolve() for p in eyes.glob("*"))
    assert index.metadata.column("eye").null_count == 0
    assert len(index.search(eyes / "p0_left.png", 20, where="eye=left")) == 3
    store = tmp_path / "store"
    stored = retina_fm.index(table, store=store)
    assert retina_fm.index(eyes, store=store, dtype="float32").report.unchanged == 8, (
        "nothing is encoded again"
    )
    assert np.array_equal(ImageIndex.open(store).embeddings, stored.embeddings)
    exported = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv").to_parquet(
        tmp_path / "out.parquet"
    )
    again = retina_fm.index(exported)
    assert again.metadata.column_names == ["patient_id", "eye", "age"] and len(again) == 8
    with pytest.raises(IndexMismatchError, match="weights"):
        retina_fm.index(table, "fundus2video-random", store=store)


def test_a_table_is_whitened_as_its_model_is(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    identity, whitening = identity_of("fundus2video-half")
    assert whitening is not None
    vectors = np.random.default_rng(2).normal(size=(6, len(whitening.mean))).astype(np.float32)

    def table(weights: str) -> Path:
        about = {
            "model": "fundus2video-half",
            "weights_sha256": weights,
            "transform_hash": identity.transform_hash,
        }
        column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), vectors.shape[1])
        rows = pa.table({"path": [f"{n}.png" for n in range(6)], "embedding": column})
        pq.write_table(rows.replace_schema_metadata(about), tmp_path / f"{weights[:4]}.parquet")
        return tmp_path / f"{weights[:4]}.parquet"

    own = table(identity.weights_sha256)
    index, named = retina_fm.index(own), retina_fm.index(own, "fundus2video-half")
    assert index.manifest.whiten and named.manifest.whiten
    assert index.search(vectors[0], 5)[0] == named.search(vectors[0], 5)[0]
    assert not retina_fm.index(own, whiten=False).manifest.whiten and not caplog.records
    other = table("0" * 64)
    assert not retina_fm.index(other).manifest.whiten
    assert "whitening is not here" in caplog.text
    with pytest.raises(ConfigError, match="whitening is not here"):
        retina_fm.index(other, whiten=True)


def test_a_table_of_nobody_holds_plain_embeddings(tmp_path: Path) -> None:
    vectors = made(5)
    column = pa.FixedSizeListArray.from_arrays(pa.array(vectors.reshape(-1)), 32)
    pq.write_table(
        pa.table({"path": list("abcde"), "embedding": column, "age": [1, 2, 3, 4, 5]}), tmp_path / "t.parquet"
    )
    index = retina_fm.index(tmp_path / "t.parquet")
    assert index.paths == list("abcde") and index.manifest.model is None
    assert index.search(vectors[2], 1, where="age<4")[0].path == "c"
    pq.write_table(pa.table({"path": ["a"], "x": [1]}), tmp_path / "bad.parquet")
    with pytest.raises(ConfigError, match="path and embedding are needed"):
        retina_fm.index(tmp_path / "bad.parquet")
    (tmp_path / "cut.parquet").write_bytes(b"PAR1")
    with pytest.raises(ConfigError, match="cannot be read"):
        retina_fm.index(tmp_path / "cut.parquet")


def test_an_index_that_is_there_is_brought_up_to_date_with_its_own_model(
    eyes: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["index", str(eyes), "--model", TINY]) == 0
    draw(eyes, ["new.png"], seed=40)
    assert main(["index", str(eyes)]) == 0
    assert "9 pictures (8 unchanged, 1 encoded" in capsys.readouterr().out
    assert retina_fm.index(eyes).manifest.model.name == TINY
    assert main(["search", str(eyes), str(eyes / "new.png"), "--include-query", "-k", "1"]) == 0
    assert "new.png" in capsys.readouterr().out.splitlines()[1]


def test_metadata_keep_their_types_and_awkward_names(tmp_path: Path) -> None:
    import datetime

    table = pa.table({
        "n": pa.array([1, None, 3]), "x": [0.5, None, 2.0], "seen": [True, False, None],
        "day": pa.array([datetime.date(2024, 1, 31), None, datetime.date(2023, 12, 1)]),
        "at": pa.array([datetime.datetime(2024, 1, 31, 7), None, None], pa.timestamp("us")),
        "SELECT": ["a", "b", "c"], 'quo"te; --': ["007", "7", None], "path": ["0", "1", "2"],
        "none": [None] * 3,
    })  # fmt: skip
    index = retina_fm.index(made(3), store=tmp_path / "s", metadata=table)
    for one in (index, ImageIndex.open(tmp_path / "s")):
        rows = one.metadata.to_pylist()
        assert rows == table.drop_columns(["path"]).to_pylist()
        assert one.search(made(3)[0], 1)[0].metadata == rows[0]
        assert [h.path for h in one.search(made(3)[0], where="day>=2024-01-01 and seen=true")] == ["0"]
        assert [h.path for h in one.search(made(3)[0], where={'quo"te; --': "7"})] == ["1"]
        assert [h.path for h in one.search(made(3)[0], where={"day": lambda d: d and d.month == 12})] == ["2"]
    index.add(None, metadata=[{"path": "1", "n": 2.5}])
    assert index.metadata.column("n").to_pylist() == [1, 2.5, 3] and index.verify() == []
    for bad, message in ((["x", "y", "z"], "holds INTEGER"), ([1, 2, 3], "differ in case")):
        with pytest.raises(ConfigError, match=message):
            index.add(
                None, metadata=[{"path": "0", "n" if bad[0] == "x" else "N": value} for value in bad[:1]]
            )
    with pytest.raises(ConfigError, match="keeps"):
        index.add(None, metadata=[{"path": "0", "_crc": 1}])
    assert len(ImageIndex.open(tmp_path / "s")) == 3


def test_a_filter_on_a_big_index_can_be_answered_by_an_index_of_its_column(tmp_path: Path) -> None:
    index = retina_fm.index(made(500), store=tmp_path / "s", metadata={"age": [i % 90 for i in range(500)]})
    index.index_column("age")
    with pytest.raises(ConfigError, match="no metadata column 'ages'"):
        index.index_column("ages")
    plan = ImageIndex.open(tmp_path / "s").state.query(
        'EXPLAIN QUERY PLAN SELECT _place FROM picture WHERE "age" > 3 AND 1'
    )
    assert "USING INDEX" in str(plan) or "USING COVERING INDEX" in str(plan)
    index.remove([str(i) for i in range(200)])  # compacts
    assert len(index.search(made(1)[0], 50, where="age=7")) == 3 and index.verify() == []
