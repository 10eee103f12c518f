from __future__ import annotations

import pytest
import torch

from retina_fm.errors import ConfigError, ViewError
from retina_fm.network import Architecture, Encoder, initialise
from retina_fm.network.segmentation import ARCHITECTURES, segmentation_model


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    encoder = Encoder(Architecture(width=8, encoder_blocks=1, embedding=8))
    initialise(encoder, 0)
    return encoder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_decoder_gives_logits_of_the_views_size(encoder: Encoder, name: str) -> None:
    model = segmentation_model(encoder, name, classes=2).eval()
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 64, 96)).shape == (2, 2, 64, 96)
    assert model.encoder.encoder is encoder, "the encoder is shared, not copied"


def test_gradients_pass_through_the_decoder_into_the_encoder(encoder: Encoder) -> None:
    segmentation_model(encoder)(torch.rand(2, 3, 64, 64)).mean().backward()
    assert float(encoder.model[1].weight.grad.abs().sum()) > 0


def test_wrong_names_and_sizes_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'Unet'"):
        segmentation_model(encoder, "UNet")
    with pytest.raises(ViewError, match="divides"):
        segmentation_model(encoder).encoder(torch.rand(1, 3, 70, 64))
