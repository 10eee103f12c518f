"""The signature of an eye: its pattern of vessels as a row of numbers, whatever the camera, visit or dye.

A signature recognises a person. It is as personal as a fingerprint, and kept like one.

Never imports torch: worker processes may read signatures.
"""

from __future__ import annotations

from retina_fm.signatures.basis import SignatureBasis, default_basis
from retina_fm.signatures.fitting import fit_basis
from retina_fm.signatures.reading import Network, Readings, inverted, read_patterns, signatures_of

__all__ = [
    "Network",
    "Readings",
    "SignatureBasis",
    "default_basis",
    "fit_basis",
    "inverted",
    "read_patterns",
    "signatures_of",
]
