from __future__ import annotations

import pytest
import torch

from retina_fm.errors import ConfigError, ViewError
from retina_fm.network import Architecture, Generator, encoder_of


def test_a_step_gives_three_frames_attention_and_lesion_maps() -> None:
    generator = Generator(Architecture(width=4, encoder_blocks=1)).eval()
    with torch.inference_mode():
        out = generator(torch.rand(2, 3, 64, 48) * 2 - 1)
    assert out.frames.shape == (2, 3, 64, 48) and float(out.frames.abs().max()) <= 1
    assert out.attention is not None and out.attention.shape == (2, 1, 4, 3)
    assert [tuple(m.shape[2:]) for m in out.lesions] == [(64, 48), (16, 12), (8, 6)]


def test_the_photo_stands_in_for_the_last_frames_at_the_first_step() -> None:
    generator = Generator(Architecture(width=4, encoder_blocks=1)).eval()
    photo, last = torch.rand(1, 3, 48, 48) * 2 - 1, torch.rand(1, 3, 48, 48) * 2 - 1
    with torch.inference_mode():
        assert torch.equal(generator(photo).frames, generator(photo, photo).frames)
        assert not torch.allclose(generator(photo).frames, generator(photo, last).frames, atol=1e-4)


def test_skips_bring_fine_detail_to_the_frames_and_leave_the_encoder_alone() -> None:
    torch.manual_seed(0)
    with_skips = Generator(Architecture(width=4, encoder_blocks=1, skips=True)).eval()
    without = Generator(Architecture(width=4, encoder_blocks=1)).eval()
    own = {key: value for key, value in with_skips.state_dict().items() if not key.startswith("skips.")}
    without.load_state_dict(own)
    assert sorted(set(with_skips.state_dict()) - set(own)) == [f"skips.{level}.weight" for level in range(4)]
    photo = torch.rand(1, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        assert not torch.allclose(with_skips(photo).frames, without(photo).frames, atol=1e-3)
        assert torch.equal(encoder_of(with_skips)(photo).pooled, encoder_of(without)(photo).pooled)
        for skip in with_skips.skips or ():
            skip.weight.zero_()
        assert torch.equal(with_skips(photo).frames, without(photo).frames)


def test_a_memory_shows_the_phase_of_the_last_frames_and_not_their_detail() -> None:
    torch.manual_seed(0)
    generator = Generator(Architecture(width=4, encoder_blocks=1, memory=8)).eval()
    photo, last = torch.rand(2, 3, 64, 64) * 2 - 1, torch.rand(2, 3, 64, 64) * 2 - 1
    flat = last.clone()
    for row in range(0, 64, 8):  # the same means of squares, without what is inside them
        for column in range(0, 64, 8):
            square = last[:, :, row : row + 8, column : column + 8]
            flat[:, :, row : row + 8, column : column + 8] = square.mean((2, 3), keepdim=True)
    with torch.inference_mode():
        assert torch.allclose(generator(photo, last).frames, generator(photo, flat).frames, atol=1e-4)
        brighter = generator(photo, (last + 0.5).clamp(-1, 1)).frames
        assert not torch.allclose(generator(photo, last).frames, brighter, atol=1e-3)
        # Rows in which the photo stands in are as without a memory, also beside others.
        mixed = generator(photo, torch.cat([photo[:1], last[1:]])).frames
        assert torch.allclose(mixed[:1], generator(photo).frames[:1], atol=1e-5)


def test_keys_of_the_nine_block_generator_follow_the_public_layout() -> None:
    layout = Architecture(
        width=4, encoder_blocks=3, decoder_blocks=6, upsample="transposed", attention=False, lesions=()
    )
    keys = [key for key in Generator(layout).state_dict() if key.endswith("weight")]
    blocks = [f"model.{i}.conv_block.{j}.weight" for i in range(16, 25) for j in (1, 5)]
    expected = [f"model.{i}.weight" for i in (1, 4, 7, 10, 13)]
    assert keys == [*expected, *blocks, *(f"model.{i}.weight" for i in (25, 28, 31, 34, 38))]


def test_resized_upsampling_draws_no_checkerboard() -> None:
    def unevenness(upsample: str) -> float:
        torch.manual_seed(0)
        generator = Generator(
            Architecture(width=4, encoder_blocks=1, upsample=upsample, attention=False, lesions=())  # type: ignore[arg-type]
        )
        up = generator.model[17]
        flat = torch.ones(1, 64, 12, 12)
        grown = up(flat)[0, :, 4:-4, 4:-4]
        return float(grown.std((1, 2)).mean())

    with torch.inference_mode():
        assert unevenness("resize") < 1e-6 < unevenness("transposed")


@pytest.mark.parametrize(
    "wrong",
    [{"width": 0}, {"in_channels": 4}, {"encoder_blocks": 0}, {"upsample": "bilinear"}, {"embedding": True}],
)
def test_an_impossible_architecture_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=f"architecture.{next(iter(wrong))}"):
        Architecture(**wrong)  # type: ignore[arg-type]


def test_an_architecture_survives_json() -> None:
    one = Architecture(width=8, lesions=("drusen",), decoder_blocks=2)
    assert Architecture.model_validate(one.model_dump(mode="json")) == one
    with pytest.raises(ConfigError, match="unknown fields"):
        Architecture.model_validate({"widths": 3})


def test_a_vessel_map_lies_beside_frames_and_lesions_and_leaves_the_encoder_alone() -> None:
    torch.manual_seed(0)
    shape = Architecture(width=4, encoder_blocks=1, skips=True)
    plain = Generator(shape).eval()
    mapped = Generator(shape.model_copy(update={"vessels": True})).eval()
    state, own = mapped.state_dict(), plain.state_dict()
    last = f"model.{len(plain.model) - 1}"
    for part in ("weight", "bias"):
        own[f"{last}.{part}"] = state[f"{last}.{part}"][:-1]
        assert len(state[f"{last}.{part}"]) == shape.outputs + 1
    plain.load_state_dict({**state, **{key: own[key] for key in own if key.startswith(last)}})
    photo = torch.rand(1, 3, 40, 48) * 2 - 1  # padded to what 16 divides, and cropped back
    decoding = shape.model_copy(update={"lesion_decoder": True})
    with torch.inference_mode():
        one, other = plain(photo), mapped(photo)
        assert one.vessels == () and [m.shape for m in other.vessels] == [(1, 1, 40, 48)]
        assert torch.allclose(one.frames, other.frames, atol=1e-6)
        assert torch.allclose(one.lesions[0], other.lesions[0], atol=1e-6)
        encoder = encoder_of(mapped, decoding.model_copy(update={"vessels": True}))
        found, wanted = encoder(photo), encoder_of(plain, decoding)(photo)
    assert found.lesions is not None and wanted.lesions is not None
    assert torch.allclose(found.lesions, wanted.lesions, atol=1e-6)
    assert torch.allclose(found.pooled, wanted.pooled, atol=1e-5)
    square = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.inference_mode():
        (logits,) = mapped(square).vessels
        assert torch.allclose(encoder.vessels(encoder.maps(square)), logits.sigmoid(), atol=1e-5)
    heads_alone = encoder_of(mapped)
    assert encoder.sees_vessels and not heads_alone.sees_vessels
    with pytest.raises(ViewError, match="no vessel map"):
        heads_alone.vessels(heads_alone.maps(square))
