"""Views to signatures."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm.signatures.basis import SignatureBasis, Signatures
from retina_fm.signatures.spectrum import HARMONICS, RADII, harmonics
from retina_fm.signatures.vessel_maps import map_vessels, with_network

Network = Callable[[NDArray[np.uint8], NDArray[np.bool_]], NDArray[np.floating]]
"""Views ``uint8 (N, S, S, 3)``, and which have bright vessels, to probabilities ``(N, SIDE, SIDE)``."""


class Readings(NamedTuple):
    """What was read off views.

    Attributes:
        spectra: complex64 ``(N, RADII, HARMONICS)``.
        strength: ``(N,)`` of the surest lines; see :class:`retina_fm.signatures.vessel_maps.VesselMap`.
        bright: ``(N,)`` whether vessels are bright.
    """

    spectra: NDArray[np.complex64]
    strength: NDArray[np.float32]
    bright: NDArray[np.bool_]


def read_patterns(
    views: NDArray[np.uint8],
    fields: Sequence[NDArray[np.bool_] | None] | None = None,
    network: Network | None = None,
) -> Readings:
    """The pattern of vessels of each view.

    Args:
        views: ``uint8 (N, S, S, 3)``, black outside the field of view.
        fields: of view, each bool ``(S, S)``; where a view is not black without it.
        network: gives vessel maps to be joined with the lines; see :func:`inverted`.
    """
    masks = [None] * len(views) if fields is None else fields
    seen = [map_vessels(view, mask) for view, mask in zip(views, masks, strict=True)]
    bright = np.array([one.bright for one in seen], np.bool_)
    if network is not None and len(views):
        maps = network(views, bright)
        seen = [with_network(one, found) for one, found in zip(seen, maps, strict=True)]
    spectra = [harmonics(one.vessels, one.field) for one in seen]
    return Readings(
        np.stack(spectra) if spectra else np.empty((0, RADII, HARMONICS), np.complex64),
        np.array([one.strength for one in seen], np.float32),
        bright,
    )


def inverted(views: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Views with light and dark changed: for a network that learnt dark vessels to see an angiogram's."""
    return np.where(views.any(axis=-1, keepdims=True), 255 - views, 0).astype(np.uint8)


def signatures_of(
    views: NDArray[np.uint8],
    basis: SignatureBasis,
    fields: Sequence[NDArray[np.bool_] | None] | None = None,
    network: Network | None = None,
) -> Signatures:
    """Signatures ``float32 (N, basis.length)`` of length one; zeros where no retina is seen.

    Args:
        views: see :func:`read_patterns`.
        basis: what is kept, and below which strength nothing is.
        fields: see :func:`read_patterns`.
        network: used where the basis needs it.
    """
    found = read_patterns(views, fields, network if basis.needs_network else None)
    rows = basis.project(found.spectra)
    rows[found.strength < basis.gate[0]] = 0
    return rows
