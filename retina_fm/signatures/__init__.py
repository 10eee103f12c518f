"""The signature of an eye: its pattern of vessels as a row of numbers, whatever the camera, visit or dye.

A signature recognises a person. It is as personal as a fingerprint, and kept like one.

Never imports torch: worker processes may read signatures.
"""

from __future__ import annotations

from retina_fm.signatures.basis import SignatureBasis, default_basis
from retina_fm.signatures.fitting import fit_basis
from retina_fm.signatures.reading import Network, Readings, inverted, read_patterns, signatures_of
from retina_fm.signatures.same_eyes import FALSE_ACCEPTS, SameEye, SameEyes, find_same_eyes, rate_in_words

__all__ = [
    "FALSE_ACCEPTS",
    "Network",
    "Readings",
    "SameEye",
    "SameEyes",
    "SignatureBasis",
    "default_basis",
    "find_same_eyes",
    "fit_basis",
    "inverted",
    "rate_in_words",
    "read_patterns",
    "signatures_of",
]
