from __future__ import annotations

import pytest
import torch

from retina_fm.errors import ConfigError, ViewError
from retina_fm.network import Architecture, Encoder, initialise
from retina_fm.network.segmentation import ARCHITECTURES, dilated_last_stage, segmentation_model


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    encoder = Encoder(Architecture(width=8, encoder_blocks=1, embedding=8))
    initialise(encoder, 0)
    return encoder


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_decoder_gives_logits_of_the_views_size(encoder: Encoder, name: str) -> None:
    model = segmentation_model(encoder, name, classes=2).eval()
    with torch.inference_mode():
        assert model(torch.randn(2, 3, 128, 160).clamp(-1, 1)).shape == (2, 2, 128, 160)
    assert model.encoder.encoder is encoder, "the encoder is shared, not copied"


def test_gradients_pass_through_the_decoder_into_the_encoder(encoder: Encoder) -> None:
    segmentation_model(encoder)(torch.randn(2, 3, 64, 64).clamp(-1, 1)).mean().backward()
    assert float(encoder.model[1].weight.grad.abs().sum()) > 0


def test_wrong_names_and_sizes_are_refused(encoder: Encoder) -> None:
    with pytest.raises(ConfigError, match="Did you mean 'Unet'"):
        segmentation_model(encoder, "UNet")
    with pytest.raises(ViewError, match="divides"):
        segmentation_model(encoder).encoder(torch.randn(1, 3, 70, 64).clamp(-1, 1))


@pytest.mark.parametrize("stride", [8, 16])
def test_dilation_leaves_the_shared_encoder_as_it_was(encoder: Encoder, stride: int) -> None:
    view = torch.randn(1, 3, 64, 64).clamp(-1, 1)
    with torch.inference_mode():
        before = encoder.maps(view)
        model = segmentation_model(encoder, "DeepLabV3", encoder_output_stride=stride).eval()
        assert model(view).shape == (1, 1, 64, 64) and model.encoder(view)[-1].shape[-1] == 64 // stride
        assert all(torch.equal(a, b) for a, b in zip(before, encoder.maps(view), strict=True))


def test_dilation_computes_the_same_function_at_more_places(encoder: Encoder) -> None:
    wide = Encoder(Architecture(width=8, encoder_blocks=2, embedding=8))
    initialise(wide, 1)
    at8 = wide.maps(torch.rand(1, 3, 512, 512, generator=torch.Generator().manual_seed(3)))[3]
    with torch.inference_mode():
        usual = list(wide.model)[13:]
        expected = at8
        for layer in usual:
            expected = layer(expected)
        found = dilated_last_stage(wide.model, at8)[:, :, ::2, ::2]
    inner = (slice(None), slice(None), slice(4, -4), slice(4, -4))
    # noise is the hardest picture: the statistics over four times as many places differ a little
    assert (
        float(torch.corrcoef(torch.stack([expected[inner].flatten(), found[inner].flatten()]))[0, 1]) > 0.98
    )
