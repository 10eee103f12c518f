"""Registers real, slightly misaligned angiogram frames onto their photograph, with a quality figure.

Vessels are dark in the photo and bright (or, early and late, dark) in frames, so both are turned into line
strength first. A coarse rotation, scale and shift from phase correlation in log-polar coordinates (Reddy and
Chatterji 1996, IEEE TIP 5:1266; scikit-image) is refined until the lines correlate best.
"""

from __future__ import annotations

import importlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage, optimize

from retina_fm.errors import MissingDependencyError
from retina_fm.line_filter import flatten, line_strength
from retina_fm.training.pairs import PairSequence
from retina_fm.training.prepare import lit_field

Map = NDArray[np.float32]
WORK = 256  # registration works on pictures of this size
ACCEPT = 0.25  # least correlation of line strengths for a frame to be used


@dataclass(frozen=True)
class Registration:
    """Result for one frame.

    Attributes:
        transform: a b c d e f, from the frame's pixels (x, y) to the photo's, centres at half-integers.
        quality: correlation of line strengths after registration, 0 to 1; below 0.25 is not to be trusted.
        accepted: whether the quality suffices.
    """

    transform: tuple[float, ...]
    quality: float
    accepted: bool


def _lines(grey: NDArray[np.uint8], *, bright: bool) -> Map:
    """Line strength of a picture reduced to WORK pixels, clipped and smoothed; zero outside its field."""
    zoom = WORK / max(grey.shape)
    small = ndimage.zoom(grey.astype(np.float32), zoom, order=1)
    canvas = np.zeros((WORK, WORK), np.float32)
    canvas[: small.shape[0], : small.shape[1]] = small[:WORK, :WORK]
    picture = np.repeat(np.clip(canvas, 0, 255).astype(np.uint8)[..., None], 3, 2)
    field = lit_field(picture)
    radius = float(np.sqrt(field.sum() / np.pi))
    flat = flatten(picture, field, radius)
    strength = line_strength(-flat if bright else flat, field, radius)
    return np.asarray(ndimage.gaussian_filter(np.clip(strength, 0, 12), 1.2), np.float32)


def _warp(image: Map, parameters: NDArray[np.float64]) -> Map:
    """Resamples ``image`` by rotation, log scale and shift about the middle: target to source."""
    turn, grow, down, right = parameters
    cos, sin = np.cos(turn) * np.exp(grow), np.sin(turn) * np.exp(grow)
    matrix = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([(WORK - 1) / 2] * 2)
    offset = middle - matrix @ middle + np.array([down, right])
    return np.asarray(ndimage.affine_transform(image, matrix, offset, order=1), np.float32)


def _correlation(a: Map, b: Map) -> float:
    both = (a > 0) & (b > 0)
    if both.sum() < 200:
        return 0.0
    x, y = a[both] - a[both].mean(), b[both] - b[both].mean()
    return float((x * y).sum() / (np.sqrt((x * x).sum() * (y * y).sum()) + 1e-6))


def _coarse(fixed: Map, moving: Map) -> list[NDArray[np.float64]]:
    try:
        registration: Any = importlib.import_module("skimage.registration")
        warp_polar: Any = importlib.import_module("skimage.transform").warp_polar
    except ImportError as error:
        raise MissingDependencyError(
            "Registration needs scikit-image, which is not installed. "
            "Install it with: pip install 'retina-fm[train]'"
        ) from error
    correlate = registration.phase_cross_correlation
    spectra = []
    window = np.outer(np.hanning(WORK), np.hanning(WORK))
    for image in (fixed, moving):
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(image * window)))
        spectra.append(warp_polar(spectrum, radius=WORK // 2, scaling="log", output_shape=(360, WORK)))
    shift, _, _ = correlate(*(np.log1p(s[:180]) for s in spectra), upsample_factor=4, normalization=None)
    turn, grow = np.deg2rad(shift[0]), np.log(WORK / 2) * shift[1] / WORK
    starts = []
    for angle, scale in ((0.0, 0.0), (float(turn), float(grow)), (-float(turn), -float(grow))):
        if abs(angle) > 0.6 or abs(scale) > 0.4:
            continue
        turned = _warp(moving, np.array([angle, scale, 0.0, 0.0]))
        move, _, _ = correlate(fixed, turned, normalization=None)
        starts.append(np.array([angle, scale, -float(move[0]), -float(move[1])]))
    return starts


def register_frame(
    photo: NDArray[np.uint8], frame: NDArray[np.uint8], *, accept: float = ACCEPT
) -> Registration:
    """Finds where a frame lies on its photograph (rotation, scale, shift).

    Args:
        photo: uint8 (H, W, 3).
        frame: uint8 (h, w), grey.
        accept: least quality.

    Raises:
        MissingDependencyError: scikit-image (extra ``train``) is not installed.
    """
    fixed = _lines(photo[..., 1], bright=False)
    moving = _lines(frame, bright=True)
    best, where = 0.0, np.zeros(4)
    for start in _coarse(fixed, moving):
        found = _refine(fixed, moving, start)
        quality = _correlation(fixed, _warp(moving, found))
        if quality > best:
            best, where = quality, found
    return Registration(_as_affine(where, photo.shape[:2], frame.shape), best, best >= accept)


def _refine(fixed: Map, moving: Map, start: NDArray[np.float64]) -> NDArray[np.float64]:
    unit = np.array([0.03, 0.03, 4.0, 4.0])  # steps of like effect: radians, log scale, pixels
    current = start
    for sigma in (3.0, 1.0):
        a, b = ndimage.gaussian_filter(fixed, sigma), ndimage.gaussian_filter(moving, sigma)

        def cost(p: NDArray[np.float64], a: Map = a, b: Map = b) -> float:
            return -_correlation(a, _warp(b, p * unit))

        options = {"maxiter": 8, "xtol": 1e-2}
        current = unit * optimize.minimize(cost, current / unit, method="Powell", options=options).x
    return np.asarray(current, np.float64)


def _as_affine(
    parameters: NDArray[np.float64], photo: tuple[int, ...], frame: tuple[int, ...]
) -> tuple[float, ...]:
    """Frame to photo in full pixels: the inverse of the target-to-source warp at WORK pixels."""
    turn, grow, down, right = parameters
    cos, sin = np.cos(turn) * np.exp(grow), np.sin(turn) * np.exp(grow)
    linear = np.array([[cos, -sin], [sin, cos]])
    middle = np.array([WORK / 2] * 2)
    offset = middle - linear @ middle + np.array([down, right])
    to_work, from_work = WORK / max(frame), max(photo) / WORK
    back = np.linalg.inv(linear)
    scaled = back * to_work * from_work
    move = from_work * (-back @ offset)
    # Rows and columns are (y, x); the file has (x, y).
    return tuple(float(v) for v in (scaled[1, 1], scaled[1, 0], move[1], scaled[0, 1], scaled[0, 0], move[0]))


def register_sequence(
    sequence: PairSequence, *, accept: float = ACCEPT
) -> tuple[PairSequence, list[tuple[str, float]]]:
    """Registers every frame of a sequence; frames below the quality are dropped and listed with it.

    Raises:
        PictureError: a file cannot be read.
        MissingDependencyError: scikit-image is not installed.
    """
    from retina_fm.pictures import read_picture

    photo = read_picture(sequence.photo)
    kept, rejected = [], []
    for frame in sequence.frames:
        grey = read_picture(frame.path).mean(2).astype(np.uint8)
        found = register_frame(photo, grey, accept=accept)
        if found.accepted:
            kept.append(replace(frame, transform=found.transform))
        else:
            rejected.append((str(frame.path), found.quality))
    return replace(sequence, frames=tuple(kept)), rejected
