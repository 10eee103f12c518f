from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from retina_fm._io.files import sha256_of
from retina_fm._io.strict_json import read_json
from retina_fm.errors import ConfigError, LicenceNotice, UnknownModelError, WeightsError, WeightsNotFoundError
from retina_fm.models import (
    ModelCard,
    WeightsConfig,
    list_models,
    load,
    load_generator,
    read_config,
    save_folder,
)
from retina_fm.models.folder import read_tensors
from retina_fm.network import Architecture, Encoder, Generator, encoder_of, initialise
from retina_fm.pictures import Transform

SMALL = Architecture(width=4, encoder_blocks=1, embedding=16)


@pytest.fixture
def trained(tmp_path: Path) -> Path:
    """A weights folder of a small generator, as export writes it."""
    torch.manual_seed(0)
    generator = Generator(SMALL)
    pooling = Encoder(SMALL)
    initialise(pooling, 1)
    tensors = dict(generator.state_dict())
    tensors.update({f"pooling.{key}": value for key, value in pooling.pooling.state_dict().items()})
    config = WeightsConfig(
        name="small",
        kind="fundus2video",
        transform=Transform(size=64),
        card=ModelCard(licence="Apache-2.0", training_data="drawn retinas"),
        network=SMALL.model_dump(mode="json"),
    )
    save_folder(tmp_path / "small", config, tensors)
    return tmp_path / "small"


def change_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**read_json(path), **changes}))  # without its checksum: changed on purpose


def rewrite(folder: Path, change: Any) -> None:
    """Change the tensors of a folder and state the new hash, as somebody would who knows the format."""
    from safetensors.torch import save_file

    path = next(folder.glob("*.safetensors"))
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    change_config(folder, files={path.name: sha256_of(path)})


def test_every_tensor_after_loading_equals_the_files(trained: Path) -> None:
    encoder = load(str(trained))
    stored = load_file(next(trained.glob("*.safetensors")))
    stem = stored.pop("model.1.weight")
    state = encoder.state_dict()
    assert torch.allclose(state.pop("model.1.weight"), stem[:, :3] + stem[:, 3:])
    for key, value in state.items():
        assert torch.equal(value, stored[key]), key


def test_the_loaded_encoder_is_the_generators(trained: Path) -> None:
    generator = load_generator(str(trained))
    view = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        ours, theirs = load(str(trained)).features(view).maps[-1], encoder_of(generator)(view).maps[-1]
    assert torch.equal(ours, theirs)


def test_dtype_device_and_contract(trained: Path) -> None:
    encoder = load(str(trained), dtype=torch.bfloat16)
    assert encoder.dtype == torch.bfloat16 and not encoder.training
    assert encoder.name == "small" and encoder.transform.size == 64 and encoder.num_features == 16
    assert encoder.card.licence == "Apache-2.0" and len(encoder.weights_sha256) == 64


def test_a_folder_may_be_a_path_and_a_device_has_to_be_there(trained: Path) -> None:
    assert load(trained).weights_sha256 == load(str(trained)).weights_sha256
    assert load_generator(trained).architecture == load_generator(str(trained)).architecture
    with pytest.raises(ConfigError, match="Device 'gpu' cannot be used"):
        load(trained, device="gpu")


BROKEN = {
    "flipped bit": (lambda f: _flip(f), WeightsError, "SHA-256"),
    "missing file": (lambda f: next(f.glob("*.safetensors")).unlink(), WeightsError, "cannot be read"),
    "truncated file": (lambda f: _truncate(f), WeightsError, "SHA-256"),
    "missing tensor": (lambda f: rewrite(f, lambda t: t.pop("model.4.bias")), WeightsError, "1 missing"),
    "extra tensor": (lambda f: rewrite(f, lambda t: t.update(x=torch.ones(1))), WeightsError, "1 unexpected"),
    "other shape": (
        lambda f: rewrite(f, lambda t: t.update({"model.4.bias": torch.ones(3)})),
        WeightsError,
        "another shape",
    ),
    "NaN": (lambda f: rewrite(f, lambda t: t["model.4.bias"].fill_(torch.nan)), WeightsError, "NaN"),
    "a pickle by another name": (lambda f: _pickle(f), WeightsError, "no safetensors file"),
    "wrong hash": (
        lambda f: change_config(f, files=_hashes(f, "0" * 64)),
        WeightsError,
        "states 000000000000",
    ),
    "short hash": (lambda f: change_config(f, files=_hashes(f, "abc")), ConfigError, "64 hex digits"),
    "path in a file name": (
        lambda f: change_config(f, files={"../x.safetensors": "0" * 64}),
        ConfigError,
        "plain",
    ),
    "no config": (lambda f: (f / "config.json").unlink(), ConfigError, "no weights folder"),
    "config no JSON": (lambda f: (f / "config.json").write_text("{"), ConfigError, "JSON"),
    "config a list": (lambda f: (f / "config.json").write_text("[]"), ConfigError, "not an object"),
    "newer format": (lambda f: change_config(f, format=99), ConfigError, "format 99"),
    "no licence": (lambda f: change_config(f, card={}), ConfigError, "licence"),
    "unknown field": (lambda f: change_config(f, licence="MIT"), ConfigError, "unknown fields .'licence'"),
    "unknown kind": (lambda f: change_config(f, kind="vit"), ConfigError, "kind 'vit'"),
    "unknown transform": (lambda f: change_config(f, transform={"resize": 3}), ConfigError, "unknown fields"),
    "transform of size 3": (lambda f: change_config(f, transform={"size": 3}), ConfigError, "transform.size"),
    "other width": (lambda f: change_config(f, network={"width": 8}), WeightsError, "tensors match"),
    "unknown network": (lambda f: change_config(f, network={"depth": 8}), ConfigError, "unknown fields"),
    "negative seed": (
        lambda f: change_config(f, seed=-1),
        ConfigError,
        "seed is -1; it must be",
    ),
}


def _flip(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    data = bytearray(path.read_bytes())
    data[-100] ^= 1
    path.write_bytes(data)


def _truncate(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    path.write_bytes(path.read_bytes()[:-64])


def _hashes(folder: Path, digest: str) -> dict[str, str]:
    return {next(folder.glob("*.safetensors")).name: digest}


def _pickle(folder: Path) -> None:
    path = next(folder.glob("*.safetensors"))
    torch.save({"model.4.bias": torch.ones(8)}, path)
    change_config(folder, files={path.name: sha256_of(path)})


@pytest.mark.parametrize("fault", BROKEN)
def test_broken_weights_are_refused_with_a_reason(trained: Path, fault: str) -> None:
    breaking, kind, words = BROKEN[fault]
    breaking(trained)
    with pytest.raises(kind, match=words):
        load(str(trained))


def test_the_order_of_places(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = tmp_path / "base"
    (base / "fundus2video-tiny").mkdir(parents=True)
    for file in trained.iterdir():
        (base / "fundus2video-tiny" / file.name).write_bytes(file.read_bytes())
    assert load("fundus2video-tiny").name == "fundus2video-tiny"
    monkeypatch.setenv("RETINA_FM_WEIGHTS", str(base))
    assert load("fundus2video-tiny").name == "small", "the environment comes before the installation"
    assert load("fundus2video-random", weights=trained).name == "small", "the argument comes first"


def test_missing_weights_say_where_and_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("RETINA_FM_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsNotFoundError) as caught:
        load("retfound")
    message = str(caught.value)
    for words in (str(tmp_path), "installation", "CC-BY-NC-4.0", "retina-fm convert"):
        assert words in message
    assert isinstance(caught.value, FileNotFoundError)


def test_unknown_names_suggest_the_nearest() -> None:
    with pytest.raises(UnknownModelError, match="Did you mean 'fundus2video-tiny'"):
        load("fundus2video-tini")


def test_the_hub_is_not_asked_when_it_is_off(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsNotFoundError, match="HF_HUB_OFFLINE"):
        load("hf-hub:someone/something")
    with pytest.raises(WeightsNotFoundError, match="OWNER/NAME"):
        load("hf-hub:a/b/c")
    with pytest.raises(UnknownModelError, match="goes with hf-hub"):
        load("fundus2video-tiny", revision="main")


def test_a_restricted_licence_is_said_on_loading(trained: Path) -> None:
    change_config(trained, card={"licence": "CC-BY-NC-4.0", "training_data": "x"})
    with pytest.warns(LicenceNotice, match="CC-BY-NC-4.0"):
        load(str(trained))


def test_the_random_models_are_there_and_have_no_generator() -> None:
    ready = {model.name for model in list_models() if model.folder}
    assert {"fundus2video-random", "fundus2video-tiny"} <= ready
    with pytest.raises(ConfigError, match="without a generator"):
        load_generator("fundus2video-tiny")


def test_shards_stay_under_their_limit_and_large_tensors_are_cut_and_joined(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retina_fm.models.folder.SHARD_BYTES", 20_000)
    config, tensors = read_config(trained), read_tensors(trained, read_config(trained))
    written = save_folder(tmp_path / "new", config, tensors)
    files = [load_file(tmp_path / "new" / name) for name in written.files]
    assert max(sum(t.numel() * t.element_size() for t in file.values()) for file in files) <= 20_000
    assert any(key.endswith(":1") for file in files for key in file)
    again = read_tensors(tmp_path / "new", written)
    assert again.keys() == tensors.keys() and all(torch.equal(again[k], tensors[k]) for k in tensors)


def test_a_lost_part_of_a_tensor_is_noticed(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("retina_fm.models.folder.SHARD_BYTES", 20_000)
    config = read_config(trained)
    written = save_folder(tmp_path / "new", config, read_tensors(trained, config))
    first = next(
        name for name in written.files if any(":0" in key for key in load_file(tmp_path / "new" / name))
    )
    fewer = {name: digest for name, digest in written.files.items() if name != first}
    with pytest.raises(WeightsError, match="parts of tensor"):
        read_tensors(tmp_path / "new", written.model_copy(update={"files": fewer}))


def test_the_hash_tells_networks_apart_and_ignores_the_name(trained: Path) -> None:
    config = read_config(trained)
    assert config.model_copy(update={"name": "other"}).sha256 == config.sha256
    assert config.model_copy(update={"seed": 1}).sha256 != config.sha256
