"""Each loss equals a slow loop over its definition."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from retina_fm.training.pretraining.losses import terms as losses


@pytest.fixture
def frames():
    generator = torch.Generator().manual_seed(0)
    prediction = torch.rand(2, 3, 20, 24, generator=generator) * 2 - 1
    target = torch.rand(2, 3, 20, 24, generator=generator) * 2 - 1
    inside = torch.zeros(2, 1, 20, 24)
    inside[0, :, 3:15, 2:20] = 1
    inside[1, :, :, 5:] = 1
    return prediction, target, inside


def test_weighted_l1_is_its_definition(frames):
    prediction, target, inside = frames
    pictures = []
    for b in range(2):
        total = count = 0.0
        for c in range(3):
            for y in range(20):
                for x in range(24):
                    if inside[b, 0, y, x]:
                        near = target[b, c, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3].mean()
                        weight = 1 + 10 * abs(float(target[b, c, y, x] - near))
                        total += weight * abs(float(prediction[b, c, y, x] - target[b, c, y, x]))
                        count += 1
        pictures.append(total / count)
    assert float(losses.weighted_l1(*frames, window=5)) == pytest.approx(np.mean(pictures), rel=1e-5)


def test_correlation_is_pearsons_inside_the_field_of_view(frames):
    prediction, target, inside = frames
    found = []
    for b in range(2):
        here = inside[b, 0].bool()
        found += [1 - np.corrcoef(prediction[b, c][here], target[b, c][here])[0, 1] for c in range(3)]
    assert float(losses.correlation_loss(*frames)) == pytest.approx(np.mean(found), abs=1e-5)


@pytest.mark.parametrize("name", ["weighted_l1", "correlation_loss"])
def test_what_is_outside_the_field_of_view_has_no_gradient(frames, name):
    prediction, target, inside = frames
    prediction = prediction.clone().requires_grad_()
    getattr(losses, name)(prediction, target, inside).backward()
    outside = inside.expand_as(prediction) == 0
    assert prediction.grad[outside].abs().max() == 0
    assert prediction.grad[~outside].abs().min() > 0


def test_a_constant_frame_has_a_finite_gradient(frames):
    _, target, inside = frames
    flat = torch.full_like(target, -1.0).requires_grad_()
    losses.correlation_loss(flat, target, inside).backward()
    assert torch.isfinite(flat.grad).all()


def test_least_squares_gan_is_its_definition():
    real, fake = (
        [torch.rand(2, 1, 5, 5), torch.rand(2, 1, 3, 3)],
        [torch.rand(2, 1, 5, 5), torch.rand(2, 1, 3, 3)],
    )
    generator = sum(np.mean([(v - 1) ** 2 for v in f.flatten().tolist()]) for f in fake)
    both = sum(
        0.5 * np.mean([(v - 1) ** 2 for v in r.flatten().tolist()])
        + 0.5 * np.mean([v**2 for v in f.flatten().tolist()])
        for r, f in zip(real, fake, strict=True)
    )
    assert float(losses.lsgan_generator(fake)) == pytest.approx(generator, rel=1e-5)
    assert float(losses.lsgan_discriminator(real, fake)) == pytest.approx(both, rel=1e-5)


def test_feature_matching_sums_over_layers_averages_over_judges_and_teaches_only_the_fake():
    real = [[torch.rand(2, 4, 5, 5, requires_grad=True), torch.rand(2, 8, 3, 3)], [torch.rand(2, 4, 2, 2)]]
    fake = [[torch.rand(2, 4, 5, 5, requires_grad=True), torch.rand(2, 8, 3, 3)], [torch.rand(2, 4, 2, 2)]]
    slow = np.mean(
        [
            sum(np.mean(np.abs(r.detach().numpy() - f.detach().numpy())) for r, f in zip(rs, fs, strict=True))
            for rs, fs in zip(real, fake, strict=True)
        ]
    )
    loss = losses.feature_matching(real, fake)
    loss.backward()
    assert loss.item() == pytest.approx(slow, rel=1e-5)
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None


def test_patch_contrast_is_its_definition():
    generator = torch.Generator().manual_seed(1)
    query = F.normalize(torch.randn(2, 6, 4, generator=generator), dim=-1)
    key = F.normalize(torch.randn(2, 6, 4, generator=generator), dim=-1)
    slow = []
    for b in range(2):
        for p in range(6):
            scores = [float(query[b, p] @ key[b, q]) / 0.07 for q in range(6)]
            slow.append(-scores[p] + math.log(sum(math.exp(s) for s in scores)))
    assert float(losses.patch_nce(query, key)) == pytest.approx(np.mean(slow), rel=1e-4)
    assert float(losses.patch_nce(key, key)) < float(losses.patch_nce(query, key))


def test_attention_is_compared_with_the_share_of_mask_in_each_cell():
    generator = torch.Generator().manual_seed(2)
    attention = torch.rand(2, 1, 2, 3, generator=generator)
    mask = (torch.rand(2, 1, 32, 48, generator=generator) > 0.6).float()
    inside = torch.ones(2, 1, 32, 48)
    inside[0, :, :16] = 0
    pictures = []
    for b in range(2):
        total = count = 0.0
        for i in range(2):
            for j in range(3):
                cell = np.s_[b, 0, 16 * i : 16 * i + 16, 16 * j : 16 * j + 16]
                share = float(inside[cell].mean())
                total += share * (float(attention[b, 0, i, j]) - float(mask[cell].mean())) ** 2
                count += share
        pictures.append(total / count)
    assert float(losses.attention_loss(attention, mask, inside)) == pytest.approx(np.mean(pictures), rel=1e-5)


def _filtered(frame, kernel):
    return np.array([[np.sum(kernel * frame[y : y + 3, x : x + 3]) for x in range(16)] for y in range(16)])


def test_gradient_variance_is_its_definition():
    generator = torch.Generator().manual_seed(3)
    first, second = (
        torch.rand(1, 2, 18, 18, generator=generator),
        torch.rand(1, 2, 18, 18, generator=generator),
    )
    sobel = np.array([[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]])
    found = []
    for c in range(2):
        for kernel in (sobel, sobel.T):
            slopes = [_filtered(frame[0, c].numpy(), kernel) for frame in (first, second)]
            for y in (0, 8):
                for x in (0, 8):
                    a, b = (s[y : y + 8, x : x + 8].var(ddof=1) for s in slopes)
                    found.append((a - b) ** 2)
    assert float(losses.gradient_variance(first, second)) == pytest.approx(np.mean(found), rel=1e-3)


def _slow_lesions(logits, target, inside, vessels, stride):
    """Loops over pixels; the weights of each are built up from what its neighbourhood holds."""
    pictures, types, size, _ = logits.shape
    reach = 16 // stride
    probability = 1 / (1 + np.exp(-logits))
    on, off, dice = [], [], []
    for kind in range(types):
        errors = {True: [0.0, 0.0], False: [0.0, 0.0]}
        overlap, sums = 0.0, 0.0
        for b in range(pictures):
            hit = (target[b, kind] > 0) & inside[b, kind]
            for y in range(size):
                for x in range(size):
                    if not inside[b, kind, y, x]:
                        continue
                    p, is_on = probability[b, kind, y, x], bool(hit[y, x])
                    if is_on:
                        near = hit[max(y - reach, 0) : y + reach + 1, max(x - reach, 0) : x + reach + 1]
                        weight = 1 / near.mean()
                    else:
                        edge = ~inside[b, kind, max(y - 2, 0) : y + 3, max(x - 2, 0) : x + 3]
                        weight = 3.0 if edge.any() or vessels[b, y, x] else 1.0
                    errors[is_on][0] -= weight * np.log(p if is_on else 1 - p)
                    errors[is_on][1] += weight
                    overlap += p * is_on
                    sums += p + is_on
        if errors[True][1]:
            on.append(errors[True][0] / errors[True][1])
            dice.append(1 - 2 * overlap / sums)
        off.append(errors[False][0] / errors[False][1])
    return 0.5 * np.mean(on) + 1.5 * np.mean(off) + 0.5 * np.mean(dice)


def test_dense_lesions_are_their_definition_at_two_strides():
    generator = torch.Generator().manual_seed(4)
    lesions = torch.zeros(2, 3, 16, 16)
    lesions[0, 0, 5, 5] = 1
    lesions[1, 0, 9:12, 2:4] = 0.8
    lesions[1, 2, 0, 0] = 1
    inside = torch.ones(2, 1, 16, 16)
    inside[0, :, :, 12:] = 0
    vessels = torch.zeros(2, 1, 16, 16)
    vessels[:, :, :, 7] = 0.9
    vessels[1, :, 9] = 0.1
    fine, coarse = (
        torch.randn(2, 3, 16, 16, generator=generator),
        torch.randn(2, 3, 4, 4, generator=generator),
    )
    slow = 0.0
    for logits, stride in ((fine, 1), (coarse, 4)):
        size = 16 // stride
        target = np.zeros((2, 3, size, size))
        seen = np.zeros((2, 3, size, size), bool)
        reduced = np.zeros_like(target)
        for y in range(size):
            for x in range(size):
                block = np.s_[:, :, y * stride : (y + 1) * stride, x * stride : (x + 1) * stride]
                reduced[:, :, y, x] = lesions[block].numpy().max((2, 3)) > 0.3
                seen[:, :, y, x] = inside[block].numpy().min((2, 3)) > 0
        for y in range(size):
            for x in range(size):
                target[:, :, y, x] = reduced[:, :, max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2].max((2, 3))
        on_vessel = vessels[:, 0].numpy().reshape(2, size, stride, size, stride).max((2, 4)) > 0.3
        slow += _slow_lesions(logits.double().numpy(), target, seen, on_vessel, stride)
    known = torch.tensor([True, True])
    found = losses.dense_lesions((fine, coarse), lesions, inside, known, vessels=vessels)
    assert float(found) == pytest.approx(slow, rel=1e-4)


def test_the_most_confident_unpainted_pixels_are_no_negatives_where_absence_is_unsure():
    lesions, inside = torch.zeros(1, 1, 20, 20), torch.ones(1, 1, 20, 20)
    logits = torch.full((1, 1, 20, 20), -3.0)
    logits[0, 0, 7, 7] = 6.0
    logits.requires_grad_()
    losses.dense_lesions((logits,), lesions, inside, torch.tensor([False]), left_out=1 / 400).backward()
    assert logits.grad[0, 0, 7, 7] == 0
    logits.grad = None
    losses.dense_lesions((logits,), lesions, inside, torch.tensor([True]), left_out=1 / 400).backward()
    assert logits.grad[0, 0, 7, 7] > 0


def test_vessels_and_rim_are_negatives_however_confident():
    lesions, inside, vessels = torch.zeros(1, 1, 20, 20), torch.ones(1, 1, 20, 20), torch.zeros(1, 1, 20, 20)
    vessels[..., 7] = 1
    inside[..., :3] = 0
    logits = torch.linspace(-3.01, -3.0, 400).view(1, 1, 20, 20)
    logits[0, 0, 7, 7] = logits[0, 0, 12, 3] = 6.0
    logits.requires_grad_()
    unsure = torch.tensor([False])
    losses.dense_lesions((logits,), lesions, inside, unsure, vessels=vessels, left_out=1 / 400).backward()
    plain = logits.grad[0, 0][logits.grad[0, 0] > 0].min()
    assert logits.grad[0, 0, 7, 7] > 50 * plain and logits.grad[0, 0, 12, 3] > 50 * plain


def test_doubtful_vessels_are_no_negatives_where_absence_is_unsure():
    """What was pruned from estimated vessels is often blood: taught as healthy, haemorrhages go unseen."""
    lesions, inside, sure = torch.zeros(1, 1, 20, 20), torch.ones(1, 1, 20, 20), torch.ones(1, 1, 20, 20)
    sure[..., 5:8, 5:8] = 0
    logits = torch.zeros(1, 1, 20, 20, requires_grad=True)
    losses.dense_lesions((logits,), lesions, inside, torch.tensor([False]), sure=sure, left_out=0).backward()
    assert not logits.grad[0, 0, 5:8, 5:8].any() and (logits.grad[0, 0, 9:] > 0).all()
    logits.grad = None
    losses.dense_lesions((logits,), lesions, inside, torch.tensor([True]), sure=sure, left_out=0).backward()
    assert (logits.grad > 0).all()


def test_a_small_lesion_counts_beside_a_large_one():
    """A spot of one pixel far from a lesion of a hundred: missing it costs more than a hundredth."""
    lesions, inside = torch.zeros(1, 1, 96, 96), torch.ones(1, 1, 96, 96)
    lesions[0, 0, 10:40, 10:40] = 1
    lesions[0, 0, 80, 80] = 1
    logits = torch.zeros(1, 1, 96, 96, requires_grad=True)
    losses.dense_lesions((logits,), lesions, inside, torch.tensor([True])).backward()
    pull = -logits.grad[0, 0].clamp(max=0)
    spot, large = pull[70:, 70:].sum(), pull[:50, :50].sum()
    assert spot > 0.2 * large  # by area it would be 9 of 1024


def test_no_lesions_at_all_is_a_loss_of_negatives_alone():
    logits = torch.randn(2, 3, 16, 16)
    found = losses.dense_lesions((logits,), torch.zeros(2, 3, 16, 16), torch.ones(2, 1, 16, 16), left_out=0)
    assert float(found) == pytest.approx(float(1.5 * F.softplus(logits).mean()), rel=1e-5)


def test_dense_vessels_are_cross_entropy_with_coverage_and_half_a_dice():
    random = torch.Generator().manual_seed(9)
    logits = torch.randn(2, 1, 6, 6, generator=random)
    coverage = torch.rand(2, 1, 6, 6, generator=random)
    inside = (torch.rand(2, 1, 6, 6, generator=random) > 0.4).float()
    errors, overlap, sums = [[], []], 0.0, 0.0
    for b in range(2):
        for y in range(6):
            for x in range(6):
                if inside[b, 0, y, x] == 0:
                    continue
                p, c = 1 / (1 + np.exp(-float(logits[b, 0, y, x]))), float(coverage[b, 0, y, x])
                errors[b].append(-c * np.log(p) - (1 - c) * np.log(1 - p))
                overlap += 2 * p * c
                sums += p + c
    slow = np.mean([np.mean(one) for one in errors]) + 0.5 * (1 - overlap / sums)
    assert float(losses.dense_vessels([logits], coverage, inside)) == pytest.approx(slow, rel=1e-4)
    coarse = torch.nn.functional.avg_pool2d(logits, 2)
    means = torch.nn.functional.avg_pool2d(coverage, 2)
    alone = losses.dense_vessels([coarse], means, torch.ones(2, 1, 3, 3))
    both = losses.dense_vessels([logits, coarse], coverage, torch.ones_like(inside))
    fine = losses.dense_vessels([logits], coverage, torch.ones_like(inside))
    assert float(both) == pytest.approx((float(alone) + float(fine)) / 2, rel=1e-5)
    blank = losses.dense_vessels([logits], torch.zeros_like(coverage), torch.zeros_like(inside))
    assert torch.isfinite(blank)


def test_anatomy_is_compared_where_it_is_known() -> None:
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(2, 4, 8, 8, generator=random, requires_grad=True)
    anatomy = torch.rand(2, 4, 8, 8, generator=random)
    known = torch.ones(2, 4, 8, 8)
    known[0, 1, :, :4] = 0
    value = losses.dense_anatomy([logits], anatomy, known)
    parts = [
        losses.dense_vessels([logits[:, k : k + 1]], anatomy[:, k : k + 1], known[:, k : k + 1])
        for k in range(4)
    ]
    assert value.item() == pytest.approx(torch.stack(parts).mean().item(), rel=1e-6)
    value.backward()
    assert logits.grad is not None
    assert float(logits.grad[0, 1, :, :4].abs().max()) == 0 < float(logits.grad[0, 1, :, 4:].abs().min())


def test_arteries_are_told_from_veins_on_vessels_alone_and_by_how_sure_they_are() -> None:
    random = torch.Generator().manual_seed(5)
    logits = torch.randn(2, 2, 6, 6, generator=random, requires_grad=True)
    anatomy = torch.rand(2, 2, 6, 6, generator=random)
    anatomy[:, :, :2] = 0  # no vessel
    anatomy[:, :, 2] = 0.4  # either
    known = (torch.rand(2, 1, 6, 6, generator=random) > 0.3).float()
    fixed = logits.detach()
    errors, weights = 0.0, 0.0
    for b in range(2):
        for y, x in np.ndindex(6, 6):
            artery, vein = (float(anatomy[b, k, y, x]) for k in (0, 1))
            if artery + vein == 0:
                continue
            p = 1 / (1 + np.exp(float(fixed[b, 1, y, x]) - float(fixed[b, 0, y, x])))
            share = artery / (artery + vein)
            weight = abs(artery - vein) * float(known[b, 0, y, x])
            errors -= weight * (share * np.log(p) + (1 - share) * np.log(1 - p))
            weights += weight
    value = losses.artery_or_vein([logits], anatomy, known)
    assert value.item() == pytest.approx(errors / weights, rel=1e-4)
    value.backward()
    assert logits.grad is not None
    assert float(logits.grad[:, :, :3].abs().max()) == 0 < float(logits.grad[:, :, 3:].abs().max())
    coarse = torch.nn.functional.avg_pool2d(fixed, 2)
    halves = [torch.nn.functional.avg_pool2d(maps, 2) for maps in (anatomy, known)]
    alone = losses.artery_or_vein([coarse], halves[0], halves[1])
    both = losses.artery_or_vein([fixed, coarse], anatomy, known)
    assert both.item() == pytest.approx((value.item() + alone.item()) / 2, rel=1e-5)
    assert float(losses.artery_or_vein([coarse], torch.zeros_like(anatomy), known)) == 0
