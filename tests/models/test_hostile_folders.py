"""Weights, adapters and indexes run no code, reach no network and take no memory for nothing."""

from __future__ import annotations

import json
import socket
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from conftest import disc_picture, saved_generator
from retina_fm import adapters
from retina_fm._io.files import sha256_of
from retina_fm._io.strict_json import read_json
from retina_fm.errors import ConfigError, OutputError, RetinaError, WeightsError, WeightsNotFoundError
from retina_fm.models import ModelCard, WeightsConfig, load, load_generator, save_folder
from retina_fm.models import folder as weights_folder
from retina_fm.models.backbones import create_backbone
from retina_fm.models.places import Remembered
from retina_fm.pictures import Transform


class AskedError(Exception):
    """Somebody looked up an address."""


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise AskedError

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)


def timm_folder(folder: Path, **network: Any) -> Path:
    config = WeightsConfig(
        name="theirs",
        kind="timm",
        transform=Transform(size=64),
        card=ModelCard(licence="MIT", training_data="none"),
        network={"backbone": "resnet10t", "arguments": {}, **network},
    )
    save_folder(folder, config, {"conv1.0.weight": torch.zeros(1)})
    return folder


@pytest.mark.parametrize(
    "arguments",
    [
        {"checkpoint_path": "evil.pth"},
        {"pretrained_cfg_overlay": {"file": "evil.pth"}},
        {"pretrained_cfg": {"url": "http://example.org"}},
        {"cache_dir": "/"},
        {"pretrained": True},
        {"scriptable": True},
        {"img_size": 10**9},
        {"global_pool": "../x"},
        {"num_classes": 10**12},
        ["img_size"],
    ],
)
def test_a_weights_folder_passes_no_keyword_to_timm_but_those_of_a_fixed_list(
    arguments: Any, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"network\.arguments"):
        load(str(timm_folder(tmp_path / "theirs", arguments=arguments)))


@pytest.mark.parametrize(
    "backbone",
    ["hf-hub:evil/model", "hf_hub:evil/model", "local-dir:/tmp", "timm/resnet18", "a/b", 3, None, ""],
)
def test_a_weights_folder_that_names_the_hub_makes_no_request(
    backbone: Any, tmp_path: Path, no_network: None
) -> None:
    with pytest.raises(ConfigError, match="plain name"):
        load(str(timm_folder(tmp_path / "theirs", backbone=backbone)))


@pytest.mark.parametrize("name", ["hf-hub:nobody/nothing-at-all", "timm/resnet10t"])
def test_a_name_that_a_file_said_is_never_fetched(name: str, no_network: None) -> None:
    with pytest.raises(WeightsNotFoundError, match="because a file says so"):
        load(Remembered(name))


def test_the_caller_may_name_the_hub(no_network: None) -> None:
    with pytest.raises((AskedError, WeightsNotFoundError)) as caught:
        load("hf-hub:nobody/nothing-at-all")
    assert "a file says so" not in str(caught.value)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    return saved_generator(tmp_path / "trained")


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors and state the new hash, as somebody would who knows the format."""
    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    said = {**read_json(folder / "config.json"), "files": {path.name: sha256_of(path)}}
    (folder / "config.json").write_text(json.dumps(said))


def change_network(folder: Path, **changes: Any) -> None:
    said = read_json(folder / "config.json")
    (folder / "config.json").write_text(json.dumps({**said, "network": {**said["network"], **changes}}))


CRAFTED = {
    "KEY:x for KEY": (lambda t: t.update({"model.4.bias:x": t.pop("model.4.bias")}), "missing"),
    "KEY:0² for KEY": (lambda t: t.update({"model.4.bias:²": t.pop("model.4.bias")}), "missing"),
    "a leading zero": (lambda t: t.update({"model.4.bias:00": t.pop("model.4.bias")}), "missing"),
    "parts that do not fit": (
        lambda t: t.update({"x:0": torch.ones(2, 2), "x:1": torch.ones(2)}),
        "do not fit together",
    ),
    "float8": (lambda t: t.update({"x": torch.ones(1).to(torch.float8_e4m3fn)}), "F8_E4M3"),
    "a great tensor more": (lambda t: t.update({"x": torch.zeros(4_000_000)}), "hold more than"),
    "NaN in pooling": (lambda t: t["pooling.offset"].fill_(float("nan")), "NaN"),
}  # fmt: skip


@pytest.mark.parametrize("case", CRAFTED)
def test_crafted_tensors_are_refused_by_name(case: str, trained: Path) -> None:
    change, words = CRAFTED[case]
    rewrite(trained, change)
    for door in (load, load_generator):
        with pytest.raises(WeightsError, match=words):
            door(str(trained))


def test_a_file_that_is_too_large_is_not_read(trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with next(trained.glob("*.safetensors")).open("rb+") as stream:
        stream.truncate(1 << 40)  # sparse
    monkeypatch.setattr(Path, "read_bytes", lambda self: pytest.fail(f"{self} was read"))
    monkeypatch.setattr(
        weights_folder,
        "read_json",
        lambda path: json.loads(path.read_text(encoding="utf-8")) | {"seed": None},
    )
    with pytest.raises((WeightsError, ConfigError), match=r"hold more than|checksum"):
        load(str(trained))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"width": 10**9}, "width"),
        ({"encoder_blocks": 10**9}, "encoder_blocks"),
        ({"embedding": 10**12}, "embedding"),
        ({"width": 4096}, "tensors match"),
    ],
)  # fmt: skip
def test_absurd_widths_are_refused_before_memory_is_taken(
    changes: dict[str, int], words: str, trained: Path
) -> None:
    change_network(trained, **changes)
    with pytest.raises((ConfigError, WeightsError), match=words):
        load(str(trained))


def test_a_seed_fills_no_network_of_any_size(tmp_path: Path, trained: Path) -> None:
    said = read_json(trained / "config.json")
    said = {**said, "seed": 1, "files": {}, "network": {**said["network"], "width": 4096}}
    (trained / "config.json").write_text(json.dumps(said))
    with pytest.raises(ConfigError, match="parameters"):
        load(str(trained))


@pytest.mark.parametrize("text", ['{"format": 1, "format": 1}', '{"a":' * 100_000, '{"format": NaN}'])
def test_json_that_readers_disagree_about_is_refused(text: str, tmp_path: Path) -> None:
    for name, door in (("config.json", load), ("adapter.json", adapters.load)):
        (tmp_path / name).write_text(text)
        with pytest.raises(ConfigError, match="JSON"):
            door(str(tmp_path))


def test_one_flipped_bit_of_a_configuration_is_seen(trained: Path) -> None:
    path = trained / "config.json"
    path.write_text(path.read_text().replace("Apache-2.0", "Apache-3.0"))
    with pytest.raises(ConfigError, match="checksum"):
        load(str(trained))


def test_a_timm_backbone_is_built_of_the_arguments_that_peers_need() -> None:
    arguments = {"img_size": 64, "global_pool": "avg", "fc_norm": False, "no_embed_class": True}
    with torch.device("meta"):
        create_backbone({"backbone": "vit_tiny_patch16_224", "arguments": arguments})


def test_a_model_is_not_saved_over_what_is_not_a_weights_folder(trained: Path, tmp_path: Path) -> None:
    encoder = load(str(trained))
    (trained / "results.txt").write_text("mine")
    before = sorted(path.name for path in trained.iterdir())
    with pytest.raises(OutputError, match=r"results\.txt"):
        encoder.save_pretrained(trained)
    assert sorted(path.name for path in trained.iterdir()) == before


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("adapter")
    photos = [disc_picture(number, 64) for number in range(6)]
    fitted = adapters.adapt("classification", model="fundus2video-tiny", head="linear")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        fitted.fit(photos, [0, 1, 0, 1, 0, 1])
    return Path(fitted.save(home / "adapter"))


def craft(adapter: Path, folder: Path, arrays: Any = None, **changes: Any) -> Path:
    """A copy with other arrays and fields, and hashes that are right again."""
    folder.mkdir()
    said = read_json(adapter / "adapter.json")
    tensors = load_file(adapter / "adapter.safetensors")
    if arrays is not None:
        arrays(tensors)
    save_file(tensors, folder / "adapter.safetensors")
    said["files"] = {"adapter.safetensors": sha256_of(folder / "adapter.safetensors")}
    for key, value in changes.items():
        said[key] = {**said[key], **value} if isinstance(value, dict) else value
    (folder / "adapter.json").write_text(json.dumps(said))
    return folder


CRAFTED_ADAPTERS: dict[str, tuple[Any, dict[str, Any]]] = {
    "no coefficients": (lambda t: t.pop("head.coef_"), {}),
    "an array more": (lambda t: t.update({"head.predict": torch.ones(1)}), {}),
    "an array of nothing": (lambda t: t.update({"x": torch.ones(1)}), {}),
    "NaN": (lambda t: t["head.coef_"].fill_(float("nan")), {}),
    "another shape": (lambda t: t.update({"head.coef_": torch.ones(7, 7).double()}), {}),
    "bfloat16": (lambda t: t.update({"head.coef_": t["head.coef_"].to(torch.bfloat16)}), {}),
    "absurd features": (None, {"state": {"n_features_in": 10**12}}),
    "features of another kind": (None, {"state": {"n_features_in": "many"}}),
    "no values": (None, {"state": {"values": {}}}),
    "a method's name among values": (None, {"state": {"values": {"predict": 1, "n_iter_": 1, "C_": 1}}}),
    "an unknown head": (None, {"settings": {"head": "none"}}),
    "head of a number": (None, {"settings": {"head": 3}}),
    "a setting of another kind": (None, {"state": {"head": {"C": {"a": 1}, "nonsense": 1}}}),
    "a position beyond any photo": (None, {"drawn": [10**30]}),
    "state of a list": (None, {"state": []}),
    "encoders missing": (None, {"encoders": []}),
    "classes of nothing": (None, {"state": {"classes": None}}),
    "a hub's encoder": (None, {"settings": {"model": "hf-hub:nobody/nothing-at-all"}}),
    "timm's encoder": (None, {"settings": {"model": "timm/resnet10t"}}),
    "fused with the hub": (None, {"settings": {"fuse_with": ["hf-hub:nobody/nothing-at-all"]}}),
}


@pytest.mark.parametrize("case", CRAFTED_ADAPTERS)
def test_a_crafted_adapter_is_refused_by_name_and_reaches_no_network(
    case: str, adapter: Path, tmp_path: Path, no_network: None
) -> None:
    arrays, changes = CRAFTED_ADAPTERS[case]
    with pytest.raises(RetinaError, match=r"\w{3}"):
        adapters.load(craft(adapter, tmp_path / "crafted", arrays, **changes))


def test_an_adapter_of_the_same_format_without_a_checksum_is_read(adapter: Path, tmp_path: Path) -> None:
    assert adapters.load(craft(adapter, tmp_path / "old")).task == "classification"


def test_an_adapter_takes_the_place_of_one_and_of_nothing_else(adapter: Path, tmp_path: Path) -> None:
    fitted = adapters.load(adapter)
    place = fitted.save(tmp_path / "place")
    fitted.save(place)
    (place / "masks.png").write_text("mine")
    with pytest.raises(OutputError, match=r"masks\.png"):
        fitted.save(place)
    assert adapters.load(place).task == "classification"


def test_an_index_that_names_the_hub_makes_no_request(tmp_path: Path, no_network: None) -> None:
    from retina_fm.indexes.models import LazyEmbedder
    from retina_fm.indexes.state import ModelIdentity

    said = ModelIdentity("hf-hub:nobody/nothing-at-all", "theirs", "0" * 64, "0" * 16)
    with pytest.raises(WeightsNotFoundError, match="because a file says so"):
        LazyEmbedder(said, None).encoder()
