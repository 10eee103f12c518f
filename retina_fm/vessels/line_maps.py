"""Dark lines of a view as one more map: the line filter knows what one example cannot teach."""

from __future__ import annotations

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from retina_fm.vessels.line_filter import flatten, line_strength

_STRONG = 8.0  # times the noise: a clear vessel
_ROUNDED = 8.0  # pixels of radius that share a bank of filters


def line_maps(views: Tensor) -> Tensor:
    """Strength of dark lines ``float32 (N, 1, S, S)``, about 1 in clear vessels, of views in [0, 1].

    Args:
        views: ``(N, 3, S, S)``, 0 outside the field of view.
    """
    pixels = (views.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    found = [_lines(one) for one in pixels.permute(0, 2, 3, 1).cpu().numpy()]
    return torch.from_numpy(np.stack(found))[:, None].to(views.device)


def _lines(view: np.ndarray) -> np.ndarray:
    inside = np.asarray(ndimage.binary_fill_holes(view.any(axis=2)), bool)
    if not inside.any():
        return np.zeros(view.shape[:2], np.float32)
    reach = max(int(np.ptp(np.flatnonzero(inside.any(axis)))) + 1 for axis in (0, 1)) / 2
    radius = max(_ROUNDED, round(reach / _ROUNDED) * _ROUNDED)
    strength = line_strength(flatten(view, inside, radius), inside, radius)
    return np.asarray(np.clip(strength / _STRONG, 0, 2), np.float32)
