"""Discriminators judge two scales and, knowledge-aware, the masked pair."""

from __future__ import annotations

import torch

from retina_fm.training.pretraining.losses.discriminators import Discriminators


def test_each_pair_is_judged_at_two_scales_and_again_under_the_mask():
    torch.manual_seed(0)
    judge = Discriminators(width=4)
    photo, frames, mask = torch.rand(2, 3, 64, 64), torch.rand(2, 3, 64, 64), torch.zeros(2, 1, 64, 64)
    mask[:, :, 20:40, 20:40] = 1
    judged = judge(photo, frames, mask)
    assert len(judged.scores) == 4
    assert judged.scores[0].shape[-1] > judged.scores[1].shape[-1]
    assert [len(maps) for maps in judged.maps] == [4, 4, 4, 4]
    changed = frames.clone()
    changed[:, :, :10] = 0
    other = judge(photo, changed, mask)
    assert not torch.equal(other.scores[0], judged.scores[0])
    assert torch.equal(other.scores[2], judged.scores[2]), "what the mask hides must not matter"
    assert len(Discriminators(width=4, knowledge=False)(photo, frames, mask).scores) == 2


def test_the_finest_discriminator_sees_70_by_70_pixels():
    judge = Discriminators(width=4, knowledge=False)
    for stages in judge.scales:  # instance normalisation looks at everything: leave it out
        for stage in stages:
            for index, layer in enumerate(stage):
                if type(layer).__name__ == "InstanceNorm":
                    stage[index] = torch.nn.Identity()
    frames = torch.rand(1, 3, 200, 200, requires_grad=True)
    scores = judge(torch.rand(1, 3, 200, 200), frames, torch.ones(1, 1, 200, 200)).scores[0]
    scores[0, 0, scores.shape[-2] // 2, scores.shape[-1] // 2].backward()
    seen = frames.grad[0, 0].abs() > 0
    assert seen.any(0).sum() == 70
    assert seen.any(1).sum() == 70
