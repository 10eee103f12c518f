"""Registers real, slightly misaligned angiogram frames onto their photograph, with a quality figure.

Vessels are dark in the photo. In frames they are bright, or, before the dye fills them, dark on the choroid's
flush; so both are turned into line strength first, of either sign in frames. For a grid of turns and scales
the shift that correlates best inside both fields is found (masked normalised correlation: Padfield 2012, IEEE
TIP 21:2706; SimpleITK), and the best few of these are refined until the lines correlate best over what both
show.
"""

from __future__ import annotations

import importlib
import itertools
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from scipy import ndimage, optimize

from retina_fm.errors import MissingDependencyError, PictureError
from retina_fm.pictures import read_picture
from retina_fm.training.pairs.table import FAINT, PairSequence
from retina_fm.training.simulator.eyes.prepare import lit_field
from retina_fm.vessels.line_filter import flatten, line_strength

Map = NDArray[np.float32]
WORK = 256  # registration works on pictures of this size
ACCEPT = 0.3  # least correlation of line strengths for a frame to be used; see docs/simulator.md
_RIM = 0.04  # of the field's radius: lines along the edge are not vessels
_UNMOVED = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_OVERLAP = 0.5  # of the photo's field: on less, lines of strangers agree too well
_TURNS = np.deg2rad((-20, -10, 0, 10, 20))  # refining bridges half a step
_SCALES = np.log((0.88, 1.0, 1.14))
_STARTS = 3  # of the grid are refined, beside no movement at all


@dataclass(frozen=True)
class Registration:
    """Result for one frame.

    Attributes:
        transform: a b c d e f, from the frame's pixels (x, y) to the photo's, centres at half-integers.
        quality: correlation of line strengths after registration, 0 to 1; below 0.3 is not to be trusted.
        accepted: whether the quality suffices.
        reason: why the frame could not be looked at, if so; its quality is 0 then.
    """

    transform: tuple[float, ...]
    quality: float
    accepted: bool
    reason: str = ""


@dataclass(frozen=True)
class _Lines:
    """Line strength, zero outside the field, and the field itself as 0 and 1, both float32 (n, n)."""

    strength: Map
    inside: Map

    @property
    def half(self) -> _Lines:
        """At half the resolution, where the way to the optimum is shorter."""
        smooth = ndimage.gaussian_filter(self.strength, 2.0)
        return _Lines(*(np.asarray(ndimage.zoom(m, 0.5, order=1), np.float32) for m in (smooth, self.inside)))


def _lines(grey: NDArray[np.uint8], *, either_sign: bool) -> _Lines:
    """Lines of a picture reduced to WORK pixels: dark ones, or those of either sign."""
    zoom = WORK / max(grey.shape)
    height, width = (max(1, round(side * zoom)) for side in grey.shape)
    # Averages, not samples: a camera's picture is ten times as large, and grain would drown its vessels.
    kind = Image.Resampling.BOX if zoom < 1 else Image.Resampling.BILINEAR
    canvas = np.zeros((WORK, WORK), np.uint8)
    canvas[:height, :width] = np.asarray(Image.fromarray(grey).resize((width, height), kind))
    picture = np.repeat(canvas[..., None], 3, 2)
    field = lit_field(picture)
    radius = float(np.sqrt(field.sum() / np.pi))
    flat = flatten(picture, field, radius)
    strength = line_strength(flat, field, radius)
    if either_sign:
        strength = np.maximum(strength, line_strength(-flat, field, radius))
    inside = ndimage.binary_erosion(field, iterations=max(2, round(_RIM * radius)))
    smooth = ndimage.gaussian_filter(np.clip(strength, 0, 12), 1.2) * inside
    return _Lines(np.asarray(smooth, np.float32), inside.astype(np.float32))


def _linear(turn: float, grow: float) -> NDArray[np.float64]:
    """Rotation and scale of (y, x), from where a pixel shall be to where it is."""
    cos, sin = np.cos(turn) * np.exp(grow), np.sin(turn) * np.exp(grow)
    return np.array([[cos, -sin], [sin, cos]])


def _warp(image: Map, parameters: NDArray[np.float64]) -> Map:
    """Resamples ``image`` by rotation, log scale and shift (in pixels of WORK) about the middle."""
    turn, grow, down, right = parameters
    matrix = _linear(turn, grow)
    middle = np.array([(len(image) - 1) / 2] * 2)
    offset = middle - matrix @ middle + np.array([down, right]) * len(image) / WORK
    return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1), np.float32)


def _correlation(fixed: _Lines, moving: _Lines, parameters: NDArray[np.float64]) -> float:
    """Of line strengths over all that both fields show, lines or not: 0 for strangers."""
    both = (fixed.inside > 0.5) & (_warp(moving.inside, parameters) > 0.5)
    if both.sum() < _OVERLAP * (fixed.inside > 0.5).sum():
        return 0.0
    a, b = fixed.strength[both], _warp(moving.strength, parameters)[both]
    a, b = a - a.mean(), b - b.mean()
    return float((a * b).sum() / (np.sqrt((a * a).sum() * (b * b).sum()) + 1e-6))


def need_simpleitk() -> Any:
    """SimpleITK, whose masked correlation finds the coarse shift.

    Raises:
        MissingDependencyError: it is not installed.
    """
    try:
        return importlib.import_module("SimpleITK")
    except ImportError as error:
        raise MissingDependencyError(
            "Registration needs SimpleITK, which is not installed. "
            "Install it with: pip install SimpleITK (or '.[train]' in a checkout)"
        ) from error


def _coarse(fixed: _Lines, moving: _Lines) -> list[NDArray[np.float64]]:
    """No movement, and of each turn and scale the best shift, at half the resolution; the best few."""
    sitk = need_simpleitk()
    fixed, moving = fixed.half, moving.half
    correlate = sitk.MaskedFFTNormalizedCorrelationImageFilter()
    correlate.SetNumberOfThreads(1)  # archives are registered by a process a core
    correlate.SetRequiredFractionOfOverlappingPixels(_OVERLAP)
    image, mask = _image(fixed.strength), _image(fixed.inside > 0.5)
    found = []
    for turn, grow in itertools.product(_TURNS, _SCALES):
        turned = np.array([turn, grow, 0.0, 0.0])
        other = _image(_warp(moving.strength, turned)), _image(_warp(moving.inside, turned) > 0.5)
        peaks = sitk.GetArrayFromImage(correlate.Execute(image, other[0], mask, other[1]))
        best = np.unravel_index(peaks.argmax(), peaks.shape)
        shift = (np.array(best) - (len(fixed.strength) - 1)) * WORK / len(fixed.strength)
        start = np.array([turn, grow, *(-_linear(turn, grow) @ shift)])
        found.append((float(peaks[best]), start))
    found.sort(key=lambda one: -one[0])
    return [np.zeros(4), *(start for _, start in found[:_STARTS])]  # most cameras photograph both unmoved


def _image(values: NDArray[Any]) -> Any:
    return need_simpleitk().GetImageFromArray(np.asarray(values, np.float32))


def register_frame(
    photo: NDArray[np.uint8],
    frame: NDArray[np.uint8],
    *,
    accept: float = ACCEPT,
) -> Registration:
    """Finds where a frame lies on its photograph (rotation, scale, shift).

    Args:
        photo: uint8 (H, W, 3).
        frame: uint8 (h, w), grey.
        accept: least quality.

    Raises:
        MissingDependencyError: SimpleITK (extra ``train``) is not installed.
    """
    fixed = _lines(np.ascontiguousarray(photo[..., 1]), either_sign=False)
    moving = _lines(frame, either_sign=True)
    where, quality = _search(fixed, moving, _coarse(fixed, moving))
    return Registration(_as_affine(where, photo.shape[:2], frame.shape), quality, quality >= accept)


def _search(
    fixed: _Lines, moving: _Lines, starts: Iterable[NDArray[np.float64]]
) -> tuple[NDArray[np.float64], float]:
    """The best of all starts at half the resolution, refined at the full one, and its correlation."""
    rough = fixed.half, moving.half
    first = max((_refine(*rough, start) for start in starts), key=lambda found: _correlation(*rough, found))
    where = _refine(fixed, moving, first)
    return where, max(0.0, _correlation(fixed, moving, where))


def _refine(fixed: _Lines, moving: _Lines, start: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = np.array([0.03, 0.03, 4.0, 4.0])  # steps of like effect: radians, log scale, pixels

    def cost(p: NDArray[np.float64]) -> float:
        return -_correlation(fixed, moving, p * unit)

    options = {"maxiter": 4, "xtol": 1e-2, "ftol": 1e-3}
    found = optimize.minimize(cost, start / unit, method="Powell", options=options).x
    return np.asarray(found * unit, np.float64)


def _as_affine(
    parameters: NDArray[np.float64], photo: tuple[int, ...], frame: tuple[int, ...]
) -> tuple[float, ...]:
    """Frame to photo in full pixels: the inverse of the target-to-source warp at WORK pixels."""
    turn, grow, down, right = parameters
    linear = _linear(turn, grow)
    middle = np.array([WORK / 2] * 2)
    offset = middle - linear @ middle + np.array([down, right])
    to_work, from_work = WORK / max(frame), max(photo) / WORK
    back = np.linalg.inv(linear)
    scaled = back * to_work * from_work
    move = from_work * (-back @ offset)
    # Rows and columns are (y, x); the file has (x, y).
    return tuple(float(v) for v in (scaled[1, 1], scaled[1, 0], move[1], scaled[0, 1], scaled[0, 0], move[0]))


def register_frames(sequence: PairSequence, *, accept: float = ACCEPT) -> list[Registration]:
    """Where each frame of a sequence lies on its photo; a transform that is given has quality 1.

    An eye moves little between frames, so those that are not accepted are looked for once more from where the
    best frame of the sequence lies. A frame that is blank, nearly black or cannot be read has quality 0 and a
    reason.

    Raises:
        PictureError: the photo cannot be read.
        MissingDependencyError: SimpleITK is not installed.
    """
    photo = read_picture(sequence.photo)
    fixed = _lines(np.ascontiguousarray(photo[..., 1]), either_sign=False)
    lines: dict[int, _Lines] = {}
    shapes: dict[int, tuple[int, ...]] = {}
    found: dict[int, tuple[NDArray[np.float64], float]] = {}
    reasons: dict[int, str] = {}
    for number, frame in enumerate(sequence.frames):
        if frame.transform is not None:
            continue
        grey = _grey(frame.path)
        if isinstance(grey, str):
            reasons[number] = grey
            continue
        lines[number], shapes[number] = _lines(grey, either_sign=True), grey.shape
        found[number] = _search(fixed, lines[number], _coarse(fixed, lines[number]))
    best = max(found, key=lambda number: found[number][1], default=0)
    for number, (_, quality) in list(found.items()):
        if quality < accept <= found[best][1] and shapes[number] == shapes[best]:
            again = _search(fixed, lines[number], [found[best][0]])
            found[number] = max(found[number], again, key=lambda one: one[1])
    result = []
    for number, frame in enumerate(sequence.frames):
        if frame.transform is not None:
            result.append(Registration(frame.transform, 1.0, accepted=True))
        elif number in reasons:
            result.append(Registration(_UNMOVED, 0.0, accepted=False, reason=reasons[number]))
        else:
            where, quality = found[number]
            affine = _as_affine(where, photo.shape[:2], shapes[number])
            result.append(Registration(affine, quality, quality >= accept))
    return result


def _grey(path: Path) -> NDArray[np.uint8] | str:
    """A frame's grey levels, or why they say nothing."""
    try:
        grey = read_picture(path).mean(2).astype(np.uint8)
    except PictureError as error:
        return str(error)
    if grey.max() <= FAINT:
        return (
            f"nearly black: brightest {grey.max()} of 255. Multiply frames of 12 bits in files of 16 by 16."
        )
    return np.asarray(grey, np.uint8)
