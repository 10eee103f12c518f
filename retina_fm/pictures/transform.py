"""Photo to view: the one description of preprocessing that embeddings, adapters and indexes agree on."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np
from PIL import Image

from retina_fm._io.files import canonical_json
from retina_fm.errors import ConfigError, PictureError
from retina_fm.pictures.field_of_view import Circle, find_field_of_view
from retina_fm.pictures.geometry import Geometry, crop_and_resize
from retina_fm.pictures.reading import describe, read_picture

if TYPE_CHECKING:
    from torch import Tensor

_Triple = tuple[float, float, float]
_LEAST_RADIUS = 2.0
"""Pixels, of a circle that is given; a smaller one shows nothing."""
_MOST_SIDES = 4
"""Longer sides of the picture, that the radius of a given circle may have."""


@dataclass(frozen=True)
class Transform:
    """How a photo becomes what a network sees.

    Attributes:
        size: edge of the view in pixels.
        crop: ``field_of_view`` cuts a square round the lit circle (the whole frame where there is none),
            ``frame`` always takes the whole frame, padded to a square.
        margin: share of the circle's diameter added on all sides together; negative cuts into it.
        resample: filter of the antialiased resize.
        mean: subtracted from values in [0, 1], a channel.
        std: divided by, a channel; 0.5 and 0.5 scale to [-1, 1].
        mask_outside: whether pixels outside the field of view are set to black (-1 by default).
        version: of the procedure; it changes when the same fields come to mean other pixels.
    """

    size: int = 512
    crop: Literal["field_of_view", "frame"] = "field_of_view"
    margin: float = 0.02
    resample: Literal["bilinear", "bicubic"] = "bilinear"
    mean: _Triple = (0.5, 0.5, 0.5)
    std: _Triple = (0.5, 0.5, 0.5)
    mask_outside: bool = True
    version: int = 1

    def __post_init__(self) -> None:
        if not isinstance(self.size, int) or isinstance(self.size, bool) or not 32 <= self.size <= 8192:
            raise ConfigError(f"transform.size is {self.size!r}; a whole number from 32 to 8192 is needed.")
        if self.crop not in ("field_of_view", "frame"):
            raise ConfigError(f"transform.crop is {self.crop!r}; use 'field_of_view' or 'frame'.")
        if self.resample not in ("bilinear", "bicubic"):
            raise ConfigError(f"transform.resample is {self.resample!r}; use 'bilinear' or 'bicubic'.")
        if not isinstance(self.margin, int | float) or not -0.5 < self.margin <= 1:
            raise ConfigError(f"transform.margin is {self.margin!r}; a number in (-0.5, 1] is needed.")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if len(values) != 3 or not all(isinstance(v, int | float) and np.isfinite(v) for v in values):
                raise ConfigError(f"transform.{name} is {values!r}; three finite numbers are needed.")
        if min(self.std) <= 0:
            raise ConfigError(f"transform.std is {self.std!r}; it must be positive.")
        if self.version != 1:
            raise ConfigError(f"transform.version is {self.version!r}; this release knows version 1.")

    @property
    def hash(self) -> str:
        """First 16 hex digits of the SHA-256 of its canonical JSON, version included."""
        return hashlib.sha256(canonical_json(self.as_dict())).hexdigest()[:16]

    @overload
    def __call__(self, photo: Any, *, return_geometry: Literal[False] = False) -> Tensor: ...
    @overload
    def __call__(self, photo: Any, *, return_geometry: Literal[True]) -> tuple[Tensor, Any]: ...
    def __call__(self, photo: Any, *, return_geometry: bool = False) -> Tensor | tuple[Tensor, Any]:
        """A photo as the tensor that an encoder takes; a list of photos as a batch.

        It pickles, so that workers of a ``DataLoader`` have it, and stands in ``torchvision``'s ``Compose``.

        Args:
            photo: any form that :func:`retina_fm.pictures.read_picture` takes, or a list or tuple of them.
            return_geometry: give the way back to the photo's own pixels, too: a ``Geometry``, or a list.

        Returns:
            float32 ``(3, size, size)``, or ``(N, 3, size, size)`` of a list; by default in [-1, 1], -1
            outside the field of view.

        Raises:
            PictureError: a photo cannot be read.
            ConfigError: a list is empty.
        """
        import torch  # pictures are read and cut where torch is not

        many = isinstance(photo, list | tuple)
        if many and not photo:
            raise ConfigError("There is no photo in the list. Give at least one.")
        views, places = zip(*map(self.view, photo if many else [photo]), strict=True)
        tensor = torch.from_numpy(self.normalise(np.stack(views)))
        if not many:
            tensor, places = tensor[0], places[0]
        return (tensor, list(places) if many else places) if return_geometry else tensor

    def view(self, photo: Any, *, name: str | None = None) -> tuple[np.ndarray, Geometry]:
        """A photo's view before scaling, and where it lies.

        Args:
            photo: any form that :func:`retina_fm.pictures.read_picture` takes.
            name: what messages call it; found from the photo without it.

        Returns:
            ``uint8 (size, size, 3)``, black outside, and its geometry.

        Raises:
            PictureError: the photo cannot be read.
        """
        picture = read_picture(photo, name=name)
        geometry = self.locate(picture, _given_circle(photo, picture, name))
        view = np.array(crop_and_resize(Image.fromarray(picture), geometry, self.resample))
        if self.mask_outside:
            view[~geometry.mask_in_view()] = 0
        return view, geometry

    def locate(self, picture: np.ndarray, circle: Circle | None = None) -> Geometry:
        """Where the view of a picture ``uint8 (H, W, 3)`` lies, by the circle that is known of it, if any."""
        height, width = picture.shape[:2]
        if self.crop != "field_of_view":
            circle = None
        elif circle is None:
            circle = find_field_of_view(picture)
        if circle is None:
            centre_y, centre_x, radius = height / 2, width / 2, max(height, width) / 2
        else:
            centre_y, centre_x, radius = circle.centre_y, circle.centre_x, circle.radius
        return Geometry(
            height=height,
            width=width,
            centre_y=centre_y,
            centre_x=centre_x,
            radius=radius,
            size=self.size,
            margin=self.margin,
            circle=circle is not None,
        )

    def normalise(self, view: np.ndarray) -> np.ndarray:
        """``uint8 (..., S, S, 3)`` to ``float32 (..., 3, S, S)``; black is exactly -1 by default."""
        mean, std = np.array(self.mean, np.float32), np.array(self.std, np.float32)
        scaled = (view.astype(np.float32) / np.float32(255) - mean) / std
        return np.ascontiguousarray(np.moveaxis(scaled, -1, -3))

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values = asdict(self)
        values.update(
            margin=float(self.margin), mean=[float(v) for v in self.mean], std=[float(v) for v in self.std]
        )
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Transform:
        """The inverse of :meth:`as_dict`.

        Raises:
            ConfigError: a field is unknown or out of range.
        """
        unknown = sorted(set(values) - {field.name for field in fields(cls)})
        if unknown:
            raise ConfigError(f"transform has unknown fields {unknown}; a newer retina_fm may know them.")
        given = dict(values)
        for name in ("mean", "std"):
            if name in given:
                if not isinstance(given[name], list | tuple):
                    raise ConfigError(f"transform.{name} is {given[name]!r}; three numbers are needed.")
                given[name] = tuple(given[name])
        return cls(**given)


def _given_circle(photo: Any, picture: np.ndarray, name: str | None) -> Circle | None:
    """The circle that a photo's dict says (``bounds``: height, width, centre y, centre x, radius)."""
    said = photo.get("bounds") if isinstance(photo, Mapping) else None
    if said is None:
        return None
    try:
        height, width, centre_y, centre_x, radius = (float(value) for value in said)
    except (TypeError, ValueError):
        raise PictureError(
            f"{name or describe(photo)}: its bounds are {said!r:.80}; height, width, centre y, centre x and "
            "radius are needed."
        ) from None
    if height and (height, width) != picture.shape[:2]:
        raise PictureError(
            f"{name or describe(photo)}: its bounds are of a picture of {width:g} x {height:g} pixels, it "
            f"has {picture.shape[1]} x {picture.shape[0]}. Write them again."
        )
    circle = Circle(centre_y, centre_x, radius)
    _check_circle(circle, picture, name or describe(photo))
    return circle


def _check_circle(circle: Circle, picture: np.ndarray, name: str) -> None:
    """Refuse a circle that is no camera's: its view would show nothing, or take memory without end."""
    height, width = picture.shape[:2]
    beside_y = max(-circle.centre_y, circle.centre_y - height, 0.0)
    beside_x = max(-circle.centre_x, circle.centre_x - width, 0.0)
    fits = _LEAST_RADIUS <= circle.radius <= _MOST_SIDES * max(height, width)
    if not fits or not math.hypot(beside_y, beside_x) < circle.radius:
        raise PictureError(
            f"{name}: its bounds are a circle of radius {circle.radius:g} round x {circle.centre_x:g}, y "
            f"{circle.centre_y:g}, which is no field of view in {width} x {height} pixels. Write them again."
        )
