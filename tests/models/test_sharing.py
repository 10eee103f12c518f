from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub
import pytest
import torch
import torch.nn.functional as F

import retina_fm
from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, OutputError, WeightsError
from retina_fm.models import BackboneEncoder, ModelCard, WeightsConfig, load_generator, push
from retina_fm.models.peers import PEERS
from retina_fm.models.sharing import card_text, identifier
from retina_fm.pictures import Transform


def fine_tuned(encoder: Any) -> Any:
    """One step of training, classifier and all."""
    torch.manual_seed(0)
    encoder.reset_classifier(3)
    encoder.train()
    optimiser = torch.optim.SGD(encoder.parameters(), lr=0.01)
    size = encoder.transform.size
    logits = encoder.forward_head(encoder.forward_features(torch.randn(4, 3, size, size).clamp(-1, 1)))
    F.cross_entropy(logits, torch.tensor([0, 1, 2, 0])).backward()
    optimiser.step()
    return encoder.eval()


def backbone() -> BackboneEncoder:
    torch.manual_seed(0)
    network = {"backbone": "test_resnet", "arguments": {}}
    config = WeightsConfig(
        name="small",
        kind="timm",
        transform=Transform(size=64),
        card=ModelCard(licence="MIT", training_data="noise"),
        network=network,
    )
    return BackboneEncoder(import_vision("timm").create_model("test_resnet", num_classes=0), config).eval()


@pytest.mark.parametrize("kind", ["fundus2video", "timm"])
def test_a_fine_tuned_encoder_comes_back_as_it_was(kind: str, tmp_path: Path) -> None:
    before = retina_fm.load("fundus2video-tiny") if kind == "fundus2video" else backbone()
    tuned = fine_tuned(before)
    written = tuned.save_pretrained(tmp_path / "mine", training_data="four squares of noise")
    again = retina_fm.load(str(tmp_path / "mine"))
    assert again.name == "mine" and again.weights_sha256 == written.sha256 != before.weights_sha256
    assert again.transform == tuned.transform and again.num_classes == 3
    assert again.card.training_data.endswith("; then four squares of noise")
    size = tuned.transform.size
    view = torch.randn(2, 3, size, size).clamp(-1, 1)
    with torch.inference_mode():
        assert torch.equal(again.embed(view), tuned.embed(view))
        logits = tuned.forward_head(tuned.forward_features(view))
        assert torch.equal(again.forward_head(again.forward_features(view)), logits)
    with pytest.raises(WeightsError, match="SHA-256"):
        file = next((tmp_path / "mine").glob("*.safetensors"))
        file.write_bytes(file.read_bytes()[:-1] + b"x")
        retina_fm.load(str(tmp_path / "mine"))


def test_an_encoder_alone_has_no_generator(tmp_path: Path) -> None:
    retina_fm.load("fundus2video-tiny").save_pretrained(tmp_path / "mine")
    with pytest.raises(ConfigError, match="generator"):
        load_generator(str(tmp_path / "mine"))


def test_a_restricted_licence_stays(tmp_path: Path) -> None:
    encoder = backbone()
    encoder.card = encoder.card.model_copy(update={"licence": "CC-BY-NC-4.0"})
    with pytest.raises(ConfigError, match="cannot be MIT"):
        encoder.save_pretrained(tmp_path / "free", licence="MIT")
    assert encoder.save_pretrained(tmp_path / "same").card.licence == "CC-BY-NC-4.0"


HUB_LICENCES = {
    *("apache-2.0", "mit", "bsd-3-clause", "cc-by-4.0", "cc-by-nc-4.0", "cc-by-nc-sa-4.0", "cc-by-sa-4.0"),
    *("cc0-1.0", "other"),
}
"""Of the hub's identifiers, those that are used here."""


def assert_valid(text: str) -> dict[str, Any]:
    """What the hub's validation asks of a card's YAML; asking the hub itself takes the network."""
    data: dict[str, Any] = huggingface_hub.ModelCard(text).data.to_dict()
    assert data["license"] in HUB_LICENCES
    assert ("license_name" in data) == (data["license"] == "other")
    assert re.fullmatch(r"[a-z0-9-.]+", data.get("license_name", "none"))
    assert data["library_name"] == "retina-fm" and all(isinstance(tag, str) for tag in data["tags"])
    assert data["pipeline_tag"] in {"image-feature-extraction", "image-classification", "image-segmentation"}
    return data


@pytest.mark.parametrize("name", sorted(PEERS))
def test_every_card_is_valid(name: str) -> None:
    peer = PEERS[name]
    config = WeightsConfig(
        name=name,
        kind="timm",
        transform=peer.transform,
        card=peer.card,
        network={"backbone": peer.backbone},
    )
    assert_valid(card_text(config))
    assert (
        peer.card.training_data in card_text(config) and "not a medical device" in card_text(config).lower()
    )


def test_a_saved_folder_has_a_valid_card(tmp_path: Path) -> None:
    retina_fm.load("fundus2video-tiny").save_pretrained(tmp_path / "mine")
    text = (tmp_path / "mine" / "README.md").read_text()
    assert assert_valid(text)["license"] == "apache-2.0" and text.count("# mine") == 1
    assert identifier("non-commercial: see the repository") == "non-commercial-see-the-repository"


def test_a_folder_is_pushed_whole_and_loaded_at_its_revision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "mine"
    encoder = retina_fm.load("fundus2video-tiny")
    encoder.save_pretrained(folder)
    (folder / "README.md").unlink()
    (folder / "patients.csv").write_text("nobody else's business")
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
    assert push(folder, "clinic/mine", token="t") == "abc123"
    assert calls["repo"] == ("clinic/mine", {"private": True, "exist_ok": True})
    sent = calls["upload"]["allow_patterns"]
    assert "patients.csv" not in sent and {"config.json", "README.md"} < set(sent)
    assert_valid((folder / "README.md").read_text())

    def snapshot(repository: str, **settings: Any) -> str:
        calls["pull"] = (repository, settings["revision"])
        return str(folder)

    monkeypatch.setattr(huggingface_hub, "snapshot_download", snapshot)
    again = retina_fm.load("hf-hub:clinic/mine", revision="abc123")
    assert calls["pull"] == ("clinic/mine", "abc123")
    view = torch.randn(1, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        assert torch.equal(again.embed(view), encoder.embed(view))


def test_a_hub_that_refuses_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    retina_fm.load("fundus2video-tiny").save_pretrained(tmp_path / "mine")

    def refuse(*_: Any, **__: Any) -> None:
        raise ConnectionError("no route")

    monkeypatch.setattr(huggingface_hub.HfApi, "create_repo", refuse)
    with pytest.raises(OutputError, match="no route"):
        push(tmp_path / "mine", "clinic/mine")
    with pytest.raises(ConfigError):
        push(tmp_path / "nothing", "clinic/mine")
