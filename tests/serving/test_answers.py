"""What the server says is what the library says."""

from __future__ import annotations

import io
import json
import logging
import re
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from PIL import Image
from served import Reply, Served, serving

import retina_fm
from conftest import disc_picture
from retina_fm.measuring import COLUMNS
from retina_fm.serving.engine import PREDICT, Engine
from retina_fm.serving.page import page, policy
from retina_fm.serving.reading import thumbnail_within
from tests.pictures.camera_files import e2e
from tests.pictures.drawn import dataset, dicom_bytes


def test_an_embedding_is_that_of_encode(served: Served, engine: Engine, photo: bytes) -> None:
    told = served.post("/v1/encode", photo).json
    assert (told["width"], told["height"], told["model"]) == (96, 96, "tiny-anatomy")
    wanted = retina_fm.encode(photo, engine.encoder)
    assert np.abs(np.array(told["embedding"], np.float32) - wanted).max() < 1e-5
    assert served.get("/v1/about").json["dimension"] == len(wanted)


def test_measurements_are_those_of_measure(served: Served, engine: Engine, photo: bytes) -> None:
    told = served.post("/v1/measure?eye=left", photo).json
    table = retina_fm.measure({"bytes": photo, "eye": "left"}, engine.encoder, progress=False).to_pylist()[0]
    assert told["reasons"] == table["reasons"] and told["values"]["eye"] == "left"
    assert told["values"]["eye_source"] == "column" and set(told["values"]) >= set(COLUMNS)
    for name, value in told["values"].items():
        assert value == pytest.approx(table[name], abs=1e-4), name


def test_a_dicom_file_says_which_eye_and_not_whose(served: Served) -> None:
    made = dataset(disc_picture(1), "RGB")
    made.ImageLaterality, made.PatientID, made.PatientName, made.StudyDate = (
        "L",
        "0042",
        "Doe^Jane",
        "20200304",
    )
    for path in ("/v1/measure", "/v1/report?k=1", "/v1/encode"):
        reply = served.post(path, dicom_bytes(made))
        assert reply.status == 200
        assert not any(word in reply.body for word in (b"0042", b"Doe", b"2020-03-04"))
        if path == "/v1/measure":
            values = reply.json["values"]
            assert (values["eye"], values["eye_source"], values["patient_id"]) == ("left", "dicom", None)


def test_a_search_finds_the_picture_itself_and_others_by_filter(served: Served, photo: bytes) -> None:
    hits = served.post("/v1/search?k=3", photo).json["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2, 3]
    assert hits[0]["path"] == "../photos/eye0.png" and hits[0]["score"] > 0.999
    right = served.post("/v1/search?where=eye%3Dright", photo).json["hits"]
    assert len(right) == 3 and {hit["metadata"]["eye"] for hit in right} == {"right"}
    signed = served.post("/v1/search?space=signature&k=1", photo).json["hits"][0]
    assert signed["row"] == hits[0]["row"] and signed["false_accept"] is not None


def test_pictures_are_those_of_rows_and_of_nothing_else(served: Served, clinic: Path, photo: bytes) -> None:
    row = served.post("/v1/search?k=1", photo).json["hits"][0]["row"]
    reply = served.get(f"/v1/pictures/{row}")
    assert reply.headers["content-type"] == "image/jpeg"
    shown, whole = Image.open(io.BytesIO(reply.body)), Image.open(io.BytesIO(photo))
    assert shown.size == (96, 96)
    assert np.abs(np.asarray(shown, int) - np.asarray(whole, int)).mean() < 6
    for path in ("/v1/pictures/6", "/v1/pictures/9007199254740991"):
        assert served.get(path).status == 404
    for path in ("-1", "9007199254740992", "eye0.png", "..%2Fphotos%2Feye0.png", "../photos/eye0.png"):
        assert served.get(f"/v1/pictures/{path}").status in (404, 422), path
    hidden = clinic / "photos" / "eye5.png"
    hidden.rename(hidden.with_suffix(".away"))
    try:
        reply = served.get("/v1/pictures/5")
        assert reply.status == 404 and "eye5" not in reply.body.decode()
    finally:
        hidden.with_suffix(".away").rename(hidden)


def test_a_mask_has_the_photos_own_pixels(served: Served, engine: Engine) -> None:
    buffer = io.BytesIO()
    Image.fromarray(disc_picture(3, 120)[:90]).save(buffer, "PNG")
    reply = served.post("/v1/segment", buffer.getvalue())
    assert reply.status == 200, reply.json
    mask = np.asarray(Image.open(io.BytesIO(reply.body)))
    assert mask.shape == (90, 120) and set(np.unique(mask)) <= {0, 255}
    reply = served.post("/v1/segment?target=disc&probability=true", buffer.getvalue())
    shares = np.asarray(Image.open(io.BytesIO(reply.body)))
    assert shares.shape == (90, 120) and 0 < shares.max() < 255
    refused = served.post("/v1/segment?target=veins", buffer.getvalue())
    assert refused.status == 422 and "not to be relied on" in refused.json["message"]
    assert served.post("/v1/segment?target=nothing", buffer.getvalue()).status == 422


def test_a_prediction_is_the_adapters(served: Served, clinic: Path, photo: bytes) -> None:
    told = served.post("/v1/predict", photo).json
    adapter = retina_fm.adapters.load(clinic / "adapter")
    wanted = adapter.predict_proba([photo])[0]
    assert told["label"] == adapter.predict([photo])[0] and told["task"] == "classification"
    assert list(told["probabilities"]) == ["healthy", "ill"]
    assert list(told["probabilities"].values()) == pytest.approx(wanted.tolist(), abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["regression", "segmentation"])
def test_adapters_of_other_tasks_answer_too(
    task: Literal["regression", "segmentation"], clinic: Path, photo: bytes, tmp_path: Path
) -> None:
    photos = [clinic / "photos" / f"eye{number}.png" for number in range(4)]
    model = str(clinic / "tiny-anatomy")
    if task == "regression":
        adapter: Any = retina_fm.adapt("regression", model=model, head="linear", progress=False)
        adapter.fit(photos, [1.0, 2.0, 3.0, 4.0]).save(tmp_path / "adapter")
    else:
        adapter = retina_fm.adapt("segmentation", model=model, steps=1, progress=False)
        mask = np.zeros((96, 96), np.uint8)
        mask[40:60, 40:60] = 255
        adapter.fit(photos[:1], [mask]).save(tmp_path / "adapter")
    engine = Engine(model, adapter=tmp_path / "adapter", dtype="float32")
    found = engine.run(PREDICT, [photo, photo])
    assert len(found) == 2
    np.testing.assert_allclose(found[0], adapter.predict([photo])[0], atol=1e-4)
    answer = served_once(engine, photo)
    if task == "regression":
        assert answer.json["values"] == pytest.approx([float(found[0])], abs=1e-4)
    else:
        assert np.asarray(Image.open(io.BytesIO(answer.body))).shape == (96, 96)


def served_once(engine: Engine, photo: bytes) -> Reply:
    with serving(engine) as served:
        return served.post("/v1/predict", photo)


def test_a_report_has_everything_inside(served: Served, photo: bytes) -> None:
    told = served.post("/v1/report?k=2", photo).json
    assert told["photo"].startswith("data:image/jpeg") and told["overlay"].startswith("data:image/png")
    assert len(told["hits"]) == 2 and told["measurements"]["values"]["quality"] >= 0


def test_a_model_without_maps_has_no_paths_that_need_them(clinic: Path) -> None:
    from retina_fm.serving.application import create_app

    paths = create_app(Engine("fundus2video-tiny", dtype="float32")).openapi()["paths"]
    assert {"/v1/encode", "/v1/report", "/v1/about"} <= set(paths)
    assert not {"/v1/measure", "/v1/segment", "/v1/search", "/v1/predict"} & set(paths)


def test_figures_count_requests_and_batches(served: Served, photo: bytes) -> None:
    served.post("/v1/encode", photo)
    text = served.get("/metrics").body.decode()
    assert re.search(r'retina_fm_requests_total\{route="/v1/encode",status="200"\} [1-9]', text)
    assert re.search(r'retina_fm_batch_photos_count\{kind="embed"\} [1-9]', text)
    assert "retina_fm_ready 1.0" in text and "retina_fm_in_flight 0.0" in text


def test_nothing_that_a_client_wrote_is_logged(
    served: Served, photo: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.DEBUG):
        served.post("/v1/search?where=eye%3Dsecretly", photo)
        served.get("/secretly", Authorization="Bearer secretly")
        served.post("/v1/encode", b"secretly")
    assert "POST /v1/search 200" in caplog.text and "secretly" not in caplog.text


def test_the_page_connects_to_its_server_alone(served: Served) -> None:
    reply = served.get("/")
    html, allowed = reply.body.decode(), reply.headers["content-security-policy"]
    assert allowed == policy(html) and "default-src 'none'" in allowed and "unsafe" not in allowed
    assert len(re.findall("sha256-", allowed)) == 2
    assert not re.search(r"""(?:src|href)=["']?(?:https?:)?//|style=|\son\w+=""", html)
    assert 'id="token"' not in html and 'id="token"' in page("m", True)
    assert "<b>" in page("<b>x", False) and "<b>x" not in page("<b>x", False)  # names are text


def test_openapi_describes_each_path_and_its_refusals(served: Served) -> None:
    told = served.get("/openapi.json").json
    for path in ("/v1/encode", "/v1/search", "/v1/segment", "/v1/measure", "/v1/predict", "/v1/report"):
        about = told["paths"][path]["post"]
        assert {"200", "401", "408", "413", "422", "503"} <= set(about["responses"]), path
        assert "application/octet-stream" in about["requestBody"]["content"] and about["security"]
    parameters = told["paths"]["/v1/segment"]["post"]["parameters"]
    assert "vessels" in parameters[0]["schema"]["enum"]
    assert "HTTPValidationError" not in json.dumps(told["paths"])


def test_a_frame_of_a_file_is_a_picture_of_the_index(tmp_path: Path) -> None:
    grey = disc_picture(3, 60)[:40, :, 1].copy()
    (tmp_path / "c.e2e").write_bytes(e2e([(grey, "R"), (grey.T.copy(), "L")]))
    small = thumbnail_within(f"{tmp_path}/c.e2e#frame=1", 30, 10_000)
    assert Image.open(io.BytesIO(small)).size == (20, 30)
