"""What the generator is shown of the last triple of frames."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.network.masks import OUTSIDE, field_of_view


def blurred_last(last: Tensor, inside: Tensor, reach: int) -> Tensor:
    """Last triples without anything finer than ``reach`` pixels: the phase shows, vessels do not.

    Args:
        last: ``(B, 3, H, W)`` in [-1, 1], -1 outside the field of view.
        inside: field of view ``(B, 1, H, W)``, 0 or 1.
        reach: side of the squares whose means are taken, in pixels.
    """
    height, width = last.shape[-2:]
    padding = (0, -width % reach, 0, -height % reach)

    def spread(values: Tensor) -> Tensor:
        means = F.avg_pool2d(F.pad(values, padding), reach)
        wide = F.interpolate(means, scale_factor=float(reach), mode="bilinear", align_corners=False)
        return wide[..., :height, :width]

    # Both are spread before they are divided: what lies outside must not leak in at the rim.
    grey, weight = spread(last * inside), spread(inside)
    return torch.where(inside > 0.5, (grey / weight.clamp_min(1e-6)).clamp(-1, 1), OUTSIDE)


def remembered(photo: Tensor, last: Tensor, reach: int) -> Tensor:
    """The last triple as a generator with ``memory=reach`` sees it.

    A network that sees its own frames sharp copies and sharpens them until grain has become spots. Told the
    phase alone, it has to read everything else off the photo, in the twelfth frame as in the first. Where the
    photo stands in for the last triple, at the first step, it stays as it is.

    Args:
        photo: ``(B, 3, H, W)`` in [-1, 1], -1 outside the field of view.
        last: ``(B, 3, H, W)``, the last triple or the photo.
        reach: side of the squares whose means are seen, in pixels; 0 shows everything.
    """
    if reach == 0:
        return last
    inside = field_of_view(photo)[:, None].to(last.dtype)
    stands_in = (photo == last).flatten(1).all(1).view(-1, 1, 1, 1)
    return torch.where(stands_in, last, blurred_last(last, inside, reach))
