"""Pictures that repeat: the same file, or the same photograph changed as people change photographs.

Resized, recoloured, recompressed, mirrored, turned by quarters, its border cut or widened: docs/evaluation.md
says how much of each is found.

A repeat in training and test makes a result look better than it is; public sets are full of them. Repeats are
looked for in pixels, so that no model under test decides what counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of, write_bytes
from retina_fm._io.persons import in_words, persons, spellings
from retina_fm._io.seals import npz_bytes, read_npz
from retina_fm.errors import LeakError
from retina_fm.pictures import Transform

PRINT_SIZE = 96
_AROUND = 3.0
_BLOCK = 512
ALIKE = 0.75
"""Correlation of two prints from which on they are one photograph.

Measured on 1,416 photographs of three public sets: repeats 0.87 to 1, different eyes 0.4 or less, and up to
0.69 where a smear on the lens shows in both."""


class Repeat(NamedTuple):
    """Two pictures that are one photograph.

    Attributes:
        first: position of one.
        second: position of the other, larger.
        likeness: correlation of their prints; 1 for the same file.
    """

    first: int
    second: int
    likeness: float


def fingerprint(path: Path) -> NDArray[np.float32]:
    """What stays of a photograph under resizing, recompression and recolouring, ``(96 * 96,)`` of length 1.

    The green channel of a small view less its surroundings and divided by their spread, so that neither
    shading nor a bright disc decides but vessels and lesions everywhere; the rim of the field of view, which
    all photographs of a camera share, is left out. The product of two prints is their correlation.
    """
    from scipy.ndimage import gaussian_filter

    view, geometry = Transform(size=PRINT_SIZE).view(path)
    inside = geometry.mask_in_view()
    core = _core(inside)
    weight = inside.astype(np.float32)
    green = view[..., 1].astype(np.float32) * weight

    def local(values: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
        around = gaussian_filter(values * weight, sigma) / np.maximum(gaussian_filter(weight, sigma), 1e-3)
        return np.asarray(around, np.float32)

    detail = green - local(green, _AROUND)
    spread = np.sqrt(local(detail**2, 2 * _AROUND))
    detail = np.clip(detail / np.maximum(spread, 0.5), -2, 2) * core
    detail -= detail[core].mean() * core
    return np.asarray((detail / max(float(np.linalg.norm(detail)), 1e-6)).ravel(), np.float32)


def _core(inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The field of view without its rim; the whole of it where it is too thin to lose one."""
    from scipy.ndimage import binary_erosion

    framed = np.pad(inside, 1)
    core = binary_erosion(framed, iterations=PRINT_SIZE // 16)[1:-1, 1:-1]
    return np.asarray(core if core.any() else inside)


class Prints(NamedTuple):
    """Fingerprints ``(N, P)`` and SHA-256 of each file."""

    vectors: NDArray[np.float32]
    hashes: list[str]


def read_prints(paths: Sequence[Path], cache: Path | None = None) -> Prints:
    """Fingerprints of pictures, computed once where a cache file is named."""
    hashes = [sha256_of(path) for path in paths]
    known: dict[str, NDArray[np.float32]] = {}
    if cache is not None and cache.is_file():
        with suppress(OSError, ValueError, KeyError):  # damaged: computed again
            stored = read_npz(cache)
            known = dict(zip(stored["hashes"].tolist(), stored["vectors"], strict=True))
    fresh = {digest: path for digest, path in zip(hashes, paths, strict=True) if digest not in known}
    known.update({digest: fingerprint(path) for digest, path in fresh.items()})
    if cache is not None and fresh:
        arrays = {"hashes": np.array(list(known)), "vectors": np.stack(list(known.values()))}
        write_bytes(cache, npz_bytes(arrays))
    return Prints(np.stack([known[digest] for digest in hashes]), hashes)


def find_repeats(prints: Prints, alike: float = ALIKE) -> list[Repeat]:
    """Pairs that are one photograph, the surest first; copies turned by quarters or mirrored count."""
    vectors, names = prints.vectors, np.array(prints.hashes)
    turned = _turned(vectors)
    found = []
    for start in range(0, len(vectors), _BLOCK):
        block = slice(start, start + _BLOCK)
        likeness = np.max([vectors[block] @ other.T for other in turned], axis=0)
        likeness[names[block, None] == names[None]] = 1.0
        first, second = np.nonzero(np.triu(likeness >= alike, k=start + 1))
        found += [
            Repeat(start + int(a), int(b), float(likeness[a, b])) for a, b in zip(first, second, strict=True)
        ]
    return sorted(found, key=lambda repeat: (-repeat.likeness, repeat.first, repeat.second))


def _turned(vectors: NDArray[np.float32]) -> list[NDArray[np.float32]]:
    """Prints turned by 0, 90, 180 and 270 degrees, each also mirrored."""
    side = int(np.sqrt(vectors.shape[1]))
    squares = vectors.reshape(-1, side, side)
    turns = [np.rot90(squares, quarter, axes=(1, 2)) for quarter in range(4)]
    return [view.reshape(len(vectors), -1) for turn in turns for view in (turn, turn[:, :, ::-1])]


def joined_patients(
    patients: NDArray[np.str_], repeats: Sequence[Repeat], names: Sequence[str] = ()
) -> NDArray[np.str_]:
    """Patients such that repeated pictures have the same one: the first of those that they came with.

    Args:
        patients: of each picture; ids that are spelled in several ways are one patient's.
        repeats: pairs that are one photograph.
        names: of the pictures; a patient of the picture's own name is nobody known.
    """
    patients = np.array(_one_each(patients, names))
    parent: dict[str, str] = {name: name for name in patients.tolist()}

    def root(name: str) -> str:
        while parent[name] != name:
            name = parent[name]
        return name

    for repeat in repeats:
        one, two = sorted((root(str(patients[repeat.first])), root(str(patients[repeat.second]))))
        parent[two] = one
    return np.array([root(name) for name in patients.tolist()])


def refuse_leaks(
    names: Sequence[str], parts: NDArray[Any], patients: NDArray[np.str_], repeats: Sequence[Repeat]
) -> None:
    """Refuse parts that share a patient or a photograph.

    Args:
        names: ids of the pictures.
        parts: part of each.
        patients: of each.
        repeats: pairs that are one photograph.

    Raises:
        LeakError: naming some of them.
    """
    one_each = np.array(_one_each(patients, names))
    shared = [name for name in np.unique(one_each).tolist() if len(np.unique(parts[one_each == name])) > 1]
    if shared:
        ways = spellings(patients.tolist())
        shown = ", ".join(in_words(ways.get(name, [name])) for name in shared[:3])
        raise LeakError(
            f"{len(shared)} patients are in more than one part ({shown}). "
            "All pictures of a patient belong in one part."
        )
    crossing = [r for r in repeats if parts[r.first] != parts[r.second]]
    if crossing:
        shown = "; ".join(
            f"{names[r.first]} ({parts[r.first]}) is {names[r.second]} ({parts[r.second]}), {r.likeness:.2f}"
            for r in crossing[:3]
        )
        raise LeakError(
            f"{len(crossing)} photographs are in two parts: {shown}. Leave one of each out "
            "(a column to keep rows by), or pass leaks='allow' and say so."
        )


def _one_each(patients: NDArray[np.str_], names: Sequence[str]) -> list[str]:
    """Patients in one spelling each; those that are a picture's own name stay as they are."""
    given = patients.tolist()
    nobody = [i < len(names) and name == names[i] for i, name in enumerate(given)]
    known = persons([None if none else name for none, name in zip(nobody, given, strict=True)])
    return [name if person is None else person for name, person in zip(given, known, strict=True)]


def fingerprint_id() -> str:
    """Changes when prints come to mean something else; results carry it."""
    return hashlib.sha256(repr((Transform(size=PRINT_SIZE).hash, ALIKE, 2)).encode()).hexdigest()[:8]
