from __future__ import annotations

import copy
import warnings
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from retina_fm.errors import ViewError, ViewWarning
from retina_fm.network import (
    Architecture,
    Encoder,
    Generator,
    encoder_of,
    encoder_state,
    initialise,
)

SMALL = Architecture(width=8, encoder_blocks=2, embedding=32)


def made(architecture: Architecture = SMALL, seed: int = 3) -> Encoder:
    encoder = Encoder(architecture).eval()
    initialise(encoder, seed)
    return encoder


def view_of_disc(count: int = 2, size: int = 96, canvas: int | None = None, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.rand(count, 3, size // 8, size // 8, generator=generator)
    view = nn.functional.interpolate(coarse, size=(size, size), mode="bilinear") * 1.8 - 0.9
    at = torch.arange(size) + 0.5 - size / 2
    view[:, :, at[:, None] ** 2 + at[None, :] ** 2 > (0.48 * size) ** 2] = -1
    if canvas is not None:
        edge = (canvas - size) // 2
        view = nn.functional.pad(view, (edge, edge, edge, edge), value=-1.0)
    return view


@pytest.fixture(scope="module")
def full() -> Encoder:
    return made(Architecture(), seed=1)


def cosine(a: Tensor, b: Tensor) -> Tensor:
    return torch.cosine_similarity(a, b, dim=-1)


def test_the_full_encoder_has_62_9_million_parameters(full: Encoder) -> None:
    assert round(sum(p.numel() for p in full.parameters()) / 1e6, 1) == 62.9


def test_maps_have_doubling_channels_at_strides_1_to_16(full: Encoder) -> None:
    with torch.inference_mode():
        features = full(view_of_disc(1, 64))
    assert [m.shape[1] for m in features.maps] == [64, 128, 256, 512, 1024]
    assert [64 // m.shape[2] for m in features.maps] == [1, 2, 4, 8, 16]
    assert full.feature_info.channels() == [64, 128, 256, 512, 1024]
    assert full.feature_info.reduction() == [1, 2, 4, 8, 16]
    assert features.pooled.shape == (1, full.num_features) and features.pooled.dtype == torch.float32
    assert features.lesions is not None and features.lesions.shape == (1, 6, 16, 16)
    assert float(features.lesions.min()) >= 0 and float(features.lesions.max()) <= 1


def test_the_folded_stem_equals_the_unfolded_one() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL).eval()
    encoder = encoder_of(generator)
    view = view_of_disc()
    with torch.inference_mode():
        stem = generator.model[1](generator.model[0](torch.cat([view, view], dim=1)))
        folded = encoder.model[1](encoder.model[0](view))
        assert torch.allclose(folded, stem, atol=1e-5)
        generated, maps = generator(view), encoder(view).maps
    for ours, theirs in zip(maps, generated.maps, strict=True):
        assert float((ours - theirs).abs().max() / theirs.abs().max()) < 1e-4


def test_folding_is_exact_up_to_rounding() -> None:
    torch.manual_seed(0)
    generator = Generator(SMALL).double().eval()
    encoder = Encoder(SMALL).double().eval()
    encoder.load_state_dict({**encoder.state_dict(), **encoder_state(generator.state_dict(), SMALL)})
    view = view_of_disc().double()
    with torch.inference_mode():
        for ours, theirs in zip(encoder(view).maps, generator(view).maps, strict=True):
            assert torch.allclose(ours, theirs, atol=1e-11)


@pytest.mark.parametrize(
    ("dtype", "least"), [(torch.float32, 0.999999), (torch.bfloat16, 0.9999)], ids=["float32", "bfloat16"]
)
def test_a_photo_alone_and_in_a_batch_of_8_agree(dtype: torch.dtype, least: float) -> None:
    encoder = made().to(dtype)
    view = view_of_disc(8).to(dtype)
    with torch.inference_mode():
        together = encoder.embed(view)
        alone = torch.cat([encoder.embed(view[i : i + 1]) for i in range(8)])
    assert float(cosine(together, alone).min()) > least
    if dtype == torch.float32:
        assert float((together - alone).abs().max() / together.abs().max()) < 1e-5


def test_bfloat16_and_float32_embeddings_agree_even_after_centring() -> None:
    encoder = made()
    view = view_of_disc(6)
    with torch.inference_mode():
        exact = encoder.embed(view)
        low = copy.deepcopy(encoder).to(torch.bfloat16).embed(view)
    assert float(cosine(exact, low).min()) > 0.999
    # the mean embedding is common to all pictures; without it the agreement has to hold on its own
    centre = exact.mean(0)
    assert float(cosine(exact - centre, low - centre).min()) > 0.99


def test_residual_blocks_change_the_embedding_although_their_average_would_not() -> None:
    encoder = made()
    view = view_of_disc()
    with torch.inference_mode():
        before = encoder(view)
        encoder.model[16].conv_block[1].weight.mul_(torch.linspace(-2, 2, 128)[:, None, None, None])
        after = encoder(view)
    average = (before.maps[-1].mean((2, 3)) - after.maps[-1].mean((2, 3))).abs().max()
    assert float(average) < 1e-4, "the trap: instance normalisation fixes the average"
    assert float((before.pooled - after.pooled).abs().max()) > 0.01


def test_statistics_before_any_normalisation_ignore_what_lies_outside() -> None:
    encoder = made()
    first = encoder.pooling.blocks["level0"]
    with torch.inference_mode():
        tight = encoder.statistics(view_of_disc(4, 96))[:, :first]
        loose = encoder.statistics(view_of_disc(4, 96, canvas=192))[:, :first]
    assert torch.allclose(tight, loose, atol=1e-5)


def test_the_mask_decides_what_is_pooled() -> None:
    encoder = made()
    view = view_of_disc(1, 64)
    left = torch.zeros(1, 64, 64, dtype=torch.bool)
    left[:, :, :32] = True
    with torch.inference_mode():
        assert not torch.allclose(encoder.embed(view, left), encoder.embed(view, ~left), atol=1e-3)
        assert torch.equal(encoder.embed(view), encoder.embed(view, (view != -1).any(1)))


def test_a_view_without_anything_inside_counts_as_seen_in_full() -> None:
    encoder = made()
    dark = torch.full((1, 3, 64, 64), -1.0)
    with torch.inference_mode():
        assert bool(torch.isfinite(encoder.embed(dark)).all())


@pytest.mark.parametrize("size", [(33, 50), (96, 72), (100, 64)])
def test_sizes_that_16_does_not_divide_are_padded_and_cropped_back(size: tuple[int, int]) -> None:
    encoder = made()
    view = nn.functional.interpolate(view_of_disc(1, 96), size=size)
    with torch.inference_mode():
        features = encoder(view)
    for m, stride in zip(features.maps, (1, 2, 4, 8, 16), strict=True):
        assert tuple(m.shape[2:]) == (-(-size[0] // stride), -(-size[1] // stride))
    assert features.lesions is not None and features.lesions.shape[2] == -(-size[0] // 4)


@pytest.mark.parametrize(
    ("view", "words"),
    [
        (np.zeros((64, 64, 3), np.uint8), r"encoder\(encoder\.transform\(photo\)\)"),
        (torch.zeros(1, 64, 64, 3), "channels before rows"),
        (torch.zeros(1, 4, 64, 64), r"\(N, 3, H, W\)"),
        (torch.zeros(1, 3, 64, 64, dtype=torch.uint8), "uint8"),
        (torch.zeros(1, 3, 16, 64), "at least 32"),
    ],
)
def test_a_wrong_view_is_refused_with_a_reason(view: Any, words: str) -> None:
    with pytest.raises(ViewError, match=words):
        made()(view)


def test_a_single_view_is_a_batch_of_one() -> None:
    encoder, view = made(), view_of_disc(1, 64)
    with torch.inference_mode():
        one, batch = encoder(view[0]), encoder(view)
        assert torch.equal(one.pooled, batch.pooled) and one.maps[0].shape == batch.maps[0].shape
        assert torch.equal(encoder.embed(view[0]), encoder.embed(view))


@pytest.mark.parametrize("factor", [1.0, 255.0])
def test_levels_of_another_scale_are_not_taken_in_silence(factor: float) -> None:
    levels = (view_of_disc(1, 64) + 1) / 2 * factor
    with torch.inference_mode(), pytest.warns(ViewWarning, match="none below 0"):
        made().embed(levels)


def test_a_wrong_mask_is_refused() -> None:
    view = view_of_disc(2, 64)
    with pytest.raises(ViewError, match="mask has shape"):
        made()(view, torch.ones(2, 32, 32, dtype=torch.bool))
    with pytest.raises(ViewError, match="must be bool"):
        made()(view, torch.ones(2, 64, 64))


def test_gradients_reach_every_parameter() -> None:
    encoder = made().train()
    features = encoder(view_of_disc(2, 64).requires_grad_())
    loss = features.pooled.square().sum() + features.lesions.mean()  # type: ignore[union-attr]
    loss.backward()
    without = [name for name, p in encoder.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    # a bias right before an instance normalisation cannot matter beyond rounding
    assert [name for name in without if not name.endswith("bias")] == []


def test_channels_last_gives_the_same() -> None:
    encoder = made()
    view = view_of_disc()
    with torch.inference_mode():
        usual = encoder.embed(view)
        other = copy.deepcopy(encoder).to(memory_format=torch.channels_last)
        last = other.embed(view.contiguous(memory_format=torch.channels_last))
    assert torch.allclose(usual, last, atol=1e-4)


def test_pooling_stays_in_float32_whatever_the_network_is_cast_to() -> None:
    encoder = made().to(torch.bfloat16)
    assert encoder.dtype == torch.bfloat16
    assert {b.dtype for b in encoder.pooling.buffers()} == {torch.float32}
    assert torch.equal(encoder.pooling.projection, made().pooling.projection)


def test_timms_two_step_forward_gives_the_embedding() -> None:
    encoder = made()
    view = view_of_disc()
    with torch.inference_mode():
        features = encoder.forward_features(view)
        assert torch.equal(features, encoder(view).maps[-1])
        assert torch.equal(encoder.forward_head(features), encoder.embed(view))
        assert torch.equal(encoder.forward_head(encoder(view)), encoder.embed(view))


def test_random_weights_come_from_their_seed_alone() -> None:
    one, other = made(seed=5), made(seed=5)
    for key, value in one.state_dict().items():
        assert torch.equal(value, other.state_dict()[key]), key
    assert not torch.equal(one.model[1].weight, made(seed=6).model[1].weight)
    # literal values: the stream must not change with a release of NumPy or torch
    expected = torch.tensor([0.06901, 0.12324, -0.192877])
    assert torch.allclose(one.model[1].weight.flatten()[:3], expected, atol=1e-5)


def test_export_keeps_the_features() -> None:
    encoder = made()
    view = view_of_disc(1, 64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own deprecations
        exported = torch.export.export(encoder, (view,))
    with torch.inference_mode():
        again = exported.module()(view)
        assert torch.allclose(again.pooled, encoder(view).pooled, atol=1e-5)


@pytest.mark.slow
def test_compiled_features_agree() -> None:
    encoder = made()
    view = view_of_disc(2, 64)
    with warnings.catch_warnings(), torch.inference_mode():
        warnings.simplefilter("ignore")  # the compiler's own deprecations
        compiled = torch.compile(encoder)(view)
    with torch.inference_mode():
        usual = encoder(view)
    assert float(cosine(compiled.pooled, usual.pooled).min()) > 0.9999
    assert torch.allclose(compiled.maps[-1], usual.maps[-1], atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")
def test_a_gpu_gives_the_same() -> None:
    encoder = made()
    view = view_of_disc()
    with torch.inference_mode():
        usual = encoder.embed(view)
        gpu = copy.deepcopy(encoder).cuda().embed(view.cuda()).cpu()
    assert float(cosine(usual, gpu).min()) > 0.9999
