"""Schedule, average, overlap and seeds that all training here shares."""

from __future__ import annotations

import pytest
import torch

from retina_fm.learning import cosine, entropy_and_dice, follow, seeded, soft_dice


def test_half_a_cosine_falls_from_one_to_zero() -> None:
    assert [cosine(share) for share in (0, 0.5, 1)] == pytest.approx([1, 0.5, 0])
    assert cosine(0.1) > 0.97


def test_the_average_follows_early_and_lags_later() -> None:
    module = torch.nn.Linear(2, 2)
    for step, share in ((0, 0.9), (100_000, 0.01)):
        average = {k: torch.zeros_like(v) for k, v in module.state_dict().items()}
        follow(average, module.state_dict(), 0.99, step)
        assert torch.allclose(average["weight"], share * module.weight, atol=1e-6)
        assert torch.allclose(average["bias"], share * module.bias, atol=1e-6)


def test_counts_are_copied_and_narrow_weights_averaged_as_they_are_kept() -> None:
    norm = torch.nn.BatchNorm1d(2)
    average = {k: v.clone() for k, v in norm.state_dict().items()}
    norm.num_batches_tracked += 5
    follow(average, norm.bfloat16().state_dict(), 0.99, 100)
    assert average["num_batches_tracked"] == 5 and average["weight"].dtype == torch.float32


def test_dice_of_sure_answers_is_that_of_sets() -> None:
    found, wanted = torch.zeros(2, 3, 4, 4), torch.zeros(2, 3, 4, 4)
    found[:, 0, :2], wanted[:, 0, 1:3] = 1, 1
    found[:, 1], wanted[:, 1] = 1, 1
    assert soft_dice(found, wanted, (0, 2, 3)).tolist() == [0.5, 1, 0]
    assert soft_dice(found, wanted) == pytest.approx(2 * (2 * 4 + 2 * 16) / (2 * (8 + 16 + 8 + 16)))


def test_what_lies_outside_does_not_count() -> None:
    logits, wanted, inside = torch.randn(1, 6, 6), torch.zeros(1, 6, 6), torch.ones(1, 6, 6)
    wanted[:, :3], inside[:, :, 4:] = 1, 0
    loss = entropy_and_dice(logits, wanted, inside)
    logits[:, :, 4:], wanted[:, :, 4:] = 50, 0
    assert entropy_and_dice(logits, wanted, inside) == loss
    sure = (2 * wanted - 1) * 50
    assert entropy_and_dice(sure, wanted, inside) < 1e-3 < 50 < entropy_and_dice(-sure, wanted, inside)


def test_seeds_end_with_their_block() -> None:
    torch.manual_seed(1)
    expected = torch.rand(1)
    torch.manual_seed(1)
    with seeded(7):
        one = torch.rand(3)
    assert torch.rand(1) == expected
    with seeded(7):
        assert torch.equal(torch.rand(3), one)
