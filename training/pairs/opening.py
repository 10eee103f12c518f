"""A sequence of a ``pairs.csv`` in its view: photo and frames in the same pixels, with a common field."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage

from retina_fm.pictures import Geometry, Transform, read_picture
from retina_fm.pictures.geometry import crop_and_resize
from retina_fm.training.pairs.table import Frame, PairSequence, choose_frames


def warp_frame(
    frame: NDArray[np.float32], transform: Sequence[float], shape: tuple[int, int]
) -> NDArray[np.float32]:
    """A frame in the photo's pixels.

    Args:
        frame: float32 (h, w).
        transform: a b c d e f with photo x = a x + b y + c, photo y = d x + e y + f, pixel centres at
            half-integers.
        shape: (H, W) of the photo.
    """
    a, b, c, d, e, f = transform
    back = np.linalg.inv(np.array([[e, d], [b, a]]))  # rows and columns are (y, x)
    # Pixel centres lie at half-integers: photo index p stands for p + 0.5.
    offset = back @ (np.array([0.5, 0.5]) - np.array([f, c])) - 0.5
    return np.asarray(
        ndimage.affine_transform(frame, back, offset, shape, order=1, mode="constant"), np.float32
    )


@dataclass(frozen=True)
class PairView:
    """Where the view of a sequence lies, found once: what makes a sequence slow to open.

    Attributes:
        geometry: of the photo's view.
        packed: the common field of view of photo and twelve frames, eight pixels a byte.
    """

    geometry: Geometry
    packed: bytes

    @property
    def field(self) -> NDArray[np.bool_]:
        """The field of view, bool (S, S)."""
        size = self.geometry.size
        bits = np.unpackbits(np.frombuffer(self.packed, np.uint8), count=size * size)
        return bits.reshape(size, size).astype(bool)


def open_pair(sequence: PairSequence, size: int) -> PairView:
    """Fits the field of view of a sequence and finds what photo and all twelve frames have in common.

    Raises:
        PictureError: a file cannot be read.
    """
    view, geometry = Transform(size=size).view(sequence.photo)
    field = ndimage.binary_fill_holes(ndimage.binary_opening(view.max(2) > 8, iterations=2))
    lit = np.zeros((size, size), bool)
    for frame in choose_frames(sequence):
        # before the dye comes a frame is dark: any frame shows the aperture, each must reach as far
        lit |= _frame_view(frame, geometry) > 4
        field &= _reached(frame, geometry)
    lit = ndimage.binary_closing(np.pad(lit, 8), iterations=4)[8:-8, 8:-8]
    return PairView(geometry, np.packbits(field & lit).tobytes())


def _reached(frame: Frame, geometry: Geometry) -> NDArray[np.bool_]:
    """Where a frame has pixels at all, bool (S, S): one that was moved onto the photo leaves a strip."""
    if frame.transform is None:
        return np.ones((geometry.size, geometry.size), bool)
    whole = np.ones(read_picture(frame.path).shape[:2], np.float32)
    warped = warp_frame(whole, frame.transform, (geometry.height, geometry.width))
    filled = Image.fromarray(np.where(warped > 0.99, 255, 0).astype(np.uint8))
    # what lies beyond the photo is for the photo's own field to tell
    return np.asarray(crop_and_resize(filled, geometry, "bilinear")) > 127


def load_pair(
    sequence: PairSequence,
    size: int,
    frames: Sequence[int] | None = None,
    known: PairView | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.bool_]]:
    """A sequence in its view.

    Args:
        sequence: as read from ``pairs.csv``.
        size: side S of the view.
        frames: which of the twelve; all when None.
        known: where the view lies, if the sequence was opened before.

    Returns:
        photo uint8 (S, S, 3), frames uint8 (K, S, S), and their common field of view, bool (S, S).

    Raises:
        PictureError: a file cannot be read.
    """
    known = known or open_pair(sequence, size)
    field = known.field
    photo = Image.fromarray(read_picture(sequence.photo))
    view = np.asarray(crop_and_resize(photo, known.geometry, Transform(size=size).resample))
    chosen = choose_frames(sequence)
    numbers = list(range(len(chosen))) if frames is None else list(frames)
    done = {number: _frame_view(chosen[number], known.geometry) for number in sorted(set(numbers))}
    stacked = np.stack([done[n] for n in numbers]) * field
    return view * field[..., None].astype(np.uint8), stacked.astype(np.uint8), field


def _frame_view(frame: Frame, geometry: Geometry) -> NDArray[np.uint8]:
    grey = read_picture(frame.path)[..., 1]  # angiograms are grey, so one channel is all of them
    if frame.transform is not None:
        warped = warp_frame(grey.astype(np.float32), frame.transform, (geometry.height, geometry.width))
        grey = np.clip(np.rint(warped), 0, 255).astype(np.uint8)
    return np.asarray(crop_and_resize(Image.fromarray(grey), geometry, "bilinear"))
