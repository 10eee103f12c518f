from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pytest
from PIL import Image
from sklearn.base import clone
from sklearn.exceptions import NotFittedError
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import make_pipeline
from sklearn.utils import estimator_html_repr

import retina_fm
from conftest import disc_picture
from retina_fm.adapters.extraction import Compute, embeddings_of, photo_key
from retina_fm.errors import ConfigError, PictureError

TINY = {"model": "fundus2video-tiny", "workers": 0, "device": "cpu", "dtype": "float32"}


def embedder(**settings: Any) -> retina_fm.Embedder:
    return retina_fm.Embedder(**{**TINY, **settings})


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    names = []
    for number in range(12):
        picture = disc_picture(number)
        if number % 2:
            picture[..., 0] //= 3
        Image.fromarray(picture).save(tmp_path / f"{number}.png")
        names.append(str(tmp_path / f"{number}.png"))
    return names


def test_it_gives_what_encode_gives(photos: list[str]) -> None:
    fitted = embedder().fit(photos)
    expected = retina_fm.encode(photos, "fundus2video-tiny", workers=0, dtype="float32", device="cpu")
    assert np.array_equal(fitted.transform(photos), expected)
    assert np.array_equal(embedder().fit_transform(photos), expected)
    assert fitted.transform(photos[3]).shape == (1, 64)
    assert fitted.transform(np.stack([disc_picture(1), disc_picture(2)])).shape == (2, 64)


def test_nothing_is_given_before_fit(photos: list[str]) -> None:
    for call in (lambda: embedder().transform(photos), lambda: embedder().get_feature_names_out()):
        with pytest.raises(NotFittedError):
            call()


def test_clones_pickles_and_joblib_files_give_the_same(photos: list[str], tmp_path: Path) -> None:
    fitted = embedder().fit(photos)
    expected = fitted.transform(photos[:2])
    assert clone(fitted).get_params() == fitted.get_params()
    data = pickle.dumps(fitted)
    assert len(data) < 5000, "a name is pickled, not its weights"
    joblib.dump(fitted, tmp_path / "embedder.joblib")
    for again in (pickle.loads(data), joblib.load(tmp_path / "embedder.joblib")):
        assert np.array_equal(again.transform(photos[:2]), expected)
    assert "Embedder" in estimator_html_repr(fitted)


def test_a_pipeline_is_searched_and_scored(photos: list[str], tmp_path: Path) -> None:
    labels = np.arange(12) % 2
    pipeline = make_pipeline(embedder(cache=tmp_path / "cache"), LogisticRegression(max_iter=2000))
    assert pipeline.fit(photos, labels).score(photos, labels) == 1.0
    assert cross_val_score(pipeline, photos, labels, cv=3).mean() > 0.6
    search = GridSearchCV(pipeline, {"logisticregression__C": [0.1, 1.0]}, cv=2).fit(photos, labels)
    assert search.predict(photos[:3]).shape == (3,)
    assert list(pipeline[:-1].get_feature_names_out())[:2] == ["embedder0", "embedder1"]


def test_columns_have_names_where_frames_are_asked_for(photos: list[str]) -> None:
    pandas = pytest.importorskip("pandas")
    found = embedder().set_output(transform="pandas").fit_transform(photos[:2])
    assert isinstance(found, pandas.DataFrame) and list(found.columns)[-1] == "embedder63"


def test_each_photo_is_embedded_once(photos: list[str], tmp_path: Path, monkeypatch: Any) -> None:
    cached = embedder(cache=tmp_path / "cache").fit(photos)
    first = cached.transform(photos)
    seen: list[int] = []
    module = "retina_fm.encoding.photo_embedder.encode"
    monkeypatch.setattr(module, lambda given, *_, **__: seen.append(len(given)) or first[: len(given)])
    assert np.array_equal(cached.transform(photos), first) and seen == []
    files = sorted((tmp_path / "cache").rglob("*.npy"))
    assert len(files) == 12
    files[0].write_bytes(b"damaged")
    cached.transform(photos)
    assert seen == [1], "a damaged file is computed again"
    arrays = [disc_picture(number) for number in range(3)]
    cached.transform(arrays)
    cached.transform([Image.fromarray(one) for one in arrays])
    cached.transform(arrays)
    assert seen == [1, 3, 3]
    embedder(cache=tmp_path / "cache", dtype="bfloat16").fit().transform(photos[:2])
    assert seen[-1] == 2, "another number type has other embeddings"


def test_pictures_of_one_file_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "two.tif"
    first, second = (Image.fromarray(disc_picture(number)) for number in (1, 2))
    first.save(file, save_all=True, append_images=[second])
    asked: list[Any] = [{"path": str(file), "frame": 0}, {"path": str(file), "frame": 1}]
    asked += [{"bytes": file.read_bytes(), "frame": 1}, {**asked[0], "bounds": (128, 128, 60, 60, 30)}]
    expected = retina_fm.encode(asked, "fundus2video-tiny", workers=0, dtype="float32", device="cpu")
    assert not np.allclose(expected[0], expected[1]) and not np.allclose(expected[0], expected[3])
    cached = embedder(cache=tmp_path / "cache").fit(asked)
    for _ in range(2):
        assert np.allclose(cached.transform(asked), expected, atol=1e-5)
    assert len({photo_key(photo) for photo in asked}) == 4
    compute = Compute("cpu", "float32")
    for _ in range(2):
        assert np.allclose(embeddings_of(asked, ["fundus2video-tiny"], compute), expected, atol=1e-5)
    with pytest.raises(PictureError, match="centre x and radius are needed"):
        retina_fm.encode({**asked[0], "bounds": (60, 60, 30)}, "fundus2video-tiny")
    index = retina_fm.index([asked[3]], "fundus2video-tiny", store=tmp_path / "s", dtype="float32")
    assert np.allclose(index.embeddings[0], expected[3], atol=1e-5)


def test_other_weights_under_the_same_name_are_refused(photos: list[str]) -> None:
    fitted = embedder().fit()
    fitted.weights_sha256_ = "0" * 64
    with pytest.raises(ConfigError, match="Fit again"):
        fitted.transform(photos)


def test_a_photo_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(PictureError, match="broken"):
        embedder(cache=tmp_path / "cache").fit().transform([tmp_path / "broken.png"])


def test_a_loaded_encoder_goes_along(photos: list[str]) -> None:
    encoder = retina_fm.load("fundus2video-tiny")
    found = clone(retina_fm.Embedder(encoder, workers=0)).fit().transform(photos[:2])
    assert np.allclose(found, embedder().fit().transform(photos[:2]), atol=1e-6)
