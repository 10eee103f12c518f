"""Vessels by Frangi's filter at several widths: the classical answer, without any learning."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import MissingDependencyError
from retina_fm.pictures import Transform

_WIDTHS = (1.0, 1.5, 2.0, 3.0, 4.0)
_SIZE = 512


def frangi_vessels(path: Path) -> NDArray[np.float32]:
    """Vesselness of each pixel of a photo, ``float32 (H, W)``, 0 outside the field of view.

    The green channel of a view of 512 pixels, the outside filled with the mean of what is near so that the
    rim is no edge; dark ridges of 1 to 4 pixels' spread.

    Source: Frangi et al., "Multiscale vessel enhancement filtering" (MICCAI 1998), as in scikit-image.

    Raises:
        MissingDependencyError: scikit-image is not installed.
    """
    from scipy.ndimage import gaussian_filter

    try:
        from skimage.filters import frangi
    except ImportError:
        raise MissingDependencyError(
            "Frangi's filter needs scikit-image, which is not installed. Install it with: "
            "pip install scikit-image (or '.[evaluate]' in a checkout)"
        ) from None
    view, geometry = Transform(size=_SIZE).view(path)
    inside = geometry.mask_in_view()
    weight = inside.astype(np.float64)
    green = view[..., 1].astype(np.float64) / 255 * weight
    near = gaussian_filter(green, 16) / np.maximum(gaussian_filter(weight, 16), 1e-4)
    filled = np.where(inside, green, near)
    even = filled - gaussian_filter(filled, 16)  # shading and the disc's rim are wide, vessels are not
    ridges: Any = frangi
    score = np.asarray(ridges(even, sigmas=_WIDTHS, black_ridges=True), np.float32)
    found = geometry.picture_of(score, "bilinear").astype(np.float32)
    return np.asarray(np.where(geometry.mask_in_picture(), found, np.float32(0)))
