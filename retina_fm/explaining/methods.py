"""From evidence to a map of it over the view: what hiding a place changes, or what its pixels add up to."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from retina_fm.errors import MissingDependencyError
from retina_fm.explaining.background import background_of
from retina_fm.explaining.evidence import Evidence

STEPS = 16
"""Views on the way from background to photo, whose gradients are added up."""

Heat = NDArray[np.float32]


def occlusion(evidence: Evidence, inside: NDArray[np.bool_], windows: int, batch_size: int) -> Heat:
    """How much evidence goes when a window is hidden behind the photo's background, ``float32 (S, S)``.

    Two grids of windows, one shifted by half a window both ways; a pixel has the mean of its two. Zeiler and
    Fergus 2014 (ECCV), with windows that lie side by side and not on each other, which takes a quarter of the
    views.

    Args:
        evidence: of the view.
        inside: field of view, ``bool (S, S)``.
        windows: along a side.
        batch_size: views a pass of the network.
    """
    ablation = _captum().FeatureAblation(evidence.of)
    hidden = evidence.scale(background_of(evidence.view, inside))
    found = []
    for cells in grids(inside, windows):
        mask = torch.from_numpy(cells)[None, None].to(evidence.scaled.device)
        with torch.no_grad():
            one = ablation.attribute(
                evidence.scaled, baselines=hidden, feature_mask=mask, perturbations_per_eval=batch_size
            )
        found.append(one[0, 0].double().cpu().numpy())
    heat = np.where(inside, np.mean(found, axis=0), 0)
    return np.asarray(heat, np.float32)


def gradients(evidence: Evidence, inside: NDArray[np.bool_], windows: int, batch_size: int) -> Heat:
    """Integrated gradients from background to photo, added up round each pixel, ``float32 (S, S)``.

    Sundararajan et al. 2017 (ICML): the attributions of all pixels add up to the difference in evidence
    between the photo and its background. Single pixels are noise; a pixel of the map has the sum over the
    window round it, with weights that fall towards its edge, so that the unit is that of occlusion.

    Args:
        evidence: of the view.
        inside: field of view, ``bool (S, S)``.
        windows: along a side.
        batch_size: views a pass of the network, forth and back.
    """
    integrated = _captum().IntegratedGradients(evidence.of, multiply_by_inputs=True)
    found = integrated.attribute(
        evidence.scaled,
        baselines=evidence.scale(background_of(evidence.view, inside)),
        n_steps=STEPS,
        internal_batch_size=batch_size,
    )
    pixels = found[0].detach().double().sum(0).cpu().numpy()
    width = max(1, pixels.shape[0] // windows)
    summed = ndimage.uniform_filter(pixels, width, mode="constant")
    summed = ndimage.uniform_filter(summed, width, mode="constant") * width**2
    return np.asarray(np.where(inside, summed, 0), np.float32)


def grids(inside: NDArray[np.bool_], windows: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Two maps of windows ``int64 (S, S)``, numbered from 0, the second shifted by half a window.

    What lies outside the field of view has the number of the nearest window inside: it costs no view of its
    own.
    """
    size = inside.shape[0]
    width = size / windows
    found = []
    for shift in (0.0, 0.5):
        row = np.floor((np.arange(size) + 0.5) / width + shift).astype(np.int64)
        cells = row[:, None] * (windows + 1) + row[None, :]
        there, numbers = np.unique(cells[inside], return_inverse=True)
        whole = np.zeros((size, size), np.int64)
        whole[inside] = numbers.reshape(-1)
        if len(there) and not inside.all():
            nearest = ndimage.distance_transform_edt(~inside, return_distances=False, return_indices=True)
            whole = whole[tuple(nearest)]
        found.append(whole)
    return found[0], found[1]


def views_of(method: str, inside: NDArray[np.bool_], windows: int) -> int:
    """How many views the network is asked about."""
    if method == "gradients":
        return STEPS
    # the whole view is asked about once a grid
    return sum(len(np.unique(cells[inside])) + 1 for cells in grids(inside, windows))


def _captum() -> Any:
    try:
        import captum.attr
    except ImportError:
        raise MissingDependencyError(
            "captum is not installed; heat maps need the extra: pip install captum (or '.[explain]' in a "
            "checkout)."
        ) from None
    return captum.attr
