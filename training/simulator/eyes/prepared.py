"""A prepared eye: everything slow and fixed about one photo, as bytes that a device can take as they are."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import write_output
from retina_fm._io.strict_json import SEAL, sealed, unsealed
from retina_fm._io.tensor_files import (
    Said,
    compact_json,
    finite,
    header_of,
    load_sealed,
    notes_json,
    save_sealed,
)
from retina_fm.errors import PictureError
from retina_fm.vocabulary import LESION_TYPES

Map = NDArray[np.float32]
VERSION = 3
_WITHOUT_DOUBT = 2  # the version before the map of doubt: read as if there were none

# Channels of ``PreparedEye.maps`` and the value that one grey level stands for.
MAPS = (
    "red",
    "green",
    "blue",
    "field_of_view",
    "artery",
    "vein",
    "artery_delay",
    "vein_delay",
    "axis",
    "calibre",
    "capillary",
    "macula",
    "choroid",
    "disc",
    "dark",
    "bright",
    "unsure",
)
UNITS = dict.fromkeys((*MAPS, *LESION_TYPES), 1 / 255) | {
    "artery_delay": 0.01,  # radii of the field of view a level
    "vein_delay": 0.01,
    "calibre": 0.0001,
}
ANCHORS = ("artery", "vein", "edge", "macula")
ANCHOR_COUNT = 256
_MOST_HEADER = 1 << 20


@dataclass(frozen=True)
class PreparedEye:
    """One eye, ready to be rendered. All maps are in the view's own pixels (size x size).

    Attributes:
        maps: uint8 (17, S, S) in the order of ``MAPS``; times ``UNITS`` gives the value.
        lesions: uint8 (6, S, S) coverage in the order of ``LESION_TYPES``; zero where not known.
        lesion_known: bool (6,): which types the source's labels cover.
        anchors: float32 (4, 256, 2), places (x, y) in [-1, 1] on arteries, on veins, at the edge of the
            field of view and round the macula, where lesions may be painted.
        radius: of the field of view, pixels; disc_radius: of the disc, pixels.
        disc_centre, fovea_centre: (y, x) in pixels, pixel centres at half-integers.
        metadata: JSON values: source, sha256, vessels ("given", "estimated" or "drawn"), trust in
            estimated vessels (0 to 1), and what is known.
    """

    maps: NDArray[np.uint8]
    lesions: NDArray[np.uint8]
    lesion_known: NDArray[np.bool_]
    anchors: NDArray[np.float32]
    radius: float
    disc_radius: float
    disc_centre: tuple[float, float]
    fovea_centre: tuple[float, float]
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Side of the maps in pixels."""
        return int(self.maps.shape[-1])

    @property
    def photo(self) -> NDArray[np.uint8]:
        """The photo, uint8 (S, S, 3)."""
        return np.ascontiguousarray(self.maps[:3].transpose(1, 2, 0))

    @property
    def field_of_view(self) -> NDArray[np.bool_]:
        """Field of view, bool (S, S)."""
        return np.asarray(self.maps[MAPS.index("field_of_view")] > 127)

    def map(self, name: str) -> Map:
        """One map or lesion type by name in its own unit, float32 (S, S)."""
        if name in LESION_TYPES:
            return np.asarray(self.lesions[LESION_TYPES.index(name)] * np.float32(UNITS[name]), np.float32)
        return np.asarray(self.maps[MAPS.index(name)] * np.float32(UNITS[name]), np.float32)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes one safetensors file, whole or not at all.

        Lesion maps are stored only where a type is known.

        Raises:
            OutputError: the file cannot be written.
        """
        known = np.flatnonzero(self.lesion_known)
        tensors: dict[str, NDArray[Any]] = {
            "maps": np.ascontiguousarray(self.maps),
            "lesions": np.ascontiguousarray(self.lesions[known]),
            "lesion_known": self.lesion_known.astype(np.uint8),
            "anchors": np.ascontiguousarray(self.anchors),
        }
        numbers = {
            "version": VERSION,
            "radius": self.radius,
            "disc_radius": self.disc_radius,
            "disc_centre": list(self.disc_centre),
            "fovea_centre": list(self.fovea_centre),
            "size": self.size,
            "lesion_known": [bool(one) for one in self.lesion_known],
            "metadata": self.metadata,
        }
        # the numbers have a checksum of their own, for those who read them alone
        write_output(Path(path), save_sealed(tensors, {"eye": compact_json(sealed(numbers))}))


def load_eye(path: str | os.PathLike[str]) -> PreparedEye:
    """Reads a prepared eye.

    Raises:
        PictureError: the file is missing, damaged or of another version.
    """
    try:
        data = Path(path).read_bytes()
        parsed = notes_json(header_of(data).notes, "eye")
        tensors, _ = load_sealed(data, must=isinstance(parsed, dict) and SEAL in parsed)
        return _eye(tensors, unsealed(parsed), path)
    except PictureError:
        raise
    except (OSError, ArithmeticError, LookupError, TypeError, ValueError) as error:
        raise _no_eye(path, error) from error


def _eye(tensors: dict[str, NDArray[Any]], numbers: Any, path: str | os.PathLike[str]) -> PreparedEye:
    """An eye of what its file holds, every shape and number checked.

    Raises:
        PictureError: it is of another version.
        ValueError, TypeError, LookupError: something does not fit.
    """
    if numbers["version"] == _WITHOUT_DOUBT:
        tensors["maps"] = np.concatenate([tensors["maps"], np.zeros_like(tensors["maps"][:1])])
    elif numbers["version"] != VERSION:
        raise PictureError(
            f"{path} was prepared by version {numbers['version']}, this is version {VERSION}. "
            "Make it again with: retina-fm prepare"
        )
    known = tensors["lesion_known"].astype(bool)
    size = tensors["maps"].shape[-1]
    shapes = {
        "maps": (np.uint8, (len(MAPS), size, size)),
        "lesions": (np.uint8, (int(known.sum()), size, size)),
        "lesion_known": (np.uint8, (len(LESION_TYPES),)),
        "anchors": (np.float32, (len(ANCHORS), ANCHOR_COUNT, 2)),
    }
    for name, (kind, shape) in shapes.items():
        if tensors[name].shape != shape or tensors[name].dtype != kind:
            raise ValueError(f"its {name} are {tensors[name].dtype} {tensors[name].shape}, not {shape}")
    values = [numbers[name] for name in ("radius", "disc_radius")]
    values += [*numbers["disc_centre"], *numbers["fovea_centre"]]
    numeric = all(isinstance(one, int | float) and math.isfinite(one) for one in values)
    if len(values) != 6 or not numeric or not finite(tensors["anchors"]):
        raise ValueError("a number of it is none")
    if not isinstance(numbers["metadata"], dict):
        raise ValueError("its metadata are no object")
    lesions = np.zeros((len(LESION_TYPES), size, size), np.uint8)
    lesions[known] = tensors["lesions"]
    return PreparedEye(
        maps=tensors["maps"],
        lesions=lesions,
        lesion_known=known,
        anchors=tensors["anchors"],
        radius=float(values[0]),
        disc_radius=float(values[1]),
        disc_centre=(float(values[2]), float(values[3])),
        fovea_centre=(float(values[4]), float(values[5])),
        metadata=numbers["metadata"],
    )


def eye_metadata(path: str | os.PathLike[str]) -> dict[str, Any]:
    """What a prepared eye says about itself, of any version, without its maps.

    Raises:
        PictureError: the file is missing, damaged or no prepared eye.
    """
    try:
        return dict(_numbers(path)["metadata"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise _no_eye(path, error) from error


def eye_size(path: str | os.PathLike[str]) -> int:
    """Side of a prepared eye's maps in pixels, without reading them.

    Raises:
        PictureError: the file is missing, damaged or no prepared eye.
    """
    try:
        numbers = _numbers(path)
        if "size" in numbers:
            return int(numbers["size"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise _no_eye(path, error) from error
    return load_eye(path).size  # of a release that did not say so in the header


def knows_all_lesions(path: str | os.PathLike[str]) -> bool:
    """Whether a prepared eye says of every type of lesion where it is, without reading its maps.

    Raises:
        PictureError: the file is missing, damaged or no prepared eye.
    """
    try:
        numbers = _numbers(path)
        if "lesion_known" in numbers:
            return all(numbers["lesion_known"])
    except (OSError, LookupError, TypeError, ValueError) as error:
        raise _no_eye(path, error) from error
    return bool(load_eye(path).lesion_known.all())  # of a release that did not say so in the header


def _head(path: str | os.PathLike[str]) -> Said:
    """What a file says that it holds, its maps unread."""
    with Path(path).open("rb") as stream:
        length = stream.read(8)
        return header_of(length + stream.read(min(int.from_bytes(length, "little"), _MOST_HEADER)))


def _numbers(path: str | os.PathLike[str]) -> dict[str, Any]:
    """The numbers in the header, checked."""
    return dict(unsealed(notes_json(_head(path).notes, "eye")))


def _no_eye(path: str | os.PathLike[str], error: Exception) -> PictureError:
    return PictureError(f"{path} is not a prepared eye ({error}). Make it again with: retina-fm prepare")
