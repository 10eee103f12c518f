from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import numpy as np
import pytest

import retina_fm
from retina_fm import adapters
from retina_fm.errors import OutputError


def test_an_adapter_is_pushed_with_a_card_and_pulled_at_a_revision(
    eyes: tuple[list[np.ndarray], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, kinds = eyes
    fitted = retina_fm.adapt("classification", model="fundus2video-tiny", head="linear").fit(photos, kinds)
    folder = fitted.save(tmp_path / "adapter")
    calls: dict[str, Any] = {}

    class Client:
        def __init__(self, token: str | None = None) -> None:
            calls["token"] = token

        def create_repo(self, repository: str, **settings: Any) -> None:
            calls["repo"] = (repository, settings)

        def upload_folder(self, **settings: Any) -> SimpleNamespace:
            calls["upload"] = settings
            return SimpleNamespace(oid="abc123")

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    assert adapters.push(folder, "clinic/vessels") == "abc123"
    assert calls["repo"] == ("clinic/vessels", {"private": True, "exist_ok": True})
    assert calls["upload"]["allow_patterns"] == ["adapter.json", "adapter.safetensors", "README.md"]
    card = (folder / "README.md").read_text()
    assert "license: apache-2.0" in card
    assert "fundus2video-tiny" in card
    assert "Not a medical device" in card
    assert f"Learnt from {len(photos)} photos, whose names are in `adapter.json`" in card

    def snapshot(repository: str, **settings: Any) -> str:
        calls["pull"] = (repository, settings["revision"])
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    pulled = adapters.pull("clinic/vessels", revision="abc123")
    assert calls["pull"] == ("clinic/vessels", "abc123")
    np.testing.assert_array_equal(pulled.predict_proba(photos), fitted.predict_proba(photos))


def test_a_hub_that_refuses_is_reported(
    eyes: tuple[list[np.ndarray], np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class TransportError(Exception):
        """Not even an OSError, as in clients over httpx."""

    class Client:
        def __init__(self, token: str | None = None) -> None: ...

        def create_repo(self, *_: Any, **__: Any) -> None:
            raise TransportError("offline")

    monkeypatch.setattr(huggingface_hub, "HfApi", Client)
    fitted = retina_fm.adapt("classification", model="fundus2video-tiny", head="linear").fit(*eyes)
    folder = fitted.save(tmp_path / "adapter")
    with pytest.raises(OutputError, match=r"clinic/x: the hub refused \(offline\)"):
        adapters.push(folder, "clinic/x")
