"""Where a view lies in its picture, and the exact way there and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from PIL import Image

from retina_fm.errors import ConfigError


@dataclass(frozen=True)
class Geometry:
    """A square crop of a picture, resized to ``size`` pixels a side.

    Coordinates are ``(y, x)`` with pixel centres at half-integers, so that a picture spans 0 to height and
    0 to width, and a view 0 to size, in both directions.

    Attributes:
        height: of the picture, in pixels.
        width: of the picture.
        centre_y: of the crop, in picture pixels.
        centre_x: of the crop.
        radius: of the field of view, or half the crop's edge where there is no circle.
        size: of the view.
        margin: share of the diameter that the crop adds; negative where it cuts into the circle.
        circle: whether the field of view is that circle, or the whole frame.
    """

    height: int
    width: int
    centre_y: float
    centre_x: float
    radius: float
    size: int
    margin: float = 0.02
    circle: bool = True

    @property
    def side(self) -> float:
        """Edge of the crop, in picture pixels."""
        return 2 * self.radius * (1 + self.margin)

    @property
    def scale(self) -> float:
        """Picture pixels a view pixel."""
        return self.side / self.size

    @property
    def origin(self) -> tuple[float, float]:
        """Top left corner ``(y, x)`` of the crop, in picture pixels; it may lie outside the picture."""
        return self.centre_y - self.side / 2, self.centre_x - self.side / 2

    def to_picture(self, points: np.ndarray) -> np.ndarray:
        """View coordinates ``(..., 2)`` to picture coordinates."""
        return np.asarray(points, dtype=np.float64) * self.scale + self.origin

    def matrix(self) -> np.ndarray:
        """``(3, 3)`` that maps homogeneous view coordinates ``(y, x, 1)`` to the picture's."""
        top, left = self.origin
        return np.array([[self.scale, 0, top], [0, self.scale, left], [0, 0, 1]])

    def mask_in_view(self) -> np.ndarray:
        """Field of view, bool ``(size, size)``."""
        at = self.to_picture(np.repeat((np.arange(self.size) + 0.5)[:, None], 2, axis=1))
        return self._inside(at[:, 0], at[:, 1])

    def mask_in_picture(self) -> np.ndarray:
        """Field of view, bool ``(height, width)``."""
        return self._inside(np.arange(self.height) + 0.5, np.arange(self.width) + 0.5)

    def view_of(
        self, array: np.ndarray, order: Literal["nearest", "bilinear", "area"] = "nearest"
    ) -> np.ndarray:
        """What belongs to the picture, as it lies in the view.

        Args:
            array: ``(height, width)`` or ``(height, width, C)``.
            order: ``nearest`` for label maps (keeps the type), ``bilinear``, or ``area`` (antialiased) for
                coverage maps and frames; both give float32.

        Returns:
            ``(size, size[, C])``; zero outside the picture.

        Raises:
            ValueError: the array has another height or width than the picture.
        """
        array = _as_numpy(array)
        if array.shape[:2] != (self.height, self.width):
            raise ValueError(f"array {array.shape} does not belong to a picture {self.height} x {self.width}")
        if order == "area":
            return self._area(array)
        at = np.arange(self.size) + 0.5
        return _sample(array, at * self.scale + self.origin[0], at * self.scale + self.origin[1], order, 0)

    def picture_of(
        self, array: np.ndarray, order: Literal["nearest", "bilinear"] = "nearest", fill: float = 0
    ) -> np.ndarray:
        """What was predicted in the view, as it lies in the picture.

        Args:
            array: ``(S, S)``, ``(S, S, C)``, or a video or channels of a network ``(T, S, S)`` with T other
                than S, in NumPy or torch; S need not be ``size``: a map at a stride is scaled along.
            order: ``nearest`` for label maps (keeps the type), ``bilinear`` for probabilities and frames
                (float32).
            fill: value outside the view.

        Returns:
            ``(height, width)``, ``(height, width, C)`` or ``(T, height, width)``.

        Raises:
            ValueError: the array is not square.
        """
        array = _as_numpy(array)
        if array.ndim == 3 and array.shape[0] != array.shape[1] and array.shape[1] == array.shape[2]:
            return np.stack([self.picture_of(frame, order, fill) for frame in array])
        if array.ndim not in (2, 3) or array.shape[0] != array.shape[1]:
            batch = " Of a batch (N, C, S, S) pass one photo's maps: maps[0]." if array.ndim == 4 else ""
            raise ValueError(
                f"A view is square; shape {array.shape} is not (S, S), (S, S, C) or (C, S, S)." + batch
            )
        scale = self.side / array.shape[0]
        rows = (np.arange(self.height) + 0.5 - self.origin[0]) / scale
        columns = (np.arange(self.width) + 0.5 - self.origin[1]) / scale
        return _sample(array, rows, columns, order, fill)

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """The inverse of :meth:`as_dict`.

        Raises:
            ConfigError: a field is missing or unknown.
        """
        names = {field.name for field in fields(cls)}
        if unknown := sorted(set(values) - names):
            raise ConfigError(f"geometry has unknown fields {unknown}.")
        try:
            return cls(**values)
        except TypeError as error:
            raise ConfigError(f"geometry is incomplete: {error}.") from None

    def _inside(self, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
        row_in = (rows >= 0) & (rows < self.height)
        column_in = (columns >= 0) & (columns < self.width)
        inside: np.ndarray = row_in[:, None] & column_in[None, :]
        if self.circle:
            distance = (rows - self.centre_y)[:, None] ** 2 + (columns - self.centre_x)[None, :] ** 2
            inside &= distance <= self.radius**2
        return inside

    def _area(self, array: np.ndarray) -> np.ndarray:
        channels = array[:, :, None] if array.ndim == 2 else array
        maps = [
            crop_and_resize(Image.fromarray(channels[:, :, c].astype(np.float32)), self, "bilinear")
            for c in range(channels.shape[2])
        ]
        stacked = np.stack([np.asarray(one) for one in maps], axis=-1)
        return stacked[:, :, 0] if array.ndim == 2 else stacked


def _as_numpy(array: Any) -> np.ndarray:
    """Arrays as they are; tensors (of a network, with gradients, on a GPU, in bfloat16) as arrays."""
    if not hasattr(array, "detach"):
        return np.asarray(array)
    tensor = array.detach().cpu()
    # NumPy has no bfloat16
    return np.asarray(tensor.float() if str(tensor.dtype) == "torch.bfloat16" else tensor)


def crop_and_resize(image: Image.Image, geometry: Geometry, resample: str) -> Image.Image:
    """The crop of a PIL image, black beyond its frame, resized with antialiasing."""
    method = Image.Resampling.BICUBIC if resample == "bicubic" else Image.Resampling.BILINEAR
    # One axis after the other, as Pillow does inside: padding both at once makes a square of the longer side,
    # which for a panorama is more pixels than memory.
    for axis in (0, 1):
        image = _resize_axis(image, axis, geometry.origin[1 - axis], geometry, method)
    return image


def _resize_axis(
    image: Image.Image, axis: int, start: float, geometry: Geometry, method: Image.Resampling
) -> Image.Image:
    """Columns (axis 0) or rows (axis 1) of the crop that begins at ``start``."""
    size, length = list(image.size), image.size[axis]
    # Pillow resizes boxes with fractional corners but none that leave the image, so it is padded first
    before = max(0, int(np.ceil(-start)))
    after = max(0, int(np.ceil(start + geometry.side - length)))
    if before or after:
        length += before + after
        size[axis] = length
        padded = Image.new(image.mode, (size[0], size[1]))
        padded.paste(image, (0, before) if axis else (before, 0))
        image = padded
    box = [0.0, 0.0, float(size[0]), float(size[1])]
    box[axis] = max(0.0, start + before)
    box[axis + 2] = min(float(length), start + before + geometry.side)
    size[axis] = geometry.size
    return image.resize((size[0], size[1]), method, box=(box[0], box[1], box[2], box[3]))


def _sample(array: np.ndarray, rows: np.ndarray, columns: np.ndarray, order: str, fill: float) -> np.ndarray:
    """Values at rows and columns given in pixel coordinates; rows and columns are independent."""
    height, width = array.shape[:2]
    outside = ((rows < 0) | (rows >= height))[:, None] | ((columns < 0) | (columns >= width))[None, :]
    if order not in ("nearest", "bilinear"):
        raise ValueError(f"order is {order!r}; use 'nearest' or 'bilinear' ('area' only into a view)")
    if order == "nearest":
        down = np.clip(np.floor(rows).astype(np.int64), 0, height - 1)
        right = np.clip(np.floor(columns).astype(np.int64), 0, width - 1)
        sampled = array[down][:, right]
    else:
        blended = _blend(array.astype(np.float32), rows)
        sampled = np.swapaxes(_blend(np.swapaxes(blended, 0, 1), columns), 0, 1)
    if outside.any():
        sampled = sampled.copy()
        sampled[outside] = fill
    return np.ascontiguousarray(sampled)


def _blend(array: np.ndarray, at: np.ndarray) -> np.ndarray:
    """Linear interpolation along the first axis, the outermost pixels held beyond their centres."""
    last = array.shape[0] - 1
    place = np.clip(at - 0.5, 0, last)
    below = np.floor(place).astype(np.int64)
    above = np.minimum(below + 1, last)
    share = (place - below).astype(np.float32).reshape(-1, *([1] * (array.ndim - 1)))
    blended: np.ndarray = array[below] * (1 - share) + array[above] * share
    return blended
