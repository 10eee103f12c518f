from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conftest import disc_picture, saved_generator
from retina_fm import adapters
from retina_fm.adapters.examples.views import view_of
from retina_fm.adapters.extraction import encoder_of
from retina_fm.adapters.onnx_export import HeadGraph
from retina_fm.errors import ConfigError
from retina_fm.models.onnx_export import open_session
from retina_fm.vessels.line_maps import line_maps

CLASSIFIERS = [
    adapters.MLPClassifier(epochs=3),
    adapters.LinearClassifier(),
    adapters.NeighboursClassifier(),
    adapters.NearestMeanClassifier(class_weight="balanced"),
]
REGRESSORS = [adapters.MLPRegressor(epochs=3), adapters.LinearRegressor(), adapters.NeighboursRegressor()]


def named(estimator: Any) -> str:
    return type(estimator).__name__


@pytest.mark.parametrize("classes", [2, 3, "several"])
@pytest.mark.parametrize("head", CLASSIFIERS, ids=named)
def test_a_classifiers_graph_says_what_it_says(head: Any, classes: Any) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 7)).astype(np.float32)  # noqa: N806
    y = random.integers(0, 2, (60, 3)) if classes == "several" else np.arange(60) % classes
    head.fit(X, y)
    with torch.inference_mode():
        found = HeadGraph(head).eval()(torch.from_numpy(X))
    assert np.allclose(found.numpy(), head.predict_proba(X), atol=1e-4)


@pytest.mark.parametrize("targets", [1, 2])
@pytest.mark.parametrize("head", REGRESSORS, ids=named)
def test_a_regressors_graph_says_what_it_says(head: Any, targets: int) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(60, 7)).astype(np.float32)  # noqa: N806
    y = X[:, :targets] * 5 + 3
    head.fit(X, y[:, 0] if targets == 1 else y)
    with torch.inference_mode():
        found = HeadGraph(head).eval()(torch.from_numpy(X)).numpy()
    assert np.allclose(found, head.predict(X).reshape(60, targets), atol=1e-3)


def test_what_was_not_fitted_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="not fitted"):
        adapters.export_adapter(adapters.FundusClassifier(), tmp_path / "x.onnx")


@pytest.mark.slow
def test_a_fused_classifier_runs_without_torch(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    other = str(saved_generator(tmp_path / "other"))
    photos = [disc_picture(number) for number in range(12)]
    fitted = adapters.adapt(
        "classification", model="fundus2video-tiny", fuse_with=other, device="cpu", dtype="float32"
    ).fit(photos, np.arange(12) % 2)
    report = adapters.export_adapter(fitted, tmp_path / "grade.onnx")
    assert report.inputs == ("view0", "view1") and report.outputs == ("prediction", "embedding")
    session = open_session(report.path)
    views = {}
    for number, model in enumerate(fitted.models()):
        encoder = encoder_of(model, fitted._compute())
        rows = [encoder.transform.normalise(encoder.transform.view(photo)[0]) for photo in photos[:3]]
        views[f"view{number}"] = np.stack(rows)
    prediction, embedding = session.run(None, views)
    assert np.allclose(embedding, fitted.embed(photos[:3]), atol=1e-3)
    assert np.allclose(prediction, fitted.predict_proba(photos[:3]), atol=1e-3)
    kept = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    assert json.loads(kept["classes"]) == [0, 1] and len(json.loads(kept["transforms"])) == 2


@pytest.mark.slow
@pytest.mark.parametrize("vessels", [False, True])
def test_a_segmenter_runs_without_torch(tmp_path: Path, vessels: bool) -> None:
    pytest.importorskip("onnxruntime")
    model = str(saved_generator(tmp_path / "seeing", vessels=vessels))
    photos = [disc_picture(number) for number in range(2)]
    masks = [(photo[..., 1] > 120).astype(np.uint8) for photo in photos]
    fitted = adapters.adapt(
        "segmentation", model=model, steps=3, device="cpu", dtype="float32", validation=0.0
    ).fit(photos, masks)
    report = adapters.export_adapter(fitted, tmp_path / "vessels.onnx")
    assert report.inputs == ("view", "lines") and report.difference < 1e-3
    transform = fitted._source().encoder.transform
    pixels, geometry = transform.view(photos[0])
    lines = line_maps(torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255)
    given = {"view": transform.normalise(pixels)[None], "lines": lines.numpy()}
    (found,) = open_session(report.path).run(None, given)
    expected = fitted._in_view(view_of(photos[0], transform), fitted._source())
    inside = geometry.mask_in_view()
    assert np.allclose(found[0][:, inside], expected[:, inside], atol=1e-3)
