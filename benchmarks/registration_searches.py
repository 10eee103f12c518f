"""Other ways to lay a frame on its photo, to measure the library's beside; all are judged by its quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage, optimize
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

from retina_fm.training.pairs import registration as ours

Picture = NDArray[np.uint8]
Parameters = NDArray[np.float64]
Search = Callable[[Picture, Picture], ours.Registration]
WORK = ours.WORK


def log_polar(photo: Picture, frame: Picture) -> ours.Registration:
    """Phase correlation in log-polar coordinates (Reddy and Chatterji 1996, IEEE TIP 5:1266), then Powell."""
    return _judged(photo, frame, _log_polar)


def gradient(photo: Picture, frame: Picture) -> ours.Registration:
    """The library's gradient descent on lines, from where the frame lies unmoved."""
    return _judged(photo, frame, lambda fixed, moving: ours._refine(fixed, moving, np.zeros(4)))


def mutual_information(photo: Picture, frame: Picture) -> ours.Registration:
    """SimpleITK as it is commonly used: mutual information of grey levels, on three levels, unmoved start."""

    def search(fixed: ours._Lines, moving: ours._Lines) -> Parameters:
        middle = (WORK - 1) / 2
        transform = SimpleITK.Similarity2DTransform(1.0, 0.0, (0.0, 0.0), (middle, middle))
        method = SimpleITK.ImageRegistrationMethod()
        method.SetNumberOfThreads(1)
        method.SetMetricAsMattesMutualInformation(32)
        method.SetMetricFixedMask(_image(fixed.inside > 0.5, np.uint8))
        method.SetMetricMovingMask(_image(moving.inside > 0.5, np.uint8))
        method.SetInterpolator(SimpleITK.sitkLinear)
        method.SetOptimizerAsRegularStepGradientDescent(1.0, 1e-3, 100)
        method.SetOptimizerScalesFromPhysicalShift()
        method.SetShrinkFactorsPerLevel([4, 2, 1])
        method.SetSmoothingSigmasPerLevel([4.0, 2.0, 0.0])
        method.SetInitialTransform(transform, inPlace=True)
        try:
            method.Execute(_image(_grey(photo[..., 1])), _image(_grey(frame)))
        except RuntimeError:
            return np.zeros(4)  # nothing in common on the way
        right, down = transform.GetTranslation()
        return np.array([-transform.GetAngle(), np.log(abs(transform.GetScale())), down, right])

    return _judged(photo, frame, search)


SEARCHES: dict[str, Search] = {
    "ours": ours.register_frame,
    "log-polar": log_polar,
    "gradient": gradient,
    "mutual-information": mutual_information,
}


def _judged(
    photo: Picture, frame: Picture, search: Callable[[ours._Lines, ours._Lines], Parameters]
) -> ours.Registration:
    fixed = ours._lines(np.ascontiguousarray(photo[..., 1]), either_sign=False)
    moving = ours._lines(frame, either_sign=True)
    where = search(fixed, moving)
    quality = max(0.0, ours._correlation(fixed, moving, where))
    transform = ours._as_affine(where, photo.shape[:2], frame.shape)
    return ours.Registration(transform, quality, quality >= ours.ACCEPT)


def _image(values: NDArray[Any], kind: type = np.float32) -> SimpleITK.Image:
    return SimpleITK.GetImageFromArray(np.asarray(values, kind))


def _grey(grey: Picture) -> NDArray[np.float32]:
    """At the size at which lines are compared, so that one set of parameters means the same."""
    zoom = WORK / max(grey.shape)
    small = ndimage.zoom(ndimage.gaussian_filter(grey.astype(np.float32), 0.5 / zoom), zoom, order=1)
    canvas = np.zeros((WORK, WORK), np.float32)
    canvas[: small.shape[0], : small.shape[1]] = small[:WORK, :WORK]
    return canvas


def _log_polar(fixed: ours._Lines, moving: ours._Lines) -> Parameters:
    starts = _starts(fixed.strength, moving.strength)
    rough = fixed.half, moving.half
    found = (_powell(*rough, start) for start in starts)
    return _powell(fixed, moving, max(found, key=lambda one: ours._correlation(*rough, one)))


def _starts(fixed: NDArray[np.float32], moving: NDArray[np.float32]) -> list[Parameters]:
    spectra = []
    window = np.outer(np.hanning(WORK), np.hanning(WORK))
    for image in (fixed, moving):
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(image * window)))
        spectra.append(warp_polar(spectrum, radius=WORK // 2, scaling="log", output_shape=(360, WORK)))
    halves = (np.log1p(spectrum[:180]) for spectrum in spectra)
    shift, _, _ = phase_cross_correlation(*halves, upsample_factor=4, normalization=None)
    turn, grow = float(np.deg2rad(shift[0])), float(np.log(WORK / 2) * shift[1] / WORK)
    starts = [np.zeros(4)]
    for angle, scale in ((0.0, 0.0), (turn, grow), (-turn, -grow)):
        if abs(angle) <= 0.6 and abs(scale) <= 0.4:
            turned = ours._warp(moving, np.array([angle, scale, 0.0, 0.0]))
            move, _, _ = phase_cross_correlation(fixed, turned, normalization=None)
            starts.append(np.array([angle, scale, -float(move[0]), -float(move[1])]))
    return starts


def _powell(fixed: ours._Lines, moving: ours._Lines, start: Parameters) -> Parameters:
    unit = np.array([0.03, 0.03, 4.0, 4.0])  # steps of like effect: radians, log scale, pixels

    def cost(p: Parameters) -> float:
        return -ours._correlation(fixed, moving, p * unit)

    options = {"maxiter": 4, "xtol": 1e-2, "ftol": 1e-3}
    return np.asarray(optimize.minimize(cost, start / unit, method="Powell", options=options).x * unit)
