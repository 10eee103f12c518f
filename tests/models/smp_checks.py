"""segmentation_models_pytorch's contract, one function a promise, written from reading its tests.

A check a decoder, each with the defaults, with few halvings, one channel and seven classes, with a classifier
beside, and through ``save_pretrained``; and checks of the encoder by itself.
"""

from __future__ import annotations

import importlib
import tempfile
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

import retina_fm
from retina_fm._vision import import_vision

smp = import_vision("segmentation_models_pytorch")
CHECKS: dict[str, Callable[[Model], None]] = {}
BY_DESIGN = {"four_channels": "a photo has three channels; what a fourth would mean no weights know"}
DECODERS = tuple(architecture.__name__ for architecture in smp.MODEL_ARCHITECTURES_MAPPING.values())


@dataclass(frozen=True)
class Model:
    """A registered name, and decoders over it."""

    name: str

    def decoder(self, architecture: str, **settings: Any) -> nn.Module:
        """By the library's own door; a tree without registration uses the project's function."""
        torch.manual_seed(0)
        try:
            importlib.import_module("retina_fm.models.smp_encoders")
        except ModuleNotFoundError:
            segmentation = importlib.import_module("retina_fm.network.segmentation")
            found: nn.Module = segmentation.segmentation_model(retina_fm.load(self.name), architecture)
            return found
        name = "tu-" + self.name if architecture == "DPT" else "retina_fm/" + self.name
        created: nn.Module = smp.create_model(architecture, name, None, **settings)
        return created

    def encoder(self, **settings: Any) -> Any:
        importlib.import_module("retina_fm.models.smp_encoders")
        return smp.encoders.get_encoder("retina_fm/" + self.name, weights=None, **settings).eval()


def check(function: Callable[[Model], None]) -> Callable[[Model], None]:
    CHECKS[function.__name__] = function
    return function


def view(channels: int = 3, count: int = 2) -> Tensor:
    return torch.rand(count, channels, 128, 128, generator=torch.Generator().manual_seed(1)) * 1.8 - 0.9


def decoder_check(architecture: str) -> None:
    def promise(model: Model) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # DPT without class tokens
            _trains_and_returns(model.decoder(architecture), model, architecture)
            _follows_settings(model, architecture)

    CHECKS[f"decoder_{architecture}"] = promise


def _trains_and_returns(net: nn.Module, model: Model, architecture: str) -> None:
    found = net(view())
    assert found.shape == (2, 1, 128, 128)
    found.mean().backward()
    assert sum(float(p.grad.abs().sum()) for p in net.encoder.parameters() if p.grad is not None) > 0
    with tempfile.TemporaryDirectory() as folder:
        net.eval().save_pretrained(folder, dataset="drawn", metrics={"dice": 0.5})
        again = smp.from_pretrained(folder).eval()
        with torch.no_grad():
            assert torch.allclose(again(view()), net(view()), atol=1e-6)


def _follows_settings(model: Model, architecture: str) -> None:
    settings: dict[str, Any] = {"encoder_depth": 3} if architecture != "DPT" else {}
    if architecture in ("Unet", "UnetPlusPlus", "MAnet"):
        settings["decoder_channels"] = (32, 16, 8)
    if architecture == "DPT":
        settings["decoder_readout"] = "ignore"
    net = model.decoder(architecture, in_channels=1, classes=7, **settings).eval()
    with torch.no_grad():
        assert net(view(1)).shape[1] == 7
    aux = {"pooling": "avg", "classes": 10, "dropout": 0.5}
    beside = model.decoder(architecture, aux_params=aux).eval()
    with torch.no_grad():
        assert beside(view())[1].shape == (2, 10)


for name in DECODERS:
    decoder_check(name)


@check
def known_by_name(model: Model) -> None:
    model.encoder()
    assert "retina_fm/" + model.name in smp.encoders.get_encoder_names()


@check
def depths(model: Model) -> None:
    for depth in (3, 4, 5):
        encoder = model.encoder(depth=depth)
        with torch.no_grad():
            maps = encoder(view())
        assert [128 // m.shape[2] for m in maps] == [2**level for level in range(depth + 1)]
        assert [m.shape[1] for m in maps] == list(encoder.out_channels)
        assert encoder.output_stride == 2**depth


@check
def output_strides(model: Model) -> None:
    for stride in (8, 16):
        with torch.no_grad():
            maps = model.encoder(output_stride=stride)(view())
        assert [128 // m.shape[2] for m in maps] == [min(2**level, stride) for level in range(6)]


@check
def one_channel(model: Model) -> None:
    with torch.no_grad():
        assert len(model.encoder(in_channels=1)(view(1))) == 6


@check
def four_channels(model: Model) -> None:
    with torch.no_grad():
        assert len(model.encoder(in_channels=4)(view(4))) == 6


@check
def frozen_encoder(model: Model) -> None:
    net: Any = model.decoder("Unet")
    net.freeze_encoder()
    assert not any(p.requires_grad for p in net.encoder.parameters())
    net.unfreeze_encoder()
    assert all(p.requires_grad for p in net.encoder.parameters())


@check
def no_parameter_without_use(model: Model) -> None:
    net: Any = model.decoder("Unet")
    net(view()).square().mean().backward()
    assert [n for n, p in net.named_parameters() if p.grad is None] == []
