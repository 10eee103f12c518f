from __future__ import annotations

import argparse
import dataclasses
import os
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError, LicenceNotice, WeightsError, WeightsNotFoundError
from retina_fm.models import load, load_generator
from retina_fm.models.convert import convert, convert_peer
from retina_fm.models.peers import PEERS

WIDTH, BLOCKS = 4, 9


class PublicBlock(nn.Module):
    """The residual block of the public layout, written down independently."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv_block = nn.Sequential(
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
            nn.ReLU(True),
            nn.ReflectionPad2d(1),
            nn.Conv2d(channels, channels, 3),
            nn.InstanceNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv_block(x)


class PublicGenerator(nn.Module):
    """pix2pixHD's global generator with four downsamplings and nine blocks, written down independently."""

    def __init__(self, inputs: int) -> None:
        super().__init__()
        c = WIDTH
        layers: list[nn.Module] = [
            nn.ReflectionPad2d(3),
            nn.Conv2d(inputs, c, 7),
            nn.InstanceNorm2d(c),
            nn.ReLU(True),
        ]
        for _ in range(4):
            layers += [nn.Conv2d(c, 2 * c, 3, 2, 1), nn.InstanceNorm2d(2 * c), nn.ReLU(True)]
            c *= 2
        layers += [PublicBlock(c) for _ in range(BLOCKS)]
        for _ in range(4):
            layers += [nn.ConvTranspose2d(c, c // 2, 3, 2, 1, 1), nn.InstanceNorm2d(c // 2), nn.ReLU(True)]
            c //= 2
        self.model = nn.Sequential(*layers, nn.ReflectionPad2d(3), nn.Conv2d(c, 3, 7), nn.Tanh())

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.model(x)
        return result


@pytest.fixture
def public() -> PublicGenerator:
    torch.manual_seed(0)
    return PublicGenerator(6).eval()


@pytest.mark.parametrize("prefix", ["", "module."], ids=["plain", "from DataParallel"])
@pytest.mark.parametrize("blocks", [3, 9])
def test_a_converted_generator_gives_the_same_features_and_frames(
    public: PublicGenerator, tmp_path: Path, blocks: int, prefix: str
) -> None:
    torch.save({prefix + k: v for k, v in public.state_dict().items()}, tmp_path / "net_G.pth")
    convert(tmp_path / "net_G.pth", tmp_path / "out", layout="pix2pixhd", encoder_blocks=blocks)
    view = torch.rand(2, 3, 64, 64) * 2 - 1
    with pytest.warns(LicenceNotice):
        encoder = load(str(tmp_path / "out"))
    with torch.inference_mode():
        twice = torch.cat([view, view], dim=1)
        expected = public.model[: 16 + blocks](twice)
        features = encoder.features(view)
        frames = load_generator(str(tmp_path / "out"))(view).frames
        assert torch.allclose(frames, public(twice), atol=1e-4)
    assert float((features.maps[-1] - expected).abs().max() / expected.abs().max()) < 1e-4
    assert features.lesions is None


def test_a_generator_of_three_channels_needs_no_folding(tmp_path: Path) -> None:
    torch.manual_seed(1)
    public = PublicGenerator(3).eval()
    torch.save(public.state_dict(), tmp_path / "g.pth")
    convert(tmp_path / "g.pth", tmp_path / "out", layout="pix2pixhd", licence="MIT")
    view = torch.randn(1, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        stem = load(str(tmp_path / "out")).features(view).maps[0]
        assert torch.allclose(stem, public.model[:4](view), atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda s: s.pop("model.7.weight"), "1 missing"),
        (lambda s: s.update(other=torch.ones(1)), "1 unexpected"),
        (lambda s: s.pop("model.1.weight"), "no stem"),
        (lambda s: s.update({"model.7.bias": torch.ones(1)}), "another shape"),
    ],
)
def test_fewer_than_all_tensors_are_refused(
    public: PublicGenerator, tmp_path: Path, change: object, words: str
) -> None:
    state = dict(public.state_dict())
    change(state)  # type: ignore[operator]
    torch.save(state, tmp_path / "g.pth")
    with pytest.raises(WeightsError, match=words):
        convert(tmp_path / "g.pth", tmp_path / "out", layout="pix2pixhd")
    assert not (tmp_path / "out").exists()


class Evil:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch /tmp/retina-fm-was-here",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path: Path) -> None:
    torch.save({"model.1.weight": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(WeightsError, match="code of its own"):
        convert(tmp_path / "evil.pth", tmp_path / "out", layout="pix2pixhd")
    assert not Path("/tmp/retina-fm-was-here").exists()


@pytest.mark.parametrize("content", [b"", b"not a checkpoint", b"PK\x03\x04 broken zip"])
def test_files_that_are_no_checkpoint_are_refused(tmp_path: Path, content: bytes) -> None:
    for name in ("x.pth", "x.safetensors"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(WeightsError, match="cannot be read"):
            convert(tmp_path / name, tmp_path / "out", layout="flair")
    with pytest.raises(WeightsNotFoundError, match="no checkpoint"):
        convert(tmp_path / "absent.pth", tmp_path / "out", layout="flair")
    with pytest.raises(ConfigError, match="layout"):
        convert(tmp_path / "x.pth", tmp_path / "out", layout="vit")


AS_PUBLISHED = sorted(name for name, peer in PEERS.items() if peer.rename is None)
"""Peers whose tensors have timm's names already; ``test_peers.py`` has all of them."""


def small(name: str) -> tuple[object, nn.Module]:
    """A peer with a small backbone of the same family, and that backbone with random weights."""
    timm = import_vision("timm")
    arguments = {**PEERS[name].arguments, **({"img_size": 64} if name != "flair" else {})}
    peer = dataclasses.replace(
        PEERS[name],
        backbone="resnet18" if name == "flair" else "vit_tiny_patch16_224",
        arguments=arguments,
        transform=dataclasses.replace(PEERS[name].transform, size=64),
    )
    torch.manual_seed(0)
    return peer, timm.create_model(peer.backbone, num_classes=0, pretrained=False, **arguments).eval()


@pytest.mark.parametrize("name", AS_PUBLISHED)
@pytest.mark.filterwarnings("ignore::retina_fm.errors.LicenceNotice")
def test_a_converted_peer_pools_as_its_card_says(name: str, tmp_path: Path) -> None:
    peer, model = small(name)
    state = {PEERS[name].prefix + key: value for key, value in model.state_dict().items()}
    state.update({f"{prefix}x": torch.ones(2) for prefix in PEERS[name].leave})
    values = {"model": state, "args": argparse.Namespace(lr=1)} if PEERS[name].unwrap else state
    config = convert_peer(values, tmp_path / name, peer, name, {})  # type: ignore[arg-type]
    assert config.provenance["matched_tensors"] == len(model.state_dict())
    encoder = load(str(tmp_path / name))
    view = torch.randn(2, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        pooled, maps, lesions = encoder.features(view)
        tokens = model.forward_features(view)
        if name == "flair":
            expected = tokens.mean((2, 3))
        elif name.endswith("all-tokens"):
            expected = tokens.mean(1)
        elif name.endswith("class-token"):
            expected = tokens[:, 0]
        else:
            expected = tokens[:, 1:].mean(1)
        assert torch.allclose(encoder.embed(view), pooled, atol=1e-5)
    assert torch.allclose(pooled, expected, atol=1e-5), encoder.card.pooling
    assert lesions is None and encoder.feature_info.channels() == [m.shape[1] for m in maps]
    assert [64 // m.shape[2] for m in maps] == encoder.feature_info.reduction()
    assert pooled.shape[1] == encoder.num_features


@pytest.mark.parametrize("name", AS_PUBLISHED)
def test_a_peer_with_a_tensor_missing_or_left_over_is_refused(name: str, tmp_path: Path) -> None:
    peer, model = small(name)
    state = {PEERS[name].prefix + key: value for key, value in model.state_dict().items()}
    last = list(state)[-1]
    for faulty in ({k: v for k, v in state.items() if k != last}, {**state, "odd": torch.ones(1)}):
        values = {"model": faulty} if PEERS[name].unwrap else faulty
        with pytest.raises(WeightsError, match=r"1 (missing|unexpected)"):
            convert_peer(values, tmp_path / name, peer, name, {})  # type: ignore[arg-type]


def test_a_checkpoint_of_something_else_says_so(tmp_path: Path) -> None:
    torch.save({"teacher": {}}, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="no retfound checkpoint"):
        convert(tmp_path / "x.pth", tmp_path / "out", layout="retfound")


def test_transforms_of_peers_are_their_own() -> None:
    assert PEERS["retfound"].transform.size == 224
    assert PEERS["retfound"].transform.mean[0] == pytest.approx(0.485)
    assert PEERS["retfound-green"].transform.size == 392
    assert PEERS["retfound-green"].transform.std == (0.5, 0.5, 0.5)
    assert PEERS["flair"].transform.mean == (0.0, 0.0, 0.0)
    assert PEERS["visionfm"].transform.mean[0] == pytest.approx(0.42374, abs=1e-5)
    assert PEERS["retfound-oct"].transform.crop == "frame"
    assert PEERS["mirage"].transform.size == 512
