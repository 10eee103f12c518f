from __future__ import annotations

import pytest
import torch

from retina_fm.errors import ConfigError
from retina_fm.network import Architecture, Generator
from retina_fm.training.pretraining.widening import starting_state, widened

SHAPE = Architecture(width=4, encoder_blocks=2, decoder_blocks=1, skips=True, embedding=16)


@pytest.mark.parametrize("upsample", ["resize", "transposed"])
def test_a_widened_generator_computes_the_same(upsample: str) -> None:
    torch.manual_seed(0)
    narrow = Generator(SHAPE.model_copy(update={"upsample": upsample})).double().eval()  # type: ignore[arg-type]
    wide = widened(narrow).double().eval()
    assert wide.architecture.width == 8
    photo, last = (torch.rand(2, 3, 64, 48, dtype=torch.float64) * 2 - 1 for _ in range(2))
    with torch.inference_mode():
        before, after = narrow(photo, last), wide(photo, last)
    assert torch.allclose(before.frames, after.frames, atol=1e-6)
    assert before.attention is not None and after.attention is not None
    assert torch.allclose(before.attention, after.attention, atol=1e-6)
    for old, new in zip(before.lesions, after.lesions, strict=True):
        assert torch.allclose(old, new, atol=1e-6)
    for old, new in zip(before.maps, after.maps, strict=True):
        assert torch.allclose(torch.cat([old, old], 1), new, atol=1e-6)


def test_copies_of_a_channel_get_different_gradients() -> None:
    wide = widened(Generator(SHAPE))
    wide(torch.rand(1, 3, 32, 32) * 2 - 1).frames.square().mean().backward()
    gradient = wide.model[4].weight.grad
    assert gradient is not None
    first, second = gradient.chunk(2)
    assert float((first - second).abs().mean()) > 0.05 * float(first.abs().mean())


def test_weights_start_a_run_of_their_own_or_of_twice_the_width_alone() -> None:
    narrow = Generator(SHAPE)
    assert starting_state(narrow, SHAPE).keys() == narrow.state_dict().keys()
    double = SHAPE.model_copy(update={"width": 8})
    Generator(double).load_state_dict(starting_state(narrow, double))
    with pytest.raises(ConfigError, match="half its width"):
        starting_state(narrow, SHAPE.model_copy(update={"width": 12}))
    with pytest.raises(ConfigError, match="same architecture"):
        starting_state(narrow, SHAPE.model_copy(update={"skips": False}))


@pytest.mark.parametrize("width", [4, 8])
def test_a_vessel_map_is_added_to_weights_that_have_none(width: int) -> None:
    torch.manual_seed(0)
    plain = Generator(SHAPE).double().eval()
    wanted = SHAPE.model_copy(update={"width": width, "vessels": True})
    mapped = Generator(wanted).double().eval()
    mapped.load_state_dict(starting_state(plain, wanted))
    photo = torch.rand(2, 3, 64, 48, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        before, after = plain(photo), mapped(photo)
    assert torch.allclose(before.frames, after.frames, atol=1e-6)
    assert torch.allclose(before.lesions[0], after.lesions[0], atol=1e-6)
    assert after.vessels[0].std() < 1e-6


def test_the_encoder_alone_is_widened_where_the_decoder_stays() -> None:
    torch.manual_seed(0)
    shape = SHAPE.model_copy(update={"decoder_width": 2, "coarse_maps": True, "vessels": True})
    narrow = Generator(shape).double().eval()
    wanted = narrow.architecture.model_copy(update={"width": 8})
    wide = Generator(wanted).double().eval()
    wide.load_state_dict(starting_state(narrow, wanted))
    photo = torch.rand(2, 3, 64, 48, dtype=torch.float64) * 2 - 1
    with torch.inference_mode():
        before, after = narrow(photo), wide(photo)
    assert torch.allclose(before.frames, after.frames, atol=1e-6)
    pairs = zip((*before.lesions, *before.vessels), (*after.lesions, *after.vessels), strict=True)
    assert all(torch.allclose(old, new, atol=1e-6) for old, new in pairs)
    assert wide.model[-1].weight.shape == narrow.model[-1].weight.shape


def test_a_decoder_of_another_width_begins_anew_over_the_encoders_weights() -> None:
    source = Generator(SHAPE)
    wanted = SHAPE.model_copy(update={"decoder_width": 3, "coarse_maps": True, "vessels": True})
    state = starting_state(source, wanted)
    found = Generator(wanted).load_state_dict(state, strict=False)
    assert found.unexpected_keys == []
    begun = {key.split(".")[0] for key in found.missing_keys}
    assert begun == {"model", "skips", "coarse"}
    assert torch.equal(state["model.1.weight"], source.state_dict()["model.1.weight"])
