"""What is kept of a spectrum, how signatures compare, and how often two eyes are as alike by chance."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib import resources

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load as parse_safetensors
from safetensors.numpy import save as serialise

from retina_fm.errors import WeightsError
from retina_fm.signatures.spectrum import ANGLES, HARMONICS, RADII

DEFAULT_FILE = "lines.safetensors"
ROLLS = np.arange(-5, 6) * 1.6
"""Turns of a query, in steps of the angles (2.8 degrees a step): 4.5 degrees apart, up to 22.5 either way."""
ZOOMS = np.arange(-4, 5) * 0.75
"""Zooms of a query, in steps of the radii (a tenth a step): 0.75 to 1.34, 1.075 times apart."""

Signatures = NDArray[np.float32]


@dataclass(frozen=True)
class SignatureBasis:
    """The directions of a spectrum that a signature keeps, and what its cosines mean.

    A direction is one harmonic of the angles with a profile over the radii, so that a turn changes the phase
    of a number and no more: signatures can be turned after they were stored.

    Attributes:
        lines_alone: 1 where the line filter is read, 0 where it is joined with the network's vessel map.
        harmonic: int64 ``(J,)``, of each direction, from 1.
        profile: float32 ``(J, RADII)``, orthonormal within a harmonic.
        gain: float32 ``(J,)``, what each direction is multiplied by: little ones tell eyes apart, too.
        gate: least strength of the surest lines; below it no retina is seen, and there is no signature.
        rates: ``(K,)`` false accepts a comparison, falling.
        upright: ``(K,)`` cosines of two signatures as they are that different eyes reach at these rates.
        discount: what a turned or zoomed query pays: the best of many is higher by chance.
        turned: ``(K,)`` as ``upright``, of the best over turns and zooms, less the discount.
    """

    lines_alone: NDArray[np.int64]
    harmonic: NDArray[np.int64]
    profile: NDArray[np.float32]
    gain: NDArray[np.float32]
    gate: NDArray[np.float32]
    rates: NDArray[np.float32]
    upright: NDArray[np.float32]
    discount: NDArray[np.float32]
    turned: NDArray[np.float32]

    @property
    def length(self) -> int:
        """Numbers of a signature, two a direction."""
        return 2 * len(self.harmonic)

    @property
    def needs_network(self) -> bool:
        """Whether a network's vessel map is part of it."""
        return not bool(self.lines_alone[0])

    @cached_property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of what determines a signature."""
        digest = hashlib.sha256()
        for name in ("lines_alone", "harmonic", "profile", "gain", "gate"):
            digest.update(np.ascontiguousarray(getattr(self, name)).data)
        return digest.hexdigest()[:16]

    def project(self, spectra: NDArray[np.complex64]) -> Signatures:
        """Harmonics ``(N, RADII, HARMONICS)`` to signatures ``(N, 2 J)`` of length one, or zeros."""
        # in float64, so that a picture's numbers do not depend on those it is read with
        asked = spectra[:, :, self.harmonic - 1].astype(np.complex128)
        kept = np.einsum("nrj,jr->nj", asked, self.profile) * self.gain
        return _of_length_one(np.concatenate([kept.real, kept.imag], axis=1))

    def variants(self, signatures: Signatures, *, mirrored: bool = False) -> Signatures:
        """Signatures ``(N, 2 J)`` turned and zoomed, ``(N, V, 2 J)``, each of length one, the first as it is.

        Args:
            signatures: of queries.
            mirrored: whether mirror images are among them.
        """
        kept = self._complex(signatures)
        if mirrored:
            kept = np.concatenate([kept, kept.conj()], axis=1).reshape(2 * len(kept), -1)
        phases = np.exp(-2j * np.pi * ROLLS[:, None] * self.harmonic / ANGLES)
        zoomed = np.einsum("nj,zjk->nzk", kept, self._zooms)
        found = zoomed[:, :, None] * phases[None, None] * self.gain
        whole = np.concatenate([found.real, found.imag], axis=-1).reshape(len(signatures), -1, self.length)
        return _of_length_one(np.concatenate([signatures[:, None], whole], axis=1))

    def discounts(self, count: int) -> NDArray[np.float32]:
        """What each of that many variants pays: the first nothing, the others the discount."""
        return np.concatenate([np.zeros(1, np.float32), np.repeat(self.discount, count - 1)])

    def false_accept(self, cosine: float, *, turned: bool) -> float:
        """Share of pairs of different eyes that are as alike; no less than the last of the known rates."""
        cosines = self.turned if turned else self.upright
        logarithm = np.interp(cosine, cosines, np.log10(self.rates), left=0.0)
        return float(10**logarithm)

    def threshold(self, rate: float, *, turned: bool) -> float:
        """The cosine that different eyes reach at a false-accept rate.

        Beyond the last known rate the tail goes on as it did between the last two.
        """
        cosines = self.turned if turned else self.upright
        rarer = -np.log10(self.rates)
        beyond = max(0.0, -float(np.log10(rate)) - float(rarer[-1]))
        slope = float(cosines[-1] - cosines[-2]) / float(rarer[-1] - rarer[-2])
        return float(np.interp(-np.log10(rate), rarer, cosines)) + beyond * slope

    def to_bytes(self) -> bytes:
        """As a safetensors file."""
        return serialise(
            {field.name: np.ascontiguousarray(getattr(self, field.name)) for field in fields(self)}
        )

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> SignatureBasis:
        """The inverse of :meth:`to_bytes`.

        Raises:
            WeightsError: it is something else.
        """
        try:
            arrays = parse_safetensors(data)
            found = cls(**arrays)
            shapes = (
                found.profile.shape == (len(found.harmonic), RADII)
                and found.gain.shape == found.harmonic.shape
            )
            curves = len(found.rates) == len(found.upright) == len(found.turned)
            within = found.harmonic.min() >= 1 and found.harmonic.max() <= HARMONICS
        except (SafetensorError, TypeError, ValueError) as error:
            raise WeightsError(f"{name} holds no basis of signatures ({error}); fetch it again.") from None
        if not (shapes and curves and within):
            raise WeightsError(f"{name}: the arrays of the basis do not belong together; fetch it again.")
        return found

    def _complex(self, signatures: Signatures) -> NDArray[np.complex128]:
        half = len(self.harmonic)
        whole = signatures[:, :half] + 1j * signatures[:, half:].astype(np.float64)
        return np.asarray(whole / self.gain, np.complex128)

    @cached_property
    def _zooms(self) -> NDArray[np.float64]:
        """``(Z, J, J)``: a shift along the radii, among directions of the same harmonic."""
        same = self.harmonic[:, None] == self.harmonic[None]
        shifts = np.stack([_shift(steps) for steps in ZOOMS])
        moved = np.einsum("jr,zrs,ks->zjk", self.profile.astype(np.float64), shifts, self.profile)
        return np.asarray(moved * same)


def _shift(steps: float) -> NDArray[np.float64]:
    """``(RADII, RADII)``: a profile moved along the radii, zero where nothing is known."""
    at = np.arange(RADII)[:, None] + steps - np.arange(RADII)[None]
    return np.asarray(np.clip(1 - np.abs(at), 0, None))


def _of_length_one(rows: NDArray[np.floating]) -> Signatures:
    lengths = np.linalg.norm(rows, axis=-1, keepdims=True)
    return np.asarray(np.divide(rows, lengths, out=np.zeros_like(rows), where=lengths > 1e-9), np.float32)


@lru_cache(maxsize=1)
def default_basis() -> SignatureBasis:
    """The basis that goes with every model: lines alone, so that signatures mean the same for all of them."""
    data = resources.files("retina_fm.signatures").joinpath(DEFAULT_FILE).read_bytes()
    return SignatureBasis.from_bytes(data, DEFAULT_FILE)
