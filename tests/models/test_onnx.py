from __future__ import annotations

import json
import warnings
from pathlib import Path

import pytest
import torch

import retina_fm
from conftest import saved_generator
from retina_fm.cli.main import main
from retina_fm.errors import MissingDependencyError, OutputError
from retina_fm.models import onnx_export
from retina_fm.network.quantiles import masked_quantiles


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> retina_fm.Encoder:
    folder = saved_generator(tmp_path_factory.mktemp("onnx") / "decoding", vessels=True, skips=True)
    loaded = retina_fm.load(str(folder))
    torch.manual_seed(0)
    loaded.pooling.projection.normal_()
    return loaded


@pytest.mark.slow
def test_torch_export_leaves_batch_height_and_width_free(encoder: retina_fm.Encoder) -> None:
    view = onnx_export.example_view(64)
    height, width = (16 * torch.export.Dim(name, min=2, max=64) for name in ("h", "w"))
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        shapes = ({0: torch.export.Dim("n", max=64), 2: height, 3: width},)
        graph = torch.export.export(encoder, (view,), dynamic_shapes=shapes).module()
        for size in ((1, 3, 48, 80), (3, 3, 96, 64)):
            other = torch.rand(size) * 1.8 - 0.9
            other[..., :11] = -1
            found, expected = graph(other), encoder(other)
            assert torch.allclose(found.pooled, expected.pooled, atol=1e-3)
            assert torch.allclose(found.maps[-1], expected.maps[-1], atol=1e-4)
            assert torch.allclose(found.lesions, expected.lesions, atol=1e-5)


def test_the_callers_model_stays_where_and_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def export(module: torch.nn.Module, *_: object, **__: object) -> None:
        assert next(module.parameters()).dtype == torch.float32 and not module.training
        raise OutputError("far enough")

    monkeypatch.setattr(onnx_export, "_onnx", lambda: None)
    monkeypatch.setattr(torch.onnx, "export", export)
    encoder = retina_fm.load("fundus2video-tiny", dtype=torch.bfloat16).train()
    with pytest.raises(OutputError, match="far enough"):
        onnx_export.export_onnx(encoder, tmp_path / "x.onnx")
    assert {one.dtype for one in encoder.parameters()} == {torch.bfloat16} and encoder.training


def test_graphs_take_the_same_median_as_eager_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    values = torch.randn(3, 5, 37)
    inside = torch.rand(3, 37) > 0.4
    levels = (0.02, 0.1, 0.5, 0.9, 0.98)
    eager = [masked_quantiles(values[..., :count], inside[:, :count], levels) for count in (36, 37)]
    monkeypatch.setattr("retina_fm.network.quantiles.exporting", lambda: True)
    for count, expected in zip((36, 37), eager, strict=True):
        assert torch.equal(masked_quantiles(values[..., :count], inside[:, :count], levels), expected)


@pytest.mark.slow
def test_onnx_runtime_gives_every_output_at_any_size(encoder: retina_fm.Encoder, tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    report = onnx_export.export_onnx(encoder, tmp_path / "deep" / "x.onnx")
    assert report.outputs == ("embedding", "map0", "map1", "map2", "map3", "map4", "lesions", "vessels")
    assert report.difference < 1e-3 and [p.name for p in (tmp_path / "deep").iterdir()] == ["x.onnx"]
    session = onnx_export.open_session(report.path)
    for size in ((1, 3, 48, 80), (3, 3, 96, 64)):
        view = torch.rand(size) * 1.8 - 0.9
        view[..., :11] = -1
        with torch.inference_mode():
            pooled, maps, lesions = encoder(view)
            expected = [pooled, *maps, lesions, encoder.vessels(maps)]
        for one, other in zip(session.run(None, {"view": view.numpy()}), expected, strict=True):
            assert torch.allclose(torch.from_numpy(one), other, atol=1e-3 * float(other.abs().max()))
    kept = {entry.key: entry.value for entry in onnx.load(report.path).metadata_props}
    assert kept["weights_sha256"] == encoder.weights_sha256 and json.loads(kept["transform"])["size"] == 64


@pytest.mark.slow
def test_the_command_writes_a_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime")
    out = tmp_path / "tiny.onnx"
    assert main(["export-onnx", "fundus2video-tiny", "--out", str(out), "--embedding-only", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["outputs"] == ["embedding"] and out.stat().st_size == report["size"]


def test_a_difference_leaves_no_file(
    encoder: retina_fm.Encoder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("onnx")

    class Program:
        model_proto = pytest.importorskip("onnx").ModelProto()

    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: Program())
    monkeypatch.setattr(onnx_export, "compare", lambda *_: 0.5)
    with pytest.raises(OutputError, match="differs"):
        onnx_export.export_onnx(encoder, tmp_path / "x.onnx")
    assert list(tmp_path.iterdir()) == []


def test_the_missing_extra_is_named(encoder: retina_fm.Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx", None)
    with pytest.raises(MissingDependencyError, match=r"\[onnx\]"):
        onnx_export.export_onnx(encoder, "x.onnx")
