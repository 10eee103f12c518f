"""A basis from photographs: which directions to keep, and how alike different eyes are by chance."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm.errors import ConfigError
from retina_fm.signatures.basis import SignatureBasis, Signatures
from retina_fm.signatures.spectrum import HARMONICS

RATES = 10.0 ** -np.arange(1, 6.5, 0.5)
"""At which thresholds are noted: a tenth to a millionth."""
_COUNTED = 10
_JUDGED = np.array([1e-2, 1e-3, 1e-4])
"""Rates at which the best over turns is to be as rare as the plain cosine, once it has paid its discount."""
_EVENED = 0.25
"""Power of a direction's variance that is taken off: a half would be whitening. Parts of a field and zoomed
ones are found better the more is taken, the same eye by other cameras worse from 0.4 on."""
_QUERIES = 64


def fit_basis(
    spectra: NDArray[np.complex64],
    strength: NDArray[np.floating],
    groups: Sequence[Any],
    *,
    gate: float,
    directions: int = 128,
    lines_alone: bool = True,
) -> SignatureBasis:
    """The directions in which spectra vary most, and thresholds from pairs of different eyes.

    Args:
        spectra: ``(N, RADII, HARMONICS)`` of photographs.
        strength: ``(N,)`` of their surest lines.
        groups: ``(N,)`` names; pictures of two groups show different persons, those of one group perhaps not.
        gate: least strength of a picture that counts.
        directions: J; a signature has 2 J numbers.
        lines_alone: whether the network's map was left out.

    Raises:
        ConfigError: fewer than two groups.
    """
    seen = np.asarray(strength) >= gate
    names = np.asarray(groups)[seen]
    if len(np.unique(names)) < 2:
        raise ConfigError("Thresholds need pairs of different eyes: give pictures of two groups at least.")
    spectra = spectra[seen]
    # mirror images are as likely as the pictures, so profiles are real
    scatter = np.einsum("nrm,nsm->mrs", spectra, spectra.conj()).real / len(spectra)
    values, vectors = np.linalg.eigh(scatter)
    order = np.argsort(-values, axis=None)[:directions]
    harmonic, which = np.unravel_index(order, values.shape)
    gain = values[harmonic, which] ** -_EVENED
    basis = SignatureBasis(
        lines_alone=np.array([int(lines_alone)], np.int64),
        harmonic=(harmonic + 1).astype(np.int64),
        profile=np.ascontiguousarray(vectors[harmonic, :, which], np.float32),
        gain=(gain / gain.mean()).astype(np.float32),
        gate=np.array([gate], np.float32),
        rates=RATES.astype(np.float32),
        upright=np.zeros(len(RATES), np.float32),
        discount=np.zeros(1, np.float32),
        turned=np.zeros(len(RATES), np.float32),
    )
    assert harmonic.max() < HARMONICS
    signatures = basis.project(spectra)
    upright, turned = chance_cosines(basis, signatures, names)
    gaps = np.quantile(turned, 1 - _JUDGED) - np.quantile(upright, 1 - _JUDGED)
    basis = replace(basis, discount=np.array([gaps.mean()], np.float32))
    upright, turned = chance_cosines(basis, signatures, names)
    return replace(basis, upright=thresholds(upright), turned=thresholds(turned))


def chance_cosines(
    basis: SignatureBasis, signatures: Signatures, groups: NDArray[Any]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Cosines of all pairs of pictures of two groups: as they are, and the best of one turned or zoomed."""
    upright, turned = [], []
    for start in range(0, len(signatures), _QUERIES):
        asked, others = signatures[start : start + _QUERIES], signatures[start:]
        apart = groups[start : start + _QUERIES, None] != groups[None, start:]
        upright.append((asked @ others.T)[apart])
        turned.append(best_cosines(basis, asked, others)[apart])
    return np.concatenate(upright), np.concatenate(turned)


def best_cosines(
    basis: SignatureBasis, queries: Signatures, gallery: Signatures, *, mirrored: bool = False
) -> NDArray[np.float32]:
    """``(Q, N)``: of each query and picture the best cosine over turns and zooms, less their discount."""
    variants = basis.variants(queries, mirrored=mirrored)
    cosines = (variants.reshape(-1, basis.length) @ gallery.T).reshape(*variants.shape[:2], len(gallery))
    cosines -= basis.discounts(variants.shape[1])[:, None]
    best: NDArray[np.float32] = cosines.max(axis=1)
    return best


def thresholds(cosines: NDArray[np.floating]) -> NDArray[np.float32]:
    """Cosines that are reached at each of the rates.

    They are counted as far as ten pairs lie beyond, so that a few pairs that are of one eye after all do not
    set them; rarer ones go on as the last counted tenfold did: exponentially, as a light tail does at most
    (Pickands 1975), and cosines are bounded.
    """
    least = max(_COUNTED / len(cosines), float(RATES[-1]))
    last, before = np.quantile(cosines, [1 - least, max(1 - 10 * least, 0)])
    known = np.quantile(cosines, 1 - RATES)
    tail = last + (last - before) * np.log10(least / RATES)
    return np.asarray(np.where(least <= RATES, known, tail), np.float32)
