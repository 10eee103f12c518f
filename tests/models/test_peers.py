"""Every peer against upstream's own reading, written down here from its code, on random weights."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm._vision import import_vision
from retina_fm.cli.convert import LAYOUTS as COMMAND_LAYOUTS
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models import backbones, load
from retina_fm.models.convert import LAYOUTS, convert_peer
from retina_fm.models.peers import PEERS

State = dict[str, Tensor]
pytestmark = pytest.mark.filterwarnings("ignore::retina_fm.errors.LicenceNotice")
WIDTH, HEADS, DEPTH, SIDE = 48, 3, 6, 64


def random_blocks(prefix: str, *, scaled: bool = False) -> State:
    """A transformer's blocks with random weights, far enough from their initialisation to matter."""
    state: State = {}
    for block in range(DEPTH):
        at = f"{prefix}{block}."
        for norm in ("norm1", "norm2"):
            state[f"{at}{norm}.weight"] = 1 + 0.3 * torch.randn(WIDTH)
            state[f"{at}{norm}.bias"] = 0.3 * torch.randn(WIDTH)
        shapes = {"attn.qkv": 3, "attn.proj": 1, "mlp.fc1": 4, "mlp.fc2": 1}
        for name, factor in shapes.items():
            inputs = 4 * WIDTH if name == "mlp.fc2" else WIDTH
            state[f"{at}{name}.weight"] = torch.randn(factor * WIDTH, inputs) / math.sqrt(inputs)
            state[f"{at}{name}.bias"] = 0.2 * torch.randn(factor * WIDTH)
        if scaled:
            state[f"{at}ls1.gamma"], state[f"{at}ls2.gamma"] = torch.rand(WIDTH), torch.rand(WIDTH)
    return state


def norm(x: Tensor, state: State, name: str) -> Tensor:
    return F.layer_norm(x, x.shape[-1:], state[f"{name}.weight"], state[f"{name}.bias"], eps=1e-6)


def through_block(x: Tensor, state: State, at: str) -> Tensor:
    """Attention and perceptron, each behind a norm and beside a shortcut."""
    count, places, width = x.shape
    inner = F.linear(norm(x, state, f"{at}norm1"), state[f"{at}attn.qkv.weight"], state[f"{at}attn.qkv.bias"])
    q, k, v = inner.view(count, places, 3, HEADS, width // HEADS).permute(2, 0, 3, 1, 4)
    weights = (q @ k.transpose(-2, -1) / math.sqrt(width // HEADS)).softmax(-1)
    mixed = (weights @ v).transpose(1, 2).reshape(count, places, width)
    mixed = F.linear(mixed, state[f"{at}attn.proj.weight"], state[f"{at}attn.proj.bias"])
    x = x + mixed * state.get(f"{at}ls1.gamma", torch.ones(1))
    wide = F.linear(norm(x, state, f"{at}norm2"), state[f"{at}mlp.fc1.weight"], state[f"{at}mlp.fc1.bias"])
    back = F.linear(F.gelu(wide), state[f"{at}mlp.fc2.weight"], state[f"{at}mlp.fc2.bias"])
    return x + back * state.get(f"{at}ls2.gamma", torch.ones(1))


def patches(view: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
    return F.conv2d(view, weight, bias, stride=weight.shape[-1]).flatten(2).transpose(1, 2)


def plain_transformer(patch: int, *, registers: int = 0, scaled: bool = False) -> State:
    count = (SIDE // patch) ** 2
    return {
        "cls_token": torch.randn(1, 1, WIDTH),
        "pos_embed": torch.randn(1, count + (0 if registers else 1), WIDTH),
        **({"reg_token": torch.randn(1, registers, WIDTH)} if registers else {}),
        "patch_embed.proj.weight": torch.randn(WIDTH, 3, patch, patch) / patch,
        "patch_embed.proj.bias": torch.randn(WIDTH),
        **random_blocks("blocks.", scaled=scaled),
        "norm.weight": 1 + 0.3 * torch.randn(WIDTH),
        "norm.bias": 0.3 * torch.randn(WIDTH),
    }


def tokens_of(state: State, view: Tensor) -> list[Tensor]:
    """Tokens after every block of a plain transformer, class token first."""
    x = patches(view, state["patch_embed.proj.weight"], state["patch_embed.proj.bias"])
    beginning = state["cls_token"].expand(len(view), -1, -1)
    if "reg_token" in state:  # DINOv2 with registers: positions belong to patches alone
        kept = state["reg_token"].expand(len(view), -1, -1)
        x = torch.cat([beginning, kept, x + state["pos_embed"]], 1)
    else:
        x = torch.cat([beginning, x], 1) + state["pos_embed"]
    found = []
    for block in range(DEPTH):
        x = through_block(x, state, f"blocks.{block}.")
        found.append(x)
    return found


def retfound(view: Tensor) -> tuple[Any, Tensor]:
    """``models_vit``: without its pooling, the norm over all tokens; here with the mean of the patches."""
    state = plain_transformer(16)
    decoder = {"decoder_embed.weight": torch.ones(2), "mask_token": torch.ones(1)}
    return {"model": {**state, **decoder}}, norm(tokens_of(state, view)[-1], state, "norm")[:, 1:].mean(1)


def retfound_notebook(view: Tensor) -> tuple[Any, Tensor]:
    """``global_pool=True``: the mean first, then ``fc_norm``, which no checkpoint holds."""
    state = plain_transformer(16)
    pooled = tokens_of(state, view)[-1][:, 1:].mean(1)
    decoder = {"decoder_embed.weight": torch.ones(2), "mask_token": torch.ones(1)}
    return {"model": {**state, **decoder}}, F.layer_norm(pooled, pooled.shape[-1:], eps=1e-6)


def retfound_dinov2(view: Tensor) -> tuple[Any, Tensor]:
    """The teacher of DINOv2's training, blocks in chunks; heads and the mask's token are of no use."""
    state = plain_transformer(16, scaled=True)
    published = {}
    for key, value in state.items():
        part = key.split(".")
        name = f"blocks.{int(part[1]) // 3}.{key.split('.', 1)[1]}" if part[0] == "blocks" else key
        published[f"backbone.{name}"] = value
    heads = {"dino_head.mlp.0.weight": torch.ones(2), "ibot_head.last_layer.weight": torch.ones(2)}
    published.update({**heads, "backbone.mask_token": torch.ones(1)})
    return {"teacher": published}, norm(tokens_of(state, view)[-1], state, "norm")[:, 0]


def retfound_green(view: Tensor) -> tuple[Any, Tensor]:
    """README: timm's forward with ``global_pool = 'avg'``, set after the model was made."""
    state = plain_transformer(16, registers=4, scaled=True)
    return state, norm(tokens_of(state, view)[-1], state, "norm")[:, 5:].mean(1)


def retfound_green_class(view: Tensor) -> tuple[Any, Tensor]:
    state = plain_transformer(16, registers=4, scaled=True)
    return state, norm(tokens_of(state, view)[-1], state, "norm")[:, 0]


def retfound_green_all(view: Tensor) -> tuple[Any, Tensor]:
    """Notebooks: ``forward_features(x).mean(1)``."""
    state = plain_transformer(16, registers=4, scaled=True)
    return state, norm(tokens_of(state, view)[-1], state, "norm").mean(1)


def visionfm(view: Tensor) -> tuple[Any, Tensor]:
    """``get_intermediate_layers(x, 4)``, of each the class token, concatenated."""
    state = plain_transformer(16)
    pooled = torch.cat([norm(x, state, "norm")[:, 0] for x in tokens_of(state, view)[-4:]], -1)
    published = {f"module.backbone.{key}": value for key, value in state.items()}
    published.update(
        {"module.backbone.masked_embed": torch.ones(1), "module.head.last.weight": torch.ones(2)}
    )
    return {"teacher": published, "student": {}}, pooled


def mirage(domain: str) -> Callable[[Tensor], tuple[Any, Tensor]]:
    def read(view: Tensor) -> tuple[Any, Tensor]:
        """``MIRAGECls``: one grey channel in, global token last, a fresh norm, the mean of the others."""
        side = SIDE // 32
        at = f"input_adapters.{domain}."
        adapters = {
            f"input_adapters.{name}.{key}": value
            for name in ("slo", "bscan")
            for key, value in {
                "proj.weight": torch.randn(WIDTH, 1, 32, 32) / 32,
                "proj.bias": torch.randn(WIDTH),
                "pos_emb": torch.randn(1, WIDTH, side, side),
            }.items()
        }
        state = {**adapters, "global_tokens": torch.randn(1, 1, WIDTH), **random_blocks("encoder.")}
        grey = (view * torch.tensor([0.299, 0.587, 0.114]).view(1, 3, 1, 1)).sum(1, keepdim=True)
        x = patches(grey, state[at + "proj.weight"], state[at + "proj.bias"])
        x = x + state[at + "pos_emb"].flatten(2).transpose(1, 2)
        x = torch.cat([x, state["global_tokens"].expand(len(view), -1, -1)], 1)
        for block in range(DEPTH):
            x = through_block(x, state, f"encoder.{block}.")
        pooled = F.layer_norm(x, x.shape[-1:], eps=1e-6)[:, :-1].mean(1)
        return {"model": {**state, "output_adapters.slo.proj.weight": torch.ones(2)}}, pooled

    return read


READINGS: dict[str, tuple[Callable[[Tensor], tuple[Any, Tensor]], dict[str, Any]]] = {
    "retfound": (retfound, {}),
    "retfound-untrained-norm": (retfound_notebook, {}),
    "retfound-oct": (retfound, {}),
    "retfound-dinov2": (retfound_dinov2, {"init_values": 1.0}),
    "retfound-green": (retfound_green, {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0}),
    "retfound-green-class-token": (
        retfound_green_class,
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0},
    ),
    "retfound-green-all-tokens": (
        retfound_green_all,
        {"reg_tokens": 4, "no_embed_class": True, "init_values": 1.0},
    ),
    "visionfm": (visionfm, {}),
    "visionfm-oct": (visionfm, {}),
    "mirage": (mirage("slo"), {}),
    "mirage-oct": (mirage("bscan"), {}),
}


def small(name: str, **arguments: Any) -> Any:
    patch = 32 if name.startswith("mirage") else 16
    shape = {"embed_dim": WIDTH, "num_heads": HEADS, "depth": DEPTH, "patch_size": patch, "img_size": SIDE}
    return dataclasses.replace(
        PEERS[name],
        backbone="vit_tiny_patch16_224",
        arguments={**PEERS[name].arguments, **shape, **arguments},
        transform=dataclasses.replace(PEERS[name].transform, size=SIDE),
    )


def cosine(one: Tensor, other: Tensor) -> float:
    return float(F.cosine_similarity(one.double(), other.double(), dim=-1).min())


@pytest.mark.parametrize("name", sorted(READINGS))
def test_a_converted_peer_reads_as_upstream_does(name: str, tmp_path: Path) -> None:
    read, arguments = READINGS[name]
    torch.manual_seed(len(name))
    view = torch.randn(3, 3, SIDE, SIDE)
    with torch.inference_mode():
        checkpoint, expected = read(view)
    convert_peer(checkpoint, tmp_path / name, small(name, **arguments), name, {})
    encoder = load(str(tmp_path / name))
    with torch.inference_mode():
        pooled = encoder.features(view).pooled
        assert cosine(pooled, expected) > 0.9999 and torch.allclose(pooled, expected, atol=1e-3)
        assert torch.allclose(encoder.embed(view), pooled, atol=1e-5)
        two_steps = encoder.forward_head(encoder.forward_features(view))
        assert torch.allclose(two_steps, pooled, atol=1e-5)
    assert pooled.shape[1] == encoder.num_features
    encoder.reset_classifier(5)
    assert encoder.forward_head(encoder.forward_features(view)).shape == (3, 5)


def test_readings_of_one_checkpoint_differ_so_that_names_matter(tmp_path: Path) -> None:
    torch.manual_seed(0)
    view = torch.randn(2, 3, SIDE, SIDE)
    checkpoint, _ = retfound_green(view)
    found = {}
    for name in ("retfound-green", "retfound-green-class-token", "retfound-green-all-tokens"):
        convert_peer(checkpoint, tmp_path / name, small(name, **READINGS[name][1]), name, {})
        with torch.inference_mode():
            found[name] = load(str(tmp_path / name)).embed(view)
    patch, token = found["retfound-green"], found["retfound-green-class-token"]
    assert cosine(patch, token) < 0.95
    assert cosine(patch, found["retfound-green-all-tokens"]) < 0.99999


@pytest.mark.parametrize("name", sorted(READINGS))
def test_not_one_tensor_may_be_left_over(name: str, tmp_path: Path) -> None:
    read, arguments = READINGS[name]
    checkpoint, _ = read(torch.randn(1, 3, SIDE, SIDE))
    inner = checkpoint[PEERS[name].unwrap[0]] if PEERS[name].unwrap else checkpoint  # type: ignore[index]
    inner[PEERS[name].prefix + "odd.weight"] = torch.ones(1)
    with pytest.raises(WeightsError, match="1 unexpected"):
        convert_peer(checkpoint, tmp_path / name, small(name, **arguments), name, {})


def test_every_peer_but_the_convolutional_one_is_compared_and_every_one_is_a_layout() -> None:
    assert set(READINGS) == set(PEERS) - {"flair"}
    assert set(COMMAND_LAYOUTS) == set(LAYOUTS)


@pytest.mark.parametrize(
    ("name", "size", "mean"),
    [
        pytest.param("vit_small_patch14_dinov2.lvd142m", 518, 0.485, marks=pytest.mark.slow),
        ("vit_small_patch16_dinov3.lvd1689m", 256, 0.485),
        ("resnet18.a1_in1k", 224, 0.485),
    ],
)
def test_models_by_timms_name_have_timms_transform(
    name: str, size: int, mean: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    timm = import_vision("timm")
    create = timm.create_model
    monkeypatch.setattr(
        timm, "create_model", lambda short, **rest: create(short, **{**rest, "pretrained": False})
    )
    monkeypatch.setattr(backbones, "hub_answers", lambda: True)
    encoder = backbones.fetch_from_timm(f"timm/{name}").eval()
    settings = timm.data.resolve_model_data_config(encoder.backbone)
    assert encoder.transform.size == size and encoder.transform.mean[0] == mean
    assert encoder.transform.margin == pytest.approx(settings["crop_pct"] - 1)
    view = torch.randn(1, 3, size, size)
    with torch.inference_mode():
        theirs = encoder.backbone(view)
        assert cosine(encoder.embed(view), theirs) > 0.9999
        assert cosine(encoder.features(view).pooled, theirs) > 0.9999


def test_an_unknown_pooling_in_a_folder_is_refused() -> None:
    timm = import_vision("timm")
    peer = small("visionfm")
    config = backbones.WeightsConfig(
        name="x",
        kind="timm",
        transform=peer.transform,
        card=peer.card,
        network={"backbone": peer.backbone, "pooling": "largest token"},
    )
    with pytest.raises(ConfigError, match="all tokens"):
        backbones.BackboneEncoder(timm.create_model("test_vit"), config)
