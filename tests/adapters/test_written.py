"""Adapters that an earlier release wrote: they open, and say the same of the same photos."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save as serialise

from retina_fm import adapters
from retina_fm._io.strict_json import read_json
from retina_fm.errors import ConfigError

WRITTEN = Path(__file__).parent / "written"
SAID: dict[str, Any] = json.loads((WRITTEN / "said.json").read_text())


@pytest.fixture
def photos(eyes: tuple[list[np.ndarray], np.ndarray]) -> list[np.ndarray]:
    return eyes[0][18:]


@pytest.mark.parametrize("name", ["mlp", "several"])
def test_a_classifier_says_what_it_said(name: str, photos: list[np.ndarray]) -> None:
    found = adapters.load(WRITTEN / name)
    np.testing.assert_allclose(found.predict_proba(photos), SAID[name], atol=2e-3)
    assert list(found.classes_) == (["plain", "tinted"] if name == "mlp" else ["fourth", "tint"])


def test_a_regressor_says_what_it_said(photos: list[np.ndarray]) -> None:
    found = adapters.load(WRITTEN / "regressor").predict(photos)
    np.testing.assert_allclose(found, SAID["regressor"], rtol=1e-3)


def test_a_segmenter_says_what_it_said(photos: list[np.ndarray], tmp_path: Path) -> None:
    found = adapters.load(_with_drawn_tensors(tmp_path / "segmenter"))
    probability = found.predict_proba(photos[:1])[0][30:70:13, 20:80:17]
    np.testing.assert_allclose(probability, SAID["segmenter"][0], atol=2e-3)
    assert list(found.classes_) == [0, 255]
    assert found.threshold_ == pytest.approx(0.275)
    assert found.history_[-1]["step"] == 2


@pytest.mark.parametrize("name", ["mlp", "several", "regressor"])
def test_saved_again_the_folder_is_the_same(name: str, tmp_path: Path) -> None:
    again = adapters.load(WRITTEN / name).save(tmp_path / name)
    said, tensors = "adapter.json", "adapter.safetensors"
    assert read_json(again / said) == read_json(WRITTEN / name / said)  # which had no checksum yet
    assert (again / tensors).read_bytes() == (WRITTEN / name / tensors).read_bytes()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"colour": 3}, r"adapter\.json: The configuration has unknown fields \['colour'\]"),
        ({"drawn": ["three"]}, r"drawn\.0 is 'three'; it must be a whole number"),
        ({"task": "classfication"}, "task is 'classfication'; it must be"),
        ({"licence": None}, "licence is None; it must be a word"),
        ({"encoders": [{"name": "x"}]}, r"encoders\.0 lacks 'weights_sha256'"),
        ({"settings": {"colour": 3}}, "classification has no setting 'colour'"),
    ],
)
def test_a_manifest_with_what_does_not_belong_is_refused(
    change: dict[str, Any], message: str, tmp_path: Path
) -> None:
    folder = shutil.copytree(WRITTEN / "mlp", tmp_path / "mlp")
    manifest = read_json(folder / "adapter.json")
    (folder / "adapter.json").write_text(json.dumps({**manifest, **change}))
    with pytest.raises(ConfigError, match=message):
        adapters.load(folder)


def _with_drawn_tensors(folder: Path) -> Path:
    """The adapter with drawn numbers under the names and in the shapes that were written."""
    shutil.copytree(WRITTEN / "segmenter", folder)
    random = np.random.Generator(np.random.PCG64(5))
    tensors = {}
    for name, (shape, dtype) in json.loads((folder / "tensors.json").read_text()).items():
        values = np.asarray(random.normal(0, 1, shape) / np.sqrt(np.prod(shape[1:])))
        values = np.abs(values) + 0.5 if "running_var" in name else values
        tensors[name] = torch.from_numpy(values).to(getattr(torch, dtype))
    data = serialise(tensors)
    (folder / "adapter.safetensors").write_bytes(data)
    manifest = read_json(folder / "adapter.json")
    manifest["files"] = {"adapter.safetensors": hashlib.sha256(data).hexdigest()}
    (folder / "adapter.json").write_text(json.dumps(manifest))
    return folder
