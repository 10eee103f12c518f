from __future__ import annotations

import pytest
import torch

from retina_fm.network import Architecture, Encoder, initialise
from retina_fm.network.pooling import Pooling, block_sizes
from retina_fm.network.quantiles import masked_quantiles, masked_std

LEVELS = (0.02, 0.1, 0.5, 0.9, 0.98)


@pytest.mark.parametrize("places", [7, 64, 65, 400])
@pytest.mark.parametrize("share", [0.05, 0.4, 1.0])
def test_masked_quantiles_equal_torchs_over_the_places_that_count(places: int, share: float) -> None:
    generator = torch.Generator().manual_seed(places)
    values = torch.randn(3, 4, places, generator=generator)
    inside = torch.rand(3, places, generator=generator) < share
    inside[:, 0] = True
    found = masked_quantiles(values, inside, LEVELS)
    for n in range(3):
        kept = values[n][:, inside[n]]
        for i, level in enumerate(LEVELS):
            wanted = kept.median(-1).values if level == 0.5 else torch.quantile(kept, level, dim=-1)
            assert torch.allclose(found[n, :, i], wanted, atol=1e-6), (n, level)


def test_quantiles_between_tail_and_median_are_refused() -> None:
    with pytest.raises(ValueError, match=r"0\.3"):
        masked_quantiles(torch.zeros(1, 1, 10), torch.ones(1, 10, dtype=torch.bool), (0.3,))


def test_masked_std_ignores_what_does_not_count() -> None:
    values = torch.tensor([[[1.0, 3.0, 1e6]]])
    assert float(masked_std(values, torch.tensor([[True, True, False]]))) == pytest.approx(1.0)


def test_block_sizes_add_up_to_the_statistics() -> None:
    architecture = Architecture(width=4, encoder_blocks=1, embedding=8)
    encoder = Encoder(architecture).eval()
    initialise(encoder, 0)
    with torch.inference_mode():
        assert encoder.statistics(torch.randn(1, 3, 64, 64).clamp(-1, 1)).shape[1] == sum(
            block_sizes(architecture).values()
        )


def test_fitted_blocks_have_equal_variance() -> None:
    architecture = Architecture(width=4, encoder_blocks=1, embedding=8)
    pooling = Pooling(architecture)
    generator = torch.Generator().manual_seed(0)
    sizes = block_sizes(architecture)
    loud = torch.cat(
        [torch.randn(200, n, generator=generator) * 10.0**i + i for i, n in enumerate(sizes.values())], dim=1
    )
    pooling.fit_scale(loud)
    standard = (loud - pooling.offset) / pooling.scale
    variances = torch.stack([part.var(0).sum() for part in standard.split(list(sizes.values()), dim=1)])
    assert float(standard.mean(0).abs().max()) < 1e-4
    assert float(variances.max() / variances.min()) < 1.1
