"""Other ways to lay a frame on its photo, to measure the library's beside; all are judged by its quality."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import SimpleITK
from numpy.typing import NDArray
from scipy import ndimage
from skimage.registration import phase_cross_correlation
from skimage.transform import warp_polar

from retina_fm.training.pairs import registration as ours

Picture = NDArray[np.uint8]
Parameters = NDArray[np.float64]
Search = Callable[[Picture, Picture], ours.Registration]
WORK = ours.WORK


def log_polar(photo: Picture, frame: Picture) -> ours.Registration:
    """Starts by phase correlation in log-polar coordinates (Reddy and Chatterji 1996, IEEE TIP 5:1266)."""
    return _judged(photo, frame, lambda fixed, moving: ours._search(fixed, moving, _starts(fixed, moving))[0])


def gradient(photo: Picture, frame: Picture) -> ours.Registration:
    """The library's starts, each refined on the lines by SimpleITK's gradient descent."""

    def search(fixed: ours._Lines, moving: ours._Lines) -> Parameters:
        starts = ours._coarse(fixed, moving)
        found = [_gradient(fixed, moving, start) for start in starts]
        return max(found, key=lambda one: ours._correlation(fixed, moving, one))

    return _judged(photo, frame, search)


def gradient_unmoved(photo: Picture, frame: Picture) -> ours.Registration:
    """The same from no movement alone."""
    return _judged(photo, frame, lambda fixed, moving: _gradient(fixed, moving, np.zeros(4)))


def mutual_information(photo: Picture, frame: Picture) -> ours.Registration:
    """SimpleITK as it is commonly used: mutual information of grey levels, on three levels, unmoved start."""

    def search(fixed: ours._Lines, moving: ours._Lines) -> Parameters:
        method = _method(fixed, moving, [4, 2, 1], [4.0, 2.0, 0.0])
        method.SetMetricAsMattesMutualInformation(32)
        return _run(method, _grey(photo[..., 1]), _grey(frame), np.zeros(4))

    return _judged(photo, frame, search)


SEARCHES: dict[str, Search] = {
    "ours": ours.register_frame,
    "log-polar": log_polar,
    "gradient": gradient,
    "gradient-unmoved": gradient_unmoved,
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


def _gradient(fixed: ours._Lines, moving: ours._Lines, start: Parameters) -> Parameters:
    method = _method(fixed, moving, [2, 1], [2.0, 0.0])
    method.SetMetricAsCorrelation()
    return _run(method, fixed.strength, moving.strength, start)


def _method(
    fixed: ours._Lines, moving: ours._Lines, shrink: list[int], smooth: list[float]
) -> SimpleITK.ImageRegistrationMethod:
    """Gradient descent inside both fields; its metric is left to set."""
    method = SimpleITK.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)
    method.SetMetricFixedMask(_image(fixed.inside > 0.5, np.uint8))
    method.SetMetricMovingMask(_image(moving.inside > 0.5, np.uint8))
    method.SetInterpolator(SimpleITK.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(
        learningRate=1.0, minStep=1e-3, numberOfIterations=100, gradientMagnitudeTolerance=1e-6
    )  # steps in pixels
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel(shrink)
    method.SetSmoothingSigmasPerLevel(smooth)
    return method


def _run(
    method: SimpleITK.ImageRegistrationMethod,
    fixed: NDArray[np.float32],
    moving: NDArray[np.float32],
    start: Parameters,
) -> Parameters:
    """Where the method ends; ``start`` where it meets nothing in common on the way."""
    turn, grow, down, right = (float(value) for value in start)
    middle = (WORK - 1) / 2
    # SimpleITK has (x, y), and so turns the other way.
    transform = SimpleITK.Similarity2DTransform(np.exp(grow), -turn, (right, down), (middle, middle))
    method.SetInitialTransform(transform, inPlace=True)
    try:
        method.Execute(_image(fixed), _image(moving))
    except RuntimeError:
        return start
    if transform.GetScale() <= 0:
        return start
    right, down = transform.GetTranslation()
    return np.array([-transform.GetAngle(), np.log(transform.GetScale()), down, right])


def _starts(fixed: ours._Lines, moving: ours._Lines) -> list[Parameters]:
    """No movement, and what the spectra say about turn and scale, either way round."""
    spectra = []
    window = np.outer(np.hanning(WORK), np.hanning(WORK))
    for image in (fixed.strength, moving.strength):
        spectrum = np.abs(np.fft.fftshift(np.fft.fft2(image * window)))
        spectra.append(warp_polar(spectrum, radius=WORK // 2, scaling="log", output_shape=(360, WORK)))
    halves = (np.log1p(spectrum[:180]) for spectrum in spectra)
    shift, _, _ = phase_cross_correlation(*halves, upsample_factor=4, normalization=None)
    turn, grow = float(np.deg2rad(shift[0])), float(np.log(WORK / 2) * shift[1] / WORK)
    starts = [np.zeros(4)]
    for angle, scale in ((0.0, 0.0), (turn, grow), (-turn, -grow)):
        if abs(angle) <= 0.6 and abs(scale) <= 0.4:
            turned = ours._warp(moving.strength, np.array([angle, scale, 0.0, 0.0]))
            move, _, _ = phase_cross_correlation(fixed.strength, turned, normalization=None)
            starts.append(np.array([angle, scale, -float(move[0]), -float(move[1])]))
    return starts
