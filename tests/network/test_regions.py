from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.network import Architecture, Encoder
from retina_fm.network.architecture import ANATOMY
from retina_fm.network.regions import length, regional_statistics

MAPPING = Architecture(
    width=4, encoder_blocks=1, embedding=16, lesion_decoder=True, vessels=True, anatomy=ANATOMY, regions=True
)


def spot(y: int, x: int, radius: int, side: int = 256) -> Tensor:
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return ((rows - y).square() + (columns - x).square() < radius**2).float()[None, None]


def maps(disc: Tensor, fovea: Tensor) -> dict[str, Tensor]:
    blank = torch.zeros_like(disc)
    return {"vessel": blank, "artery": blank, "vein": blank, "disc": disc, "fovea": fovea}


def test_a_bright_disc_is_told_from_the_same_light_elsewhere() -> None:
    disc, fovea, elsewhere = spot(128, 60, 20), spot(128, 160, 10), spot(60, 128, 20)
    mask, lesions = torch.ones(1, 512, 512, dtype=torch.bool), torch.zeros(1, 6, 256, 256)
    grey = torch.zeros(1, 3, 512, 512)
    at_disc, away = (
        regional_statistics(grey + 0.8 * F.interpolate(light, (512, 512)), maps(disc, fovea), lesions, mask)
        for light in (disc, elsewhere)
    )
    assert at_disc.shape == (1, length(6)) and length(6) == 149
    assert torch.allclose(at_disc[:, :24], away[:, :24], atol=2e-3), "over the whole field both are the same"
    assert at_disc[0, 24:27].min() > 0.6 > 0.1 > away[0, 24:27].abs().max()


def test_exudates_count_where_they_lie() -> None:
    disc, fovea = spot(128, 60, 20), spot(128, 160, 10)
    mask, view = torch.ones(1, 512, 512, dtype=torch.bool), torch.zeros(1, 3, 512, 512)
    central, peripheral = (
        regional_statistics(view, maps(disc, fovea), spot(*place, 8).expand(-1, 6, -1, -1), mask)
        for place in ((128, 160), (30, 220))
    )
    macula = 24 + 3 * 25  # after the field, the disc, its middle and the ring
    assert (central[0, macula + 3 : macula + 9] > peripheral[0, macula + 3 : macula + 9] + 0.5).all()


def test_turned_views_say_the_same_and_without_landmarks_regions_say_what_the_field_says() -> None:
    generator = torch.Generator().manual_seed(0)
    view = torch.rand(1, 3, 512, 512, generator=generator) * 2 - 1
    lesions = torch.rand(1, 6, 256, 256, generator=generator)
    mask = torch.ones(1, 512, 512, dtype=torch.bool)
    seen = maps(spot(128, 60, 20), spot(128, 160, 10))
    found = regional_statistics(view, seen, lesions, mask)
    turned = {name: one.rot90(1, (2, 3)) for name, one in seen.items()}
    again = regional_statistics(view.rot90(1, (2, 3)), turned, lesions.rot90(1, (2, 3)), mask)
    assert torch.allclose(found, again, atol=1e-4)
    blank = torch.zeros(1, 1, 256, 256)
    unseen = regional_statistics(view, maps(blank, blank), lesions, mask)
    assert torch.isfinite(unseen).all() and unseen[0, 24:36].abs().max() < 1e-5
    nothing = regional_statistics(view, seen, lesions, torch.zeros(1, 512, 512, dtype=torch.bool))
    assert torch.isfinite(nothing).all()


@pytest.mark.parametrize("coarse", [False, True])
def test_an_encoder_pools_them_as_its_last_blocks(coarse: bool) -> None:
    torch.manual_seed(0)
    encoder = Encoder(MAPPING.model_copy(update={"coarse_maps": coarse})).eval()
    view = torch.rand(2, 3, 64, 64) * 2 - 1
    with torch.inference_mode():
        statistics = encoder.statistics(view)
        assert torch.equal(encoder.embed(view), encoder(view).pooled)
    blocks = encoder.pooling.blocks
    assert list(blocks)[-2:] == ["anatomy", "regions"]
    assert (blocks["regions"], blocks["anatomy"]) == (length(6), 50)
    assert statistics.shape == (2, sum(blocks.values())) and torch.isfinite(statistics).all()


def test_regions_that_nothing_maps_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"architecture\.regions"):
        MAPPING.model_copy(update={"anatomy": ()})
