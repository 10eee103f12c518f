"""segmentation_models_pytorch's contract over the small model; ``count.py`` runs it over all of them."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from models.smp_checks import BY_DESIGN, CHECKS, Model

from retina_fm._vision import import_vision
from retina_fm.errors import ConfigError
from retina_fm.models import BackboneEncoder, ModelCard, WeightsConfig
from retina_fm.network.segmentation import segmentation_model
from retina_fm.pictures import Transform

timm = import_vision("timm")
TINY = Model("fundus2video-tiny")


@pytest.mark.parametrize("name", [name for name in CHECKS if name not in BY_DESIGN])
def test_the_smallest_model_keeps(name: str) -> None:
    CHECKS[name](TINY)


def test_a_fourth_channel_is_refused() -> None:
    with pytest.raises(ConfigError, match="3 channels"):
        CHECKS["four_channels"](TINY)


def peer(backbone: str, size: int, **arguments: Any) -> BackboneEncoder:
    torch.manual_seed(0)
    network = {"backbone": backbone, "arguments": arguments}
    config = WeightsConfig(
        name="peer",
        kind="timm",
        transform=Transform(size=size),
        card=ModelCard(licence="MIT", training_data="none"),
        network=network,
    )
    return BackboneEncoder(timm.create_model(backbone, num_classes=0, **arguments), config).eval()


@pytest.mark.parametrize("name", ["Unet", "UnetPlusPlus", "MAnet", "Linknet", "FPN", "PSPNet", "UPerNet"])
def test_a_peers_pyramid_goes_with_decoders(name: str) -> None:
    encoder = peer("test_resnet.r160_in1k", 64)
    model = segmentation_model(encoder, name, classes=2).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 64, 96).clamp(-1, 1)).shape == (1, 2, 64, 96)
    assert model.encoder.encoder is encoder


def test_a_transformer_goes_with_dpt_and_says_why_not_with_others() -> None:
    encoder = peer("test_vit.r160_in1k", 160)
    model = segmentation_model(encoder, "DPT", classes=2).eval()
    with torch.inference_mode():
        assert model(torch.randn(1, 3, 160, 160).clamp(-1, 1)).shape == (1, 2, 160, 160)
    with pytest.raises(ConfigError, match="go with DPT"):
        segmentation_model(encoder, "Unet")
    odd = peer("vit_tiny_patch16_224", 70, patch_size=14, img_size=70)
    with pytest.raises(ConfigError, match="patches of 14"):
        segmentation_model(odd, "DPT")


def test_a_peer_is_not_dilated_behind_its_owners_back() -> None:
    with pytest.raises(ConfigError, match="stride 32"):
        segmentation_model(peer("test_resnet.r160_in1k", 64), "DeepLabV3")
