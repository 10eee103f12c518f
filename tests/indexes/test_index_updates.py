from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from index_helpers import TINY, draw, files_of, made

import retina_fm
from retina_fm.errors import (
    ConfigError,
    IndexMismatchError,
    MetadataWarning,
    NoPicturesError,
    OutputError,
    PictureError,
    SkippedPictures,
)
from retina_fm.indexes import ImageIndex
from retina_fm.indexes.opening import find_store


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many views went through the model, call by call."""
    from retina_fm.encoding.embedder import Embedder

    seen: list[int] = []
    original = Embedder.__call__

    def counting(self: Embedder, views: np.ndarray) -> np.ndarray:
        seen.append(len(views))
        return original(self, views)

    monkeypatch.setattr(Embedder, "__call__", counting)
    return seen


def test_a_second_run_touches_nothing_and_loads_no_model(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    assert index.report.encoded == 8 and find_store(eyes) == eyes / ".retina-fm-index"
    before = files_of(tmp_path)
    monkeypatch.setattr("retina_fm.encoding.embedder.Embedder.__init__", None)
    again = retina_fm.index(eyes, TINY)
    assert (again.report.unchanged, again.report.encoded) == (8, 0)
    hits = again.search(eyes / "p2_left.png", 3, exclude_same="path", where="eye=left")
    assert len(hits) == 3 and all(hit.metadata["eye"] == "left" for hit in hits)
    assert str(eyes / "p2_left.png") not in [hit.path for hit in hits]
    assert all(Path(hit.path).is_file() for hit in hits)
    assert files_of(tmp_path) == before


def test_only_new_and_changed_files_are_encoded(eyes: Path, encoded: list[int]) -> None:
    retina_fm.index(eyes, TINY, dtype="float32")
    assert sum(encoded) == 8
    encoded.clear()
    draw(eyes, ["new a.png", "new\nb.png", "\u65b0.png"], seed=60)  # new
    draw(eyes, ["p0_left.png"], seed=70)  # changed
    os.utime(eyes / "p0_right.png")  # touched
    (eyes / "p1_left.png").rename(eyes / "renamed.png")
    shutil.copy(eyes / "p1_right.png", eyes / "copy.png")
    (eyes / "p3_left.png").unlink()
    index = retina_fm.index(eyes, TINY, dtype="float32")
    report = index.report
    assert sum(encoded) == report.encoded == 4
    assert (report.unchanged, report.copied, report.replaced, report.removed) == (4, 3, 2, 2)
    assert sorted(index.paths) == sorted(map(str, eyes.glob("*.png"))) and len(index) == 11
    fresh = retina_fm.encode([Path(path) for path in index.paths], TINY, dtype="float32")
    assert np.allclose(index.embeddings, fresh, atol=1e-3)
    assert index.verify() == []


def test_photos_elsewhere_are_added_and_none_are_dropped_that_still_exist(eyes: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    retina_fm.index(eyes, TINY, store=store)
    more = draw(tmp_path / "more", ["a.png", "b.png"], seed=30)
    assert len(retina_fm.index(tmp_path / "more", TINY, store=store)) == 10
    more[0].unlink()
    index = retina_fm.index(eyes, TINY, store=store)
    assert len(index) == 9 and index.report.removed == 1
    assert index.remove(more[1]) == 1 and len(index) == 8
    with pytest.raises(ConfigError, match=r"1 of 1 paths are not in the index"):
        index.remove(more[1])
    with pytest.raises(ConfigError, match="either paths or where"):
        index.remove()


def test_what_was_removed_and_compacted_is_in_no_file_any_more(tmp_path: Path) -> None:
    vectors, store = made(400), tmp_path / "store"
    names, notes = [f"name-{i:04d}" for i in range(400)], [f"secret-{i:04d}" for i in range(400)]
    index = retina_fm.index(vectors, store=store, paths=names, metadata={"note": notes})
    index.remove("name-0123")
    index.compact()
    data = b"".join(path.read_bytes() for path in store.iterdir())
    assert b"name-0124" in data and b"secret-0124" in data and vectors[124].tobytes() in data
    assert b"name-0123" not in data and b"secret-0123" not in data and vectors[123].tobytes() not in data


def test_pictures_in_memory_are_indexed_and_asked_for(eyes: Path) -> None:
    from retina_fm.pictures import read_picture

    pictures = [read_picture(path) for path in sorted(eyes.glob("*.png"))]
    index = retina_fm.index(pictures, TINY)
    assert len(index) == 8 and all(path.startswith("sha256:") for path in index.paths)
    hits = index.search(pictures[3], 1)
    assert hits[0].path == index.paths[3] and hits[0].score == pytest.approx(1, abs=1e-3)
    assert [h[0].path for h in index.search(pictures[:2], 1)] == index.paths[:2]
    index.add(pictures[0][:, ::-1])
    assert len(index) == 9 and index.search(pictures[3], 1)[0].path == index.paths[3]


def test_metadata_stays_with_its_photo_and_can_be_given_later(eyes: Path, tmp_path: Path) -> None:
    index = retina_fm.index(eyes, TINY)
    assert index.metadata.column_names == []
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    assert index.metadata.column("patient_id").to_pylist()[:3] == ["000", "000", "001"]
    index.add(eyes, metadata={"p0_left.png": {"eye": "left", "note": "x"}})
    rows = dict(zip([Path(p).name for p in index.paths], index.metadata.to_pylist(), strict=True))
    assert rows["p0_left.png"]["note"] == "x" and rows["p1_left.png"]["note"] is None
    assert rows["p1_left.png"]["patient_id"] == "001"
    assert rows["p0_left.png"]["patient_id"] == "000" and rows["p0_left.png"]["age"] is not None
    assert len(index.search(eyes / "p0_left.png", where="note=x", include_query=True)) == 1
    assert index.search(eyes / "p0_left.png", where="note=x") == [], "a file is left out of its own answer"
    index.add(eyes, metadata={"p0_left.png": {"note": ""}})
    rows = dict(zip([Path(p).name for p in index.paths], index.metadata.to_pylist(), strict=True))
    assert rows["p0_left.png"]["eye"] == "left" and not rows["p0_left.png"]["note"]
    report = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv").evaluate(k=(1, 7))
    assert report.any_hit[7].mean == 1 and report.queries == 8
    pairs = retina_fm.index(eyes, TINY).evaluate_pairs(modality="eye", k=(1,))
    assert set(pairs) == {("left", "right"), ("right", "left")} and pairs["left", "right"].gallery == 4


def test_metadata_that_fits_nothing_or_contradicts_itself_is_refused(eyes: Path, tmp_path: Path) -> None:
    index = retina_fm.index(eyes, TINY)
    table = tmp_path / "bad.csv"
    table.write_text("path,eye\nelsewhere/x.png,left\n")
    with pytest.raises(ConfigError, match="Not one path of the metadata is in the index"):
        index.add(eyes, metadata=table)
    table.write_text("path,eye\neyes/p0_left.png,left\neyes/none.png,left\n")
    with pytest.warns(MetadataWarning, match=r"1 rows .*none\.png"):
        index.add(eyes, metadata=table)
    table.write_text("path,eye\neyes/p0_left.png,left\neyes/p0_left.png,left\n")
    index.add(eyes, metadata=table)
    table.write_text("path,eye\neyes/p0_left.png,left\neyes/p0_left.png,right\n")
    with pytest.raises(ConfigError, match="two different rows"):
        index.add(eyes, metadata=table)
    for text in ("", "a,b\n1\n"):
        table.write_text(text)
        with pytest.raises(ConfigError, match="cannot be read"):
            index.add(eyes, metadata=table)
    with pytest.raises(ConfigError, match="no column 'path' and 3 rows for 8 pictures"):
        index.add(eyes, metadata={"eye": ["left"] * 3})


def test_folders_without_pictures_with_one_and_with_bad_ones(tmp_path: Path) -> None:
    folder = tmp_path / "eyes"
    folder.mkdir()
    with pytest.raises(NoPicturesError):
        retina_fm.index(folder, TINY)
    draw(folder, ["only one \u00e9.png"])
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "itself.png").symlink_to(folder / "itself.png")
    with pytest.raises(PictureError, match=r"itself\.png"):
        retina_fm.index(folder, TINY)
    (folder / "itself.png").unlink()
    index = retina_fm.index(folder, TINY)
    assert len(index) == 1 and len(index.search(folder / "only one \u00e9.png", 10, include_query=True)) == 1
    (folder / "broken.png").write_bytes(b"not a picture")
    with pytest.raises(PictureError, match=r"broken\.png"):
        retina_fm.index(folder, TINY)
    with pytest.warns(SkippedPictures, match=r"broken\.png"):
        index = retina_fm.index(folder, TINY, on_error="skip")
    assert len(index) == 1 and len(index.report.skipped) == 1
    with pytest.raises(PictureError, match=r"broken\.png"):
        index.search(folder / "broken.png")
    with pytest.raises(PictureError, match=r"nothing\.png"):
        index.search(folder / "nothing.png")


def test_whitening_is_applied_where_it_ships_and_can_be_switched(eyes: Path, tmp_path: Path) -> None:
    from retina_fm.models import fit_whitening, resolve, save_whitening

    folder = tmp_path / "model"
    shutil.copytree(resolve(TINY), folder)
    save_whitening(folder, fit_whitening(made(100, 64) * np.linspace(1, 9, 64, dtype=np.float32)))
    index = retina_fm.index(eyes, str(folder), dtype="float32")
    whitened = index.search(eyes / "p0_left.png", 8, include_query=True)
    plain = ImageIndex.open(eyes / ".retina-fm-index", whiten=False)
    raw = plain.search(eyes / "p0_left.png", 8, include_query=True)
    assert [hit.score for hit in whitened] != [hit.score for hit in raw]
    assert np.array_equal(index.embeddings, plain.embeddings), "embeddings stay as the model gave them"
    unit = plain.embeddings / np.linalg.norm(plain.embeddings, axis=1, keepdims=True)
    own = plain.paths.index(str(eyes / "p0_left.png"))
    assert np.allclose(sorted(unit @ unit[own])[::-1], [hit.score for hit in raw], atol=1e-5)
    shutil.rmtree(folder)
    assert ImageIndex.open(eyes / ".retina-fm-index").search(index.embeddings[own], 8) == whitened


def test_an_index_moves_to_disk_and_out_again(eyes: Path, tmp_path: Path) -> None:
    memory = retina_fm.index(sorted(eyes.glob("*.png")), TINY)
    saved = memory.save(tmp_path / "deep" / "store")
    assert saved.paths == memory.paths and np.array_equal(saved.embeddings, memory.embeddings)
    assert len(retina_fm.index(eyes, TINY, store=tmp_path / "deep" / "store")) == 8
    with pytest.raises(OutputError, match="holds an index already"):
        memory.save(tmp_path / "deep" / "store")
    index = retina_fm.index(eyes, TINY, store=tmp_path / "deep" / "store", metadata=tmp_path / "labels.csv")
    table = pq.read_table(index.to_parquet(tmp_path / "out.parquet"))
    assert table.column_names == ["path", "embedding", "patient_id", "eye", "age"]
    assert table.schema.metadata[b"model"] == TINY.encode()
    assert np.array_equal(np.array(table.column("embedding").to_pylist(), np.float32), index.embeddings)


def test_an_exported_table_names_the_files_from_where_it_lies(
    eyes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(eyes.parent)
    table = retina_fm.index(eyes.name, TINY).to_parquet(tmp_path / "tables" / "out.parquet")
    names = pq.read_table(table).column("path").to_pylist()
    assert all((table.parent / name).is_file() for name in names)
    again = retina_fm.index(table)
    assert sorted(Path(path).resolve() for path in again.paths) == sorted(eyes.resolve().glob("*.png"))
    plain = retina_fm.index(made(3), paths=["a", "b", "c"]).to_parquet(tmp_path / "plain.parquet")
    assert pq.read_table(plain).column("path").to_pylist() == ["a", "b", "c"]


def test_skipped_photos_are_told_by_their_place_in_the_input(eyes: Path) -> None:
    good = sorted(eyes.glob("*.png"))
    photos = [b"bad0", good[0], good[1], b"bad1", good[2]]
    with pytest.warns(SkippedPictures) as told:
        index = retina_fm.index(photos, TINY, on_error="skip")
    assert told[0].message.indices == [0, 3] and len(index) == 3
    (eyes / "broken.png").write_bytes(b"no picture")
    with pytest.warns(SkippedPictures) as told:
        retina_fm.index([good[0], eyes / "broken.png", good[1], eyes / "broken.png"], TINY, on_error="skip")
    assert told[0].message.indices == [1, 3]


def test_embeddings_without_a_name_never_take_one_that_is_taken() -> None:
    index = retina_fm.index(made(3), paths=["1", "2", "3"])
    index.add(made(3, seed=5))
    assert index.paths == ["1", "2", "3", "4", "5", "6"]
    assert index.remove("3") == 1 and len(index) == 5


def test_embeddings_stay_in_the_type_that_the_index_keeps(tmp_path: Path) -> None:
    retina_fm.index(made(4), store=tmp_path / "s", vectors="float16")
    assert retina_fm.index(made(4), store=tmp_path / "s").manifest.dtype == "float16"
    with pytest.raises(IndexMismatchError, match="as float16, not as float32"):
        retina_fm.index(made(4), store=tmp_path / "s", vectors="float32")


def test_hugging_face_data_sets_hold_the_same(eyes: Path, tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="the extra datasets is not installed")
    index = retina_fm.index(eyes, TINY, metadata=tmp_path / "labels.csv")
    rows = index.to_datasets()
    assert rows.num_rows == 8 and rows[0]["patient_id"] == "000" and len(rows[0]["embedding"]) == 64


def test_duplicates_are_equal_files_and_near_embeddings(eyes: Path) -> None:
    shutil.copy(eyes / "p0_left.png", eyes / "same.png")
    splits = [{"path": "p0_left.png", "split": "train"}, {"path": "same.png", "split": "test"}]
    index = retina_fm.index(eyes, TINY, metadata=splits)
    pairs = index.duplicates(0.99999)
    found = [(Path(pair.first).name, Path(pair.second).name, pair.same_file) for pair in pairs]
    assert found == [("p0_left.png", "same.png", True)]
    assert pairs[0].differs_in("split") and not pairs[0].differs_in("eye")
    assert len(index.duplicates(-1)) == 36
    vectors = made(50)
    vectors[30] = vectors[4] * 2
    assert [(p.first, p.second) for p in retina_fm.index(vectors).duplicates()] == [("4", "30")]
