"""An encoder that also decodes lesions: the generator's own maps, pooled."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

import retina_fm
from retina_fm.errors import ConfigError, ViewError
from retina_fm.models import ModelCard, WeightsConfig, load_generator, save_folder
from retina_fm.network import Architecture, Encoder, Generator, encoder_of
from retina_fm.network.masks import field_of_view
from retina_fm.network.pooling import DECODED, LESION_STATISTICS, SHARES, lesion_statistics
from retina_fm.pictures import Transform

PLAIN = Architecture(width=4, encoder_blocks=1, decoder_blocks=1, skips=True, memory=4, embedding=16)
DECODING = PLAIN.model_copy(update={"lesion_decoder": True})


@pytest.fixture
def generator() -> Generator:
    torch.manual_seed(3)
    return Generator(PLAIN).eval()


def view(side: int = 64) -> torch.Tensor:
    torch.manual_seed(5)
    picture = torch.rand(2, 3, side, side) * 2 - 1
    picture[:, :, : side // 8] = -1
    return picture


@torch.no_grad()
def test_lesions_are_those_of_the_generators_first_step(generator: Generator) -> None:
    encoder = encoder_of(generator, DECODING).eval()
    features = encoder(view())
    made = generator(view())
    assert features.lesions is not None and features.lesions.shape == (2, 6, 64, 64)
    torch.testing.assert_close(features.lesions, made.lesions[0].sigmoid(), atol=1e-5, rtol=0)
    plain = encoder_of(generator).eval()(view())
    assert plain.lesions is not None and plain.lesions.shape == (2, 6, 16, 16)
    for one, other in zip(features.maps, plain.maps, strict=True):
        assert torch.equal(one, other)


@torch.no_grad()
def test_statistics_end_with_the_surest_pixels_of_the_decoded_maps(generator: Generator) -> None:
    encoder = encoder_of(generator, DECODING).eval()
    found = encoder.statistics(view())
    assert found.shape[1] == sum(encoder.pooling.blocks.values())
    assert list(encoder.pooling.blocks)[-1] == "decoded"
    logits = generator(view()).lesions[0]
    surest = logits.unfold(2, 2, 2).unfold(3, 2, 2).amax((-1, -2))
    wanted = lesion_statistics(surest, (view() != -1).any(1), 2)
    assert wanted.shape == (2, 6 * LESION_STATISTICS)
    torch.testing.assert_close(found[:, -wanted.shape[1] :], wanted, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(encoder.embed(view()), encoder(view()).pooled)


def test_decoded_statistics_weigh_more_than_others() -> None:
    pooling = Encoder(DECODING).pooling
    torch.manual_seed(1)
    statistics = torch.randn(400, len(pooling.offset)) * torch.rand(len(pooling.offset)).add(0.5)
    pooling.fit_scale(statistics)
    parts = torch.split((statistics - pooling.offset) / pooling.scale, list(pooling.blocks.values()), dim=1)
    variances = [float(part.var(0).sum()) for part in parts]
    assert variances[-1] == pytest.approx(SHARES[DECODED] * variances[0], rel=1e-3)
    assert max(variances[:-1]) == pytest.approx(min(variances[:-1]), rel=1e-3)


@torch.no_grad()
def test_a_folder_gives_both_back_and_the_pooling_must_fit(generator: Generator, tmp_path: Path) -> None:
    encoder = encoder_of(generator, DECODING).eval()
    encoder.pooling.projection.normal_()
    tensors = {
        **generator.state_dict(),
        **{f"pooling.{key}": value for key, value in encoder.pooling.state_dict().items()},
    }
    config = WeightsConfig(
        name="decoding",
        kind="fundus2video",
        transform=Transform(size=64),
        card=ModelCard(licence="Apache-2.0", training_data="none"),
        network=DECODING.model_dump(mode="json"),
    )
    save_folder(tmp_path / "decoding", config, tensors)
    loaded = retina_fm.load(str(tmp_path / "decoding"))
    torch.testing.assert_close(loaded.embed(view()), encoder.embed(view()))
    again = load_generator(str(tmp_path / "decoding"))
    assert again.architecture == PLAIN
    assert torch.equal(again(view()).frames, generator(view()).frames)


@torch.no_grad()
def test_sizes_that_16_does_not_divide_are_cropped_back(generator: Generator) -> None:
    encoder = encoder_of(generator, DECODING).eval()
    features = encoder(view(72)[:, :, :70, :66])
    assert features.lesions is not None and features.lesions.shape == (2, 6, 70, 66)


def test_a_decoder_without_lesion_types_makes_no_sense() -> None:
    with pytest.raises(ConfigError, match="lesion_decoder"):
        Architecture(lesions=(), lesion_decoder=True)


def test_the_decoder_trains_with_the_encoder() -> None:
    encoder = Encoder(DECODING)
    encoder.pooling.projection.normal_()
    features = encoder(view())
    assert features.lesions is not None
    features.lesions.mean().backward()
    assert encoder.lesion_decoder is not None
    assert all(p.grad is not None for p in encoder.lesion_decoder.parameters())


@torch.no_grad()
@pytest.mark.parametrize("coarse", [False, True])
def test_what_vessels_and_anatomy_say_is_pooled_as_the_last_block(coarse: bool) -> None:
    torch.manual_seed(4)
    mapping = {"vessels": True, "anatomy": ("disc", "fovea"), "coarse_maps": coarse, "pools_anatomy": True}
    encoder = Encoder(DECODING.model_copy(update=mapping)).eval()
    assert encoder.lesion_decoder is not None
    maps, mask = encoder.maps(view()), field_of_view(view())
    logits = (
        encoder.lesion_decoder.at_stride_2(maps) if coarse else F.max_pool2d(encoder.lesion_decoder(maps), 2)
    )
    found = encoder.statistics(view())
    assert list(encoder.pooling.blocks.items())[-1] == ("anatomy", 3 * LESION_STATISTICS)
    wanted = lesion_statistics(logits[:, 6:], mask, 2)
    torch.testing.assert_close(found[:, -wanted.shape[1] :], wanted, atol=1e-4, rtol=1e-4)


def test_a_statistic_beyond_what_was_fitted_on_counts_as_that_far() -> None:
    torch.manual_seed(5)
    free, clipped = (Encoder(DECODING.model_copy(update={"clip": clip})).pooling for clip in (0.0, 3.0))
    statistics = torch.randn(300, len(free.offset)) * torch.rand(len(free.offset)).add(0.5)
    for pooling in (free, clipped):
        pooling.fit_scale(statistics)
    calm, wild = statistics.clamp(-0.5, 0.5), statistics.clone()
    wild[:, 7] = 1e4
    assert torch.equal(free.standard(calm), clipped.standard(calm))
    apart = (statistics.mean(0) + 3 * statistics.std(0)).expand(2, -1)
    torch.testing.assert_close(clipped.standard(wild)[:, 7], clipped.standard(apart)[:1, 7].expand(300))
    assert free.standard(wild)[0, 7] > 100 * clipped.standard(wild)[0, 7]
    assert "limit" in clipped.state_dict() and "limit" not in free.state_dict()


def test_anatomy_that_nothing_maps_cannot_be_pooled() -> None:
    with pytest.raises(ConfigError, match="pools_anatomy"):
        DECODING.model_copy(update={"pools_anatomy": True})


@torch.no_grad()
def test_an_embedding_needs_the_maps_at_stride_2_alone() -> None:
    torch.manual_seed(3)
    shape = PLAIN.model_copy(update={"decoder_width": 2, "coarse_maps": True, "vessels": True})
    generator = Generator(shape).eval()
    encoder = encoder_of(generator, shape.model_copy(update={"lesion_decoder": True})).eval()
    assert encoder.lesion_decoder is not None
    encoder.pooling.projection.normal_()
    made, features = generator(view()), encoder(view())
    assert [m.shape[-1] for m in made.lesions] == [64, 32, 16, 8] and [m.shape[-1] for m in made.vessels] == [
        64,
        32,
    ]
    assert features.lesions is not None
    torch.testing.assert_close(features.lesions, made.lesions[0].sigmoid(), atol=1e-5, rtol=0)
    coarse = encoder.lesion_decoder.at_stride_2(encoder.maps(view()))
    torch.testing.assert_close(coarse[:, :6], made.lesions[1], atol=1e-5, rtol=0)
    block = encoder.statistics(view())[:, -6 * LESION_STATISTICS :]
    torch.testing.assert_close(
        block, lesion_statistics(coarse[:, :6], field_of_view(view()), 2), atol=1e-5, rtol=0
    )
    assert torch.equal(encoder.embed(view()), features.pooled)
    # full resolution is not computed for an embedding: its layers may as well be broken
    encoder.lesion_decoder.layers[-1].weight.fill_(torch.nan)
    assert bool(encoder.embed(view()).isfinite().all())


def test_maps_at_stride_2_need_something_to_map() -> None:
    with pytest.raises(ConfigError, match="coarse_maps"):
        Architecture(coarse_maps=True, lesions=())


@torch.no_grad()
def test_anatomy_is_mapped_beside_vessels_and_lesions() -> None:
    torch.manual_seed(3)
    parts = ("artery", "vein", "fovea")
    shape = PLAIN.model_copy(update={"vessels": True, "coarse_maps": True, "anatomy": parts})
    generator = Generator(shape).eval()
    encoder = encoder_of(generator, shape.model_copy(update={"lesion_decoder": True})).eval()
    made, maps = generator(view()), encoder.maps(view())
    assert [m.shape[1:] for m in made.anatomy] == [(3, 64, 64), (3, 32, 32)]
    torch.testing.assert_close(encoder.anatomy(maps), made.anatomy[0].sigmoid(), atol=1e-5, rtol=0)
    torch.testing.assert_close(encoder.vessels(maps), made.vessels[0].sigmoid(), atol=1e-5, rtol=0)
    with pytest.raises(ConfigError, match="in that order"):
        Architecture(anatomy=("vein", "artery"))
    plain = encoder_of(Generator(PLAIN)).eval()
    with pytest.raises(ViewError, match="anatomy"):
        plain.anatomy(plain.maps(view()))
