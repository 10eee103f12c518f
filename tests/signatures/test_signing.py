"""Signatures by an encoder, beside embeddings in a table, and in an index."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from drawn_eyes import angiogram, eye

import retina_fm
from conftest import saved_generator
from retina_fm._io.seals import read_npz
from retina_fm.errors import ConfigError, IndexMismatchError, OutputError, WeightsError
from retina_fm.indexes import ImageIndex
from retina_fm.indexes.spaces import same_eye_from
from retina_fm.models import save_signature_basis
from retina_fm.signatures import default_basis

NAMES = [f"{letter}{visit}.png" for letter in "abc" for visit in (1, 2)]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny encoder with a vessel map, whose views are large enough for vessels to be seen in."""
    folder = tmp_path_factory.mktemp("weights") / "seeing"
    saved_generator(folder, vessels=True, coarse_maps=True, size=256)
    return folder


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three eyes, each photographed twice: the second time turned."""
    folder = tmp_path_factory.mktemp("photos")
    for seed, letter in enumerate("abc"):
        picture = eye(seed, 256)
        picture.save(folder / f"{letter}1.png")
        picture.rotate(8).save(folder / f"{letter}2.png")
    return folder


@pytest.fixture(scope="module")
def index(model: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> ImageIndex:
    return retina_fm.index(photos, str(model), store=tmp_path_factory.mktemp("store") / "index")


def test_an_encoder_signs_one_or_many(model: Path, photos: Path) -> None:
    encoder = retina_fm.load(str(model))
    one, many = (
        encoder.signature(photos / "a1.png"),
        encoder.signature([photos / "a1.png", photos / "b1.png"]),
    )
    assert one.shape == (256,) and many.shape == (2, 256)
    assert np.array_equal(one, many[0]) and float(one @ many[1]) < 0.7
    assert encoder.signature([]).shape == (0, 256)


def test_a_basis_ships_beside_the_weights(model: Path, photos: Path, tmp_path: Path) -> None:
    folder = saved_generator(tmp_path / "own", vessels=True, coarse_maps=True, size=256)
    save_signature_basis(folder, replace(default_basis(), lines_alone=np.zeros(1, np.int64)))
    encoder, plain = retina_fm.load(str(folder)), retina_fm.load(str(model))
    assert encoder.signature_basis.needs_network and not plain.signature_basis.needs_network
    assert encoder.weights_sha256 == plain.weights_sha256
    # the map of an untrained network is nearly even, so the lines still speak, but the numbers are others
    found = encoder.signature(photos / "a1.png")
    assert 0.5 < float(found @ plain.signature(photos / "a1.png")) < 0.9999
    (folder / "signature.safetensors").write_bytes(b"something else")
    with pytest.raises(WeightsError, match="not the file"):
        retina_fm.load(str(folder))


def test_a_basis_that_needs_a_vessel_map_is_refused_without_one(tmp_path: Path) -> None:
    folder = saved_generator(tmp_path / "blind")
    save_signature_basis(folder, replace(default_basis(), lines_alone=np.zeros(1, np.int64)))
    with pytest.raises(ConfigError, match="needs a vessel map"):
        retina_fm.load(str(folder))


def test_a_table_holds_signatures_on_request_alone(model: Path, photos: Path, tmp_path: Path) -> None:
    encoder = retina_fm.load(str(model))
    retina_fm.encode_to(photos, tmp_path / "plain.parquet", encoder, workers=0)
    assert "signature" not in pq.read_table(tmp_path / "plain.parquet").column_names
    retina_fm.encode_to(photos, tmp_path / "signed.parquet", encoder, workers=0, signature=True)
    table = pq.read_table(tmp_path / "signed.parquet")
    found = np.array(table.column("signature").to_pylist(), np.float32)
    assert np.allclose(found, encoder.signature(photos), atol=1e-6)
    assert table.schema.metadata[b"signature_basis"].decode() == encoder.signature_basis.hash
    with pytest.raises(OutputError, match="not asked for"):
        retina_fm.encode_to(photos, tmp_path / "signed.parquet", encoder, workers=0)


@pytest.mark.parametrize("space", ["signature", "retrieval"])
def test_the_same_eye_is_found_and_the_hit_says_why(index: ImageIndex, photos: Path, space: str) -> None:
    hits = index.search([photos / name for name in NAMES], 2, space=space)
    assert [Path(found[0].path).name[0] for found in hits] == [name[0] for name in NAMES]
    first = hits[0][0]
    assert first.why.startswith("same eye (false accepts: 1 in ") and first.false_accept is not None
    assert first.false_accept <= 1e-4 < (hits[0][1].false_accept or 0) and hits[0][1].why == "similar"
    assert index.search(photos / "a1.png", 1)[0].false_accept is None  # embeddings say nothing of the eye


def test_pictures_of_the_same_eye_come_before_what_is_alike(index: ImageIndex, photos: Path) -> None:
    query = photos / "a1.png"
    eyes = index.search(query, 6, space="signature")
    alike = index.search(query, 6)
    both = index.search(query, 6, space="retrieval")
    same = [hit.path for hit in eyes if hit.false_accept is not None and hit.false_accept <= 1e-4]
    assert 0 < len(same) < 5
    assert [hit.path for hit in both] == [*same, *(hit.path for hit in alike if hit.path not in same)]
    assert [hit.score > 1 for hit in both] == [True] * len(same) + [False] * (5 - len(same))
    assert both[0].score == pytest.approx(1 + eyes[0].score, abs=1e-6)
    with pytest.raises(ConfigError, match="has no points of its own"):
        index.save_map(photos / "map.html", space="retrieval")


def test_a_big_gallery_asks_for_more_before_it_calls_an_eye_the_same(index: ImageIndex) -> None:
    basis = index.state.basis
    assert basis is not None
    small, big, huge = (same_eye_from(basis, count, turned=True) for count in (10, 10_000, 10_000_000))
    assert basis.threshold(1e-4, turned=True) == pytest.approx(small)
    assert small < big < huge < 1


def test_an_angiogram_finds_its_photo(index: ImageIndex, photos: Path) -> None:
    from PIL import Image

    dyed = angiogram(Image.open(photos / "b1.png").convert("RGB"))
    hits = index.search(dyed, 6, space="signature")
    assert Path(hits[0].path).name[0] == "b"
    assert len(hits) == 6 and len({hit.path for hit in hits}) == 6
    assert [hit.score for hit in hits] == sorted((hit.score for hit in hits), reverse=True)


def test_rows_of_ones_own_are_searched(index: ImageIndex) -> None:
    assert index.signatures is not None
    hits = index.search(index.signatures[0], 1, space="signature", turned=False)
    assert hits[0].path == index.paths[0] and hits[0].score == pytest.approx(1, abs=1e-4)
    both = np.concatenate([index.embeddings, index.signatures], axis=1)
    found = index.search(both[:2], 1, space="retrieval", turned=False)
    assert [one[0].path for one in found] == index.paths[:2]
    with pytest.raises(ConfigError, match="beside each other"):
        index.search(np.zeros(7, np.float32), space="signature")


def test_recall_is_judged_in_each_space(index: ImageIndex) -> None:
    eyes = [Path(path).name[0] for path in index.paths]
    assert index.evaluate(eyes, (1,), repeats=10, space="retrieval").gallery == 6
    with pytest.raises(ConfigError, match="space is"):
        index.evaluate(eyes, space="vessels")


def test_signatures_stay_through_changes_and_go_on_request(model: Path, photos: Path, tmp_path: Path) -> None:
    store = tmp_path / "store"
    index = retina_fm.index(photos, str(model), store=store)
    before = dict(zip(index.paths, index.signatures, strict=True))
    index.remove(index.paths[0])
    index.compact()
    again = ImageIndex.open(store)
    assert len(again) == 5 and again.verify() == []
    for path, row in zip(again.paths, again.signatures, strict=True):
        assert np.array_equal(row, before[path])
    saved = again.save(tmp_path / "other")
    assert np.array_equal(saved.signatures, again.signatures)
    plain = saved.to_parquet(tmp_path / "plain.parquet")
    assert "signature" not in pq.read_table(plain).column_names
    signed = saved.to_parquet(tmp_path / "signed.parquet", signatures=True)
    assert np.allclose(np.array(pq.read_table(signed).column("signature").to_pylist()), saved.signatures)
    files = {file.name for file in store.glob("vectors-*")}
    again.forget_signatures()
    left = {file.name for file in store.glob("vectors-*")}
    assert len(files) == 2 and len(left) == 1 and left < files
    opened = ImageIndex.open(store)
    assert opened.signatures is None and opened.manifest.signature is None and opened.verify() == []
    assert np.array_equal(opened.embeddings, again.embeddings)
    with pytest.raises(IndexMismatchError, match="no signatures"):
        opened.search(photos / "a1.png", space="retrieval")


def test_an_index_can_be_made_without(model: Path, photos: Path, tmp_path: Path) -> None:
    index = retina_fm.index(photos, str(model), store=tmp_path / "store", signature=False)
    assert index.signatures is None and len(list((tmp_path / "store").glob("vectors-*"))) == 1
    with pytest.raises(IndexMismatchError, match="holds no signatures"):
        retina_fm.index(photos, str(model), store=tmp_path / "store", signature=True)
    with pytest.raises(ConfigError, match="reads them"):
        retina_fm.index(np.ones((2, 3), np.float32), signature=True)


def test_a_damaged_signature_is_told_and_its_row_encoded_again(
    model: Path, photos: Path, tmp_path: Path
) -> None:
    store = tmp_path / "store"
    retina_fm.index(photos, str(model), store=store)
    data = bytearray((store / "vectors-1.f32").read_bytes())
    data[5] ^= 1
    (store / "vectors-1.f32").write_bytes(data)
    assert any("vectors-1.f32" in fault for fault in ImageIndex.open(store).verify())
    report = retina_fm.indexes.rebuild(store)
    assert report.rows == 5 and report.lost == 1
    index = retina_fm.index(photos, str(model), store=store)
    assert index.report.encoded == 1 and len(index) == 6 and index.verify() == []
    assert index.signatures is not None and index.signatures.any(axis=1).all()


def test_signatures_go_into_csv_and_npz_too(model: Path, photos: Path, tmp_path: Path) -> None:
    encoder = retina_fm.load(str(model))
    wanted = encoder.signature(photos)
    for name in ("s.csv", "s.npz"):
        retina_fm.encode_to(photos, tmp_path / name, encoder, workers=0, signature=True)
    rows = list(csv.DictReader((tmp_path / "s.csv").read_text().splitlines()))
    found = np.array([[float(row[f"signature_{at}"]) for at in range(wanted.shape[1])] for row in rows])
    assert np.allclose(found, wanted, atol=1e-6)
    arrays = read_npz(tmp_path / "s.npz")
    assert np.allclose(arrays["signature"], wanted, atol=1e-6)
    assert str(arrays["signature_basis"]) == encoder.signature_basis.hash
