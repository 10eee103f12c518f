"""Other photographs of one eye among the pictures of a data set, told by their signatures.

The basis of lines alone is read, so that no model under test decides, and none has to be loaded.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import canonical_json, write_bytes
from retina_fm._io.jobs import work_through
from retina_fm._io.seals import npz_bytes, read_npz
from retina_fm.pictures import Transform
from retina_fm.signatures import SameEyes, default_basis, find_same_eyes, signatures_of

LEAKING = 1e-6
"""False accepts a comparison at which a pair counts as a leak: the least that is known. A set of 1,400
pictures has a million pairs, so about one of them by chance."""
_WORTH_PROCESSES = 64


def read_signatures(
    paths: Sequence[Path],
    hashes: Sequence[str],
    cache: Path | None = None,
    *,
    workers: int | None = None,
    progress: bool | None = None,
) -> NDArray[np.float32]:
    """Signatures ``(N, K)`` of pictures, zeros where no vessels are seen.

    Args:
        paths: of the pictures.
        hashes: of their files; equal ones are read once.
        cache: file that they are kept in. It recognises persons, so it belongs where the pictures are.
        workers: processes; one a core where there is much to read.
        progress: show a bar; only on a terminal when None.
    """
    known: dict[str, NDArray[np.float32]] = {}
    if cache is not None and cache.is_file():
        with suppress(OSError, ValueError, KeyError):  # damaged, or of another basis: read again
            stored = read_npz(cache)
            if str(stored["made_by"]) == signatures_id():
                known = dict(zip(stored["hashes"].tolist(), stored["signatures"], strict=True))
    fresh = {digest: path for digest, path in zip(hashes, paths, strict=True) if digest not in known}
    count = workers if workers is not None or len(fresh) >= _WORTH_PROCESSES else 1
    read = work_through(
        signature_of, list(fresh.values()), workers=count, note="patterns of vessels", unit="photo",
        progress=progress,
    )  # fmt: skip
    for digest, (_, row) in zip(fresh, read, strict=True):
        known[digest] = row
    if cache is not None and fresh:
        arrays = {
            "hashes": np.array(list(known)),
            "signatures": np.stack(list(known.values())),
            "made_by": np.array(signatures_id()),
        }
        write_bytes(cache, npz_bytes(arrays))
    return np.stack([known[digest] for digest in hashes])


def signature_of(path: Path) -> NDArray[np.float32]:
    """``(K,)`` of one picture, by lines alone."""
    view, geometry = Transform().view(path)
    return np.asarray(signatures_of(view[None], default_basis(), [geometry.mask_in_view()])[0])


def same_eyes(signatures: NDArray[np.float32], false_accepts: float, *, turned: bool = True) -> SameEyes:
    """Pairs of one eye; see :func:`retina_fm.signatures.find_same_eyes`."""
    return find_same_eyes(signatures, default_basis(), false_accepts=false_accepts, turned=turned)


def signatures_id() -> str:
    """Changes when signatures come to mean something else."""
    what = canonical_json([Transform().hash, default_basis().hash, 1])
    return hashlib.sha256(what).hexdigest()[:12]
