"""Losses of generative pretraining, as pure functions of tensors.

Means are taken over what lies inside the field of view; frames are in [-1, 1]. Each function has a slow
loop beside it in the tests.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.learning import soft_dice

_DOUBTFUL = 0.2  # share of a pixel at a coarse stride from which it is no negative
_EPS = 1e-6


def inside_mean(values: Tensor, inside: Tensor) -> Tensor:
    """Mean of ``(B, C, H, W)`` over the pixels of ``(B, 1, H, W)``, a picture and then over pictures.

    Each picture weighs the same, however much of its field of view a crop shows.
    """
    weight = inside.expand_as(values).flatten(1)
    total = (values.flatten(1) * weight).sum(1) / weight.sum(1).clamp_min(1.0)
    return total.mean()


def local_mean(values: Tensor, window: int) -> Tensor:
    """Mean over a square of ``window`` pixels (odd); at the border, over the part that exists."""
    half = window // 2  # the part of a square that exists is a rectangle, so one axis follows the other
    rows = F.avg_pool2d(values, (1, window), stride=1, padding=(0, half), count_include_pad=False)
    return F.avg_pool2d(rows, (window, 1), stride=1, padding=(half, 0), count_include_pad=False)


def weighted_l1(
    prediction: Tensor, target: Tensor, inside: Tensor, *, detail: float = 10.0, window: int = 15
) -> Tensor:
    """L1 whose weight grows where the target differs from its surroundings: vessels and lesions.

    The weight of a pixel is ``1 + detail * |target - local mean of target|``; plain L1 is won by a constant
    frame for hundreds of steps.

    Args:
        prediction: frames ``(B, 3, H, W)``.
        target: of the same shape.
        inside: field of view ``(B, 1, H, W)``, 0 or 1.
        detail: how much more fine structure counts.
        window: side of the surroundings in pixels.
    """
    weight = 1 + detail * (target - local_mean(target, window)).abs()
    return inside_mean(weight * (prediction - target).abs(), inside)


def correlation_loss(prediction: Tensor, target: Tensor, inside: Tensor) -> Tensor:
    """1 minus Pearson's correlation, a frame inside the field of view, averaged; shapes as above."""
    weight = inside.expand_as(target).flatten(2)
    count = weight.sum(-1, keepdim=True).clamp_min(1.0)
    first, second = prediction.flatten(2), target.flatten(2)
    first = (first - (first * weight).sum(-1, keepdim=True) / count) * weight
    second = (second - (second * weight).sum(-1, keepdim=True) / count) * weight
    spread = (first.square().sum(-1) * second.square().sum(-1) + _EPS).sqrt()
    return (1 - (first * second).sum(-1) / spread).mean()


def lsgan_generator(scores: Sequence[Tensor]) -> Tensor:
    """Least-squares GAN, generator's side: mean of ``(D(fake) - 1)^2`` a discriminator, summed.

    Source: Mao et al., "Least Squares Generative Adversarial Networks" (ICCV 2017).
    """
    return torch.stack([(score - 1).square().mean() for score in scores]).sum()


def lsgan_discriminator(real: Sequence[Tensor], fake: Sequence[Tensor]) -> Tensor:
    """Least-squares GAN, discriminators' side: half of ``(D(real) - 1)^2 + D(fake)^2``, summed."""
    terms = [(r - 1).square().mean() + f.square().mean() for r, f in zip(real, fake, strict=True)]
    return 0.5 * torch.stack(terms).sum()


def feature_matching(real: Sequence[Sequence[Tensor]], fake: Sequence[Sequence[Tensor]]) -> Tensor:
    """L1 between discriminators' inner maps of real and of generated frames.

    Source: pix2pixHD (Wang et al., CVPR 2018, equation 3), summed over a discriminator's layers and averaged
    over the discriminators, as its public code does.

    Args:
        real: a discriminator's maps without its last, for each discriminator; no gradient flows into them.
        fake: the same for generated frames.
    """
    terms = [
        torch.stack([(f - r.detach()).abs().mean() for r, f in zip(reals, fakes, strict=True)]).sum()
        for reals, fakes in zip(real, fake, strict=True)
    ]
    return torch.stack(terms).mean()


def patch_nce(query: Tensor, key: Tensor, temperature: float = 0.07) -> Tensor:
    """Contrast of patches at the same place against patches at other places of the same picture.

    Source: Park et al., "Contrastive Learning for Unpaired Image-to-Image Translation" (ECCV 2020).

    Args:
        query: unit vectors ``(B, P, C)`` of the generated frames.
        key: unit vectors ``(B, P, C)`` of the photo, or of the true frames, at the same places; no gradient
            flows into them.
        temperature: of the softmax.
    """
    logits = torch.einsum("bpc,bqc->bpq", query.float(), key.detach().float()) / temperature
    places = torch.arange(logits.shape[1], device=logits.device).expand(logits.shape[:2])
    return F.cross_entropy(logits.flatten(0, 1), places.flatten())


def attention_loss(attention: Tensor, mask: Tensor, inside: Tensor) -> Tensor:
    """Mean of ``(A - m)^2`` over the cells of the attention map (the paper, Methods).

    Args:
        attention: ``(B, 1, H / 16, W / 16)`` in (0, 1).
        mask: knowledge mask ``(B, 1, H, W)``; a cell's m is its share of mask.
        inside: field of view ``(B, 1, H, W)``; a cell counts by its share inside.
    """
    shape = (attention.shape[-2], attention.shape[-1])
    share = F.adaptive_avg_pool2d(mask, shape)
    return inside_mean((attention - share).square(), F.adaptive_avg_pool2d(inside, shape))


def gradient_variance(prediction: Tensor, target: Tensor, *, patch: int = 8) -> Tensor:
    """Squared difference of the variances of Sobel gradients, a patch: against smeared frames.

    Source: Abrahamyan et al., "Gradient Variance Loss for Structure-Enhanced Image Super-Resolution"
    (ICASSP 2022).

    Args:
        prediction: ``(B, C, H, W)``.
        target: of the same shape.
        patch: side of a patch; sides that it does not divide lose the rest.
    """
    sobel = prediction.new_tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([sobel, sobel.t()])[:, None]

    def variances(frames: Tensor) -> Tensor:
        slopes = F.conv2d(frames.flatten(0, 1)[:, None], kernels)
        mean = F.avg_pool2d(slopes, patch)
        size = patch * patch
        return (F.avg_pool2d(slopes.square(), patch) - mean.square()).clamp_min(0) * size / (size - 1)

    return (variances(prediction.float()) - variances(target.float())).square().mean()


def dense_vessels(logits: Sequence[Tensor], vessels: Tensor, inside: Tensor) -> Tensor:
    """Prediction of the vessel map: cross-entropy with the coverage, and half of ``1 - Dice`` of the batch.

    Nothing is balanced, so that the map stays a probability. The mean over the strides.

    Args:
        logits: ``(B, 1, H / s, W / s)`` for strides s that divide H and W.
        vessels: coverage ``(B, 1, H, W)`` in [0, 1].
        inside: where it is known, ``(B, 1, H, W)``, 0 or 1.
    """
    return torch.stack([_vessel_term(one, vessels, inside) for one in logits]).mean()


def _vessel_term(logits: Tensor, vessels: Tensor, inside: Tensor) -> Tensor:
    logits = logits.float()
    stride = vessels.shape[-1] // logits.shape[-1]
    if stride > 1:
        vessels = F.avg_pool2d(vessels, stride)
        inside = (F.avg_pool2d(inside, stride) > 0.99).float()
    errors = F.binary_cross_entropy_with_logits(logits, vessels, reduction="none")
    dice = soft_dice(logits.sigmoid() * inside, vessels * inside)
    return inside_mean(errors, inside) + 0.5 * (1 - dice)


def dense_anatomy(logits: Sequence[Tensor], anatomy: Tensor, known: Tensor) -> Tensor:
    """Prediction of arteries, veins, disc and fovea: each as the vessel map, the mean over the parts.

    Args:
        logits: ``(B, A, H / s, W / s)`` for strides s that divide H and W.
        anatomy: coverage ``(B, A, H, W)`` in [0, 1].
        known: where each is, ``(B, A, H, W)``, 0 or 1.
    """
    each = [maps.chunk(maps.shape[1], 1) for maps in (anatomy, known, *logits)]
    return torch.stack(
        [dense_vessels(one, part, where) for part, where, *one in zip(*each, strict=True)]
    ).mean()


def artery_or_vein(logits: Sequence[Tensor], anatomy: Tensor, known: Tensor) -> Tensor:
    """Cross-entropy of artery against vein, on vessels alone, the mean over the strides.

    In the maps' own terms a vessel pixel's kind is a small part of a loss that is mostly about where vessels
    lie. Here nothing else counts, and a pixel counts by how sure its kind is: one that is shared evenly says
    nothing.

    Args:
        logits: of arteries and of veins, ``(B, 2, H / s, W / s)`` for strides s that divide H and W.
        anatomy: coverage of both, ``(B, 2, H, W)`` in [0, 1].
        known: where they are, ``(B, 1, H, W)``, 0 or 1.
    """
    return torch.stack([_kind_term(one, anatomy, known) for one in logits]).mean()


def _kind_term(logits: Tensor, anatomy: Tensor, known: Tensor) -> Tensor:
    stride = anatomy.shape[-1] // logits.shape[-1]
    if stride > 1:
        anatomy, known = F.avg_pool2d(anatomy, stride), F.avg_pool2d(known, stride)
    artery, vein = anatomy.chunk(2, 1)
    first, second = logits.float().chunk(2, 1)
    weight = (artery - vein).abs() * known
    share = artery / (artery + vein).clamp_min(_EPS)
    errors = F.binary_cross_entropy_with_logits(first - second, share, reduction="none")
    return (errors * weight).sum() / weight.sum().clamp_min(1.0)


def dense_lesions(
    logits: Sequence[Tensor],
    lesions: Tensor,
    inside: Tensor,
    known: Tensor | None = None,
    *,
    vessels: Tensor | None = None,
    sure: Tensor | None = None,
    left_out: float = 0.03,
) -> Tensor:
    """Prediction of lesion maps at several strides, summed.

    A stride's term is ``0.5 BCE on lesion pixels + 1.5 BCE on the others + 0.5 Dice``, each the mean over the
    types that are there, targets dilated 3 x 3 pixels of that stride. Lesions of 300 pixels and of 10 stand
    beside each other, so a lesion's pixels weigh less the more of their neighbourhood is of that lesion.
    Vessels and the rim of the field of view look most like blood: they weigh three times as much as other
    places without a lesion.

    Real photographs have real lesions that nobody marked: where absence is not certain, the most confident
    ``left_out`` of the pixels without a lesion, off vessels and rim, are no negatives. Nor are places where
    even the vessels are unsure: what was pruned from their estimate for hanging on nothing is often blood.

    Args:
        logits: ``(B, L, H / s, W / s)`` for strides s that divide H and W.
        lesions: coverage ``(B, L, H, W)`` in [0, 1].
        inside: field of view ``(B, 1, H, W)``.
        known: bool ``(B,)``, True where pixels without a lesion are certainly without; False without it.
        vessels: coverage ``(B, 1, H, W)`` in [0, 1].
        sure: ``(B, 1, H, W)``, 0 where vessels are unsure, 1 elsewhere inside the field; None: all sure.
        left_out: share of pixels that are no negatives where absence is not certain.
    """
    unsure = torch.ones(len(lesions), dtype=torch.bool, device=lesions.device)
    if known is not None:
        unsure = ~known
    if vessels is None:
        vessels = torch.zeros_like(inside)
    doubt = torch.zeros_like(inside) if sure is None else inside * (1 - sure) * unsure[:, None, None, None]
    return torch.stack(
        [_lesion_term(one, lesions, inside, vessels, doubt, unsure, left_out) for one in logits]
    ).sum()


def _lesion_term(
    logits: Tensor,
    lesions: Tensor,
    inside: Tensor,
    vessels: Tensor,
    doubt: Tensor,
    unsure: Tensor,
    left_out: float,
) -> Tensor:
    logits = logits.float()
    stride = lesions.shape[-1] // logits.shape[-1]

    def reduced(maps: Tensor, kind: Callable[[Tensor, int], Tensor]) -> Tensor:
        return kind(maps, stride) if stride > 1 else maps

    target = F.max_pool2d(reduced((lesions > 0.3).float(), F.max_pool2d), 3, stride=1, padding=1)
    seen = (reduced(inside, F.avg_pool2d) > 0.99).float()
    positive = target * seen
    negative = (1 - target) * seen * (reduced(doubt, F.avg_pool2d) < _DOUBTFUL)
    rim = F.max_pool2d(1 - seen, 5, stride=1, padding=2)
    lookalike = torch.maximum(rim, (reduced(vessels, F.max_pool2d) > 0.3).float())
    if left_out > 0 and bool(unsure.any()):
        off_lookalikes = negative * (1 - lookalike)
        negative = negative * _not_suspect(logits.detach(), off_lookalikes, unsure, left_out)
    side = 2 * (16 // stride) + 1
    crowd = _window_mean(_window_mean(positive, (side, 1)), (1, side))
    errors = (
        _mean_of_types(F.softplus(-logits), positive / crowd.clamp_min(1 / side**2)),
        _mean_of_types(F.softplus(logits), negative * (1 + 2 * lookalike)),
    )
    probability = logits.sigmoid() * (positive + negative)
    there = (positive.sum((0, 2, 3)) > 0).float()
    dice = ((1 - soft_dice(probability, positive, (0, 2, 3))) * there).sum() / there.sum().clamp_min(1.0)
    return 0.5 * errors[0] + 1.5 * errors[1] + 0.5 * dice


def _window_mean(maps: Tensor, window: tuple[int, int]) -> Tensor:
    """Mean over a window of odd sides; one side at a time is a square's at a fraction of its cost."""
    margin = (window[0] // 2, window[1] // 2)
    return F.avg_pool2d(maps, window, stride=1, padding=margin, count_include_pad=False)


def _mean_of_types(values: Tensor, weights: Tensor) -> Tensor:
    """Weighted mean over the pixels of each type (axis 1), then over the types that have any."""
    total = weights.sum((0, 2, 3))
    there = (total > 0).float()
    return ((values * weights).sum((0, 2, 3)) / total.clamp_min(_EPS)).sum() / there.sum().clamp_min(1.0)


def _not_suspect(logits: Tensor, negative: Tensor, unsure: Tensor, share: float) -> Tensor:
    """1 for negatives that count, 0 for the most confident share of them, a picture and type."""
    flat = logits.masked_fill(negative < 0.5, -torch.inf).flatten(2)
    count = max(1, round(share * flat.shape[-1]))
    threshold = flat.topk(count, dim=-1).values[..., -1:]
    keep = (flat < threshold) | ~unsure[:, None, None]
    return keep.view_as(logits).to(logits.dtype)
