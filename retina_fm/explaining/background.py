"""A view with its detail taken out: what a place is hidden behind, so that hiding it adds nothing new."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

_SIDE = 128
_WINDOW = 0.2
"""Share of the view's side that a median is taken over: wider than the disc and most patches of lesions."""


def background_of(view: NDArray[np.uint8], inside: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """The slow course of colour and light over a view.

    Black or grey in place of a region would be a thing of its own, with edges that no retina has, and black
    lies outside the field of view by definition. A wide median leaves the colour of the place, and takes
    vessels, lesions and the disc with it.

    Args:
        view: ``uint8 (S, S, 3)``.
        inside: field of view, ``bool (S, S)``.

    Returns:
        ``uint8 (S, S, 3)``; outside the field of view the view itself.
    """
    size = view.shape[0]
    side = min(_SIDE, size)
    small = np.asarray(Image.fromarray(view).resize((side, side), Image.Resampling.BOX))
    # a small pixel that is not wholly inside has black mixed in
    whole = np.asarray(
        Image.fromarray(inside.astype(np.uint8) * 255).resize((side, side), Image.Resampling.BOX)
    )
    lit = whole == 255
    if not lit.any():
        return view.copy()
    nearest = ndimage.distance_transform_edt(~lit, return_distances=False, return_indices=True)
    filled = small[tuple(nearest)]
    window = max(3, round(_WINDOW * side))
    smooth = np.stack([ndimage.median_filter(filled[..., c], window, mode="nearest") for c in range(3)], -1)
    large = np.array(Image.fromarray(smooth).resize((size, size), Image.Resampling.BILINEAR))
    # pure black would be outside
    return np.asarray(np.where(inside[..., None], np.maximum(large, 1), view), np.uint8)
