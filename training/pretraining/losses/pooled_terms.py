"""Terms on the pooled photo: agreement of two views of an eye, and how much of each lesion it holds.

Both read mean and spread of the encoder's five maps, as the encoder of a photo sees it (the photo twice).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from retina_fm.network import Architecture
from retina_fm.network.encoder import run_trunk
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.simulator.rendering.camera import degrade_photo
from retina_fm.training.simulator.rendering.eye_batch import Window
from retina_fm.training.simulator.rendering.parameters import draw_camera

_EXPANDED = 256
_VARIANCE_FLOOR = 1e-4
_SMALLEST_LOAD = 1e-5  # of the field of view: one microaneurysm


class PooledHeads(nn.Module):
    """Pooled maps to a space in which two views agree, and to lesion loads.

    Args:
        architecture: of the generator.
        agreement: whether views are compared.
        lesion_load: whether loads are predicted.
    """

    def __init__(self, architecture: Architecture, *, agreement: bool, lesion_load: bool) -> None:
        super().__init__()
        length = 2 * sum(architecture.channels)
        self.blocks = architecture.encoder_blocks
        self.doubled = architecture.in_channels // 3
        self.expander = (
            nn.Sequential(
                nn.LayerNorm(length), nn.Linear(length, _EXPANDED), nn.ReLU(), nn.Linear(_EXPANDED, _EXPANDED)
            )
            if agreement
            else None
        )
        self.load = (
            nn.Sequential(nn.LayerNorm(length), nn.Linear(length, len(architecture.lesions)))
            if lesion_load
            else None
        )

    def pooled(self, model: nn.Sequential, photo: Tensor, inside: Tensor) -> Tensor:
        """Mean and standard deviation inside the field of view of each channel of the five maps.

        Args:
            model: the generator's layers.
            photo: ``(B, 3, H, W)`` in [-1, 1].
            inside: ``(B, 1, H, W)``, 0 or 1.

        Returns:
            ``(B, 2 * sum of channels)`` float32.
        """
        parts = []
        for raw, maps in run_trunk(model, photo.repeat(1, self.doubled, 1, 1), self.blocks):
            # Before the normalisation, as the shipped pooling reads them: after it every mean is zero.
            values = (maps if raw is None else raw).float()
            weight = F.adaptive_avg_pool2d(inside, (values.shape[-2], values.shape[-1]))
            total = weight.sum((2, 3)).clamp_min(1e-6)
            mean = (values * weight).sum((2, 3)) / total
            spread = ((values - mean[..., None, None]).square() * weight).sum((2, 3)) / total
            parts += [mean, (spread + 1e-6).sqrt()]
        return torch.cat(parts, 1)


def second_view(samples: Samples, seed: int) -> tuple[Tensor, Tensor]:
    """The same eyes taken again: mirrored, in another light, with another camera.

    Returns:
        Photo ``(B, 3, H, W)`` in [-1, 1] and its field of view ``(B, 1, H, W)``.
    """
    camera = draw_camera(torch.Generator().manual_seed(seed), len(samples)).to(samples.photo.device)
    inside = samples.field_of_view.flip(-1)
    window = Window(
        {"field_of_view": inside}, samples.photo, None, inside.new_zeros(len(samples)), inside.new_zeros(1)
    )
    photo = degrade_photo((samples.photo.flip(-1) + 1) / 2, window, camera)
    return torch.where(inside > 0.5, photo * 2 - 1, -1.0), inside


def view_agreement(first: Tensor, second: Tensor) -> Tensor:
    """Variance, invariance, covariance of two views' vectors ``(B, D)``.

    ``25 MSE + 25 hinge of the standard deviations below 1 + 1 mean squared covariance off the diagonal``. A
    batch of fewer than some hundred pictures has little to say about variance.

    Source: Bardes, Ponce and LeCun, "VICReg" (ICLR 2022).
    """
    first, second = first.float(), second.float()
    invariance = F.mse_loss(first, second)
    variance, covariance = first.new_zeros(()), first.new_zeros(())
    for vectors in (first, second):
        centred = vectors - vectors.mean(0)
        deviation = (centred.square().sum(0) / max(1, len(vectors) - 1) + _VARIANCE_FLOOR).sqrt()
        variance = variance + F.relu(1 - deviation).mean() / 2
        matrix = centred.t() @ centred / max(1, len(vectors) - 1)
        outside = matrix.square().sum() - matrix.diagonal().square().sum()
        covariance = covariance + outside / vectors.shape[1]
    return 25 * invariance + 25 * variance + covariance


def lesion_load(lesions: Tensor, inside: Tensor) -> Tensor:
    """Share of the field of view that each lesion type covers, as a logarithm that is 0 for none.

    Args:
        lesions: coverage ``(B, L, H, W)`` in [0, 1], painted or given.
        inside: ``(B, 1, H, W)``.

    Returns:
        ``(B, L)``, about 0 to 10.
    """
    share = (lesions * inside).sum((2, 3)) / inside.sum((2, 3)).clamp_min(1.0)
    return torch.log1p(share / _SMALLEST_LOAD)
