"""Figures of generated videos: PSNR in both conventions, SSIM, LPIPS and FVD from files that users have."""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from retina_fm._io.files import sha256_of
from retina_fm._vision import import_vision
from retina_fm.errors import MissingDependencyError, WeightsError, WeightsNotFoundError

ALEXNET_SHA256 = "7be5be79"
"""First digits of the SHA-256 of torchvision's AlexNet, which LPIPS is defined on; they are in its name."""

FVD_SIDE, FVD_FRAMES = 224, 16


@dataclass(frozen=True)
class FigureNetworks:
    """Networks that figures of videos are defined on; None where the user has no file.

    Attributes:
        lpips: from :func:`load_lpips`.
        fvd: from :func:`load_fvd`.
    """

    lpips: torch.nn.Module | None = None
    fvd: torch.jit.ScriptModule | None = None

    @property
    def missing(self) -> list[str]:
        """Figures that cannot be given, each with what it takes."""
        needs = {"LPIPS": (self.lpips, "--lpips FILE"), "FVD": (self.fvd, "--fvd FILE SHA256")}
        return [f"{name} ({option})" for name, (network, option) in needs.items() if network is None]


def video_scores(made: Tensor, true: Tensor, networks: FigureNetworks | None = None) -> dict[str, float]:
    """All figures of generated videos that can be given.

    Args:
        made: generated frames ``(N, T, H, W)`` in [-1, 1].
        true: the frames they should be.
        networks: for LPIPS and FVD; PSNR and SSIM need none.

    Returns:
        ``psnr``, ``psnr_public_code`` and ``ssim``; ``lpips``, and ``fvd`` from two videos on, with networks.
        ``fvd`` over few videos is strongly biased (:func:`frechet_distance`).
    """
    networks = networks or FigureNetworks()
    figures = {**psnr(made, true), "ssim": ssim(made, true)}
    if networks.lpips is not None:
        figures["lpips"] = lpips(networks.lpips, made, true)
    if networks.fvd is not None and len(made) > 1:
        figures["fvd"] = frechet_distance(*(video_features(networks.fvd, videos) for videos in (made, true)))
    return figures


def psnr(prediction: Tensor, target: Tensor) -> dict[str, float]:
    """Peak signal-to-noise ratio of frames in [-1, 1], in decibels, in two conventions.

    ``psnr`` takes frames as [0, 1] with peak 1, the usual way. ``psnr_public_code`` puts [-1, 1] into the
    formula for [0, 1], as the public code of Fundus2Video does: 6.02 dB less. The paper's 11.77 is of the
    second kind. Both are means over frames of the whole picture.

    Args:
        prediction: ``(N, T, H, W)``.
        target: of the same shape.
    """
    error = (prediction.double() - target.double()).square().flatten(2).mean(-1).clamp_min(1e-12)
    public = (-10 * error.log10()).mean().item()
    return {"psnr": public + 20 * math.log10(2), "psnr_public_code": public}


def ssim(prediction: Tensor, target: Tensor) -> float:
    """Structural similarity of frames ``(N, T, H, W)`` in [-1, 1], taken as [0, 1]; a mean over frames.

    Source: Wang et al. (IEEE TIP 2004), as in torchmetrics (Gaussian window of 11, sigma 1.5).

    Raises:
        MissingDependencyError: torchmetrics is not installed.
    """
    images = import_torchmetrics("functional.image")
    first, second = (((x + 1) / 2).flatten(0, 1)[:, None] for x in (prediction, target))
    return float(images.structural_similarity_index_measure(first, second, data_range=1.0))


def load_lpips(path: str | Path) -> torch.nn.Module:
    """LPIPS over AlexNet, from a file with torchvision's AlexNet; nothing is downloaded.

    Source: Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (CVPR
    2018); the linear layers ship with torchmetrics.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: it is another file.
        MissingDependencyError: torchmetrics is not installed.
    """
    source = Path(path)
    if not source.is_file():
        raise WeightsNotFoundError(f"There is no file {path} with AlexNet for LPIPS. Check the path.")
    digest = sha256_of(source)
    if not digest.startswith(ALEXNET_SHA256):
        raise WeightsError(
            f"{path} has SHA-256 {digest[:8]}..., torchvision's AlexNet {ALEXNET_SHA256}...; LPIPS is "
            "defined on that one. Give alexnet-owt-7be5be79.pth."
        )
    values = torch.load(source, map_location="cpu", weights_only=True)
    module: torch.nn.Module = import_torchmetrics("functional.image.lpips")._LPIPS(pnet_rand=True)
    state = module.state_dict()
    for key in state:
        if key.startswith("net.slice"):
            _, _, index, kind = key.split(".")
            state[key] = values[f"features.{index}.{kind}"]
    module.load_state_dict(state)
    return module.eval()


@torch.no_grad()
def lpips(module: torch.nn.Module, prediction: Tensor, target: Tensor) -> float:
    """Mean LPIPS of frames ``(N, T, H, W)`` in [-1, 1], each as three equal channels."""
    values = [
        module(p[:, None].expand(-1, 3, -1, -1), t[:, None].expand(-1, 3, -1, -1)).mean()
        for p, t in zip(prediction, target, strict=True)
    ]
    return float(torch.stack(values).mean())


def load_fvd(path: str | Path, sha256: str | None = None) -> torch.jit.ScriptModule:
    """The I3D network of FVD, from a TorchScript file; TorchScript is code, so its hash is to be given.

    Args:
        path: for example ``i3d_torchscript.pt`` of StyleGAN-V.
        sha256: of the file, or its first eight digits or more.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: the hash is missing or another.
    """
    source = Path(path)
    if not source.is_file():
        raise WeightsNotFoundError(f"There is no file {path} with I3D for FVD. Check the path.")
    digest = sha256_of(source)
    if not sha256 or len(sha256) < 8 or not digest.startswith(sha256.lower()):
        raise WeightsError(
            f"{path} has SHA-256 {digest}, {sha256 or 'none'} was given. TorchScript runs code: compare the "
            "hash with its source, then give it."
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the format is old; so is the network
        module: torch.jit.ScriptModule = torch.jit.load(str(source), map_location="cpu")  # type: ignore[no-untyped-call]
    return module.eval()


@torch.no_grad()
def video_features(network: Any, videos: Tensor) -> NDArray[np.float64]:
    """I3D features ``(N, 400)`` of videos ``(N, T, H, W)`` in [-1, 1], resized to 16 frames of 224 pixels."""
    rows = []
    for video in videos:
        colour = video[None, None].expand(1, 3, -1, -1, -1).float()
        sized = F.interpolate(colour, (FVD_FRAMES, FVD_SIDE, FVD_SIDE), mode="trilinear", align_corners=False)
        rows.append(network(sized, rescale=False, resize=False, return_features=True)[0].double().numpy())
    return np.stack(rows)


def frechet_distance(first: NDArray[Any], second: NDArray[Any]) -> float:
    """Frechet distance of two sets of features ``(N, D)``, each taken as normally distributed.

    ``|m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2))``; the trace of the root is the sum of the roots of the
    eigenvalues of ``S1 S2``, which are not negative. Over clips of one set, not clip by clip.

    Few rows make it too large, and by how much depends on the features (Chong and Forsyth, "Effectively
    Unbiased FID and Inception Score and Where to Find Them", CVPR 2020): eight videos span 7 of 400
    dimensions. Compare only figures of as many videos, and publish none over a handful.

    Source: Unterthiner et al., "Towards Accurate Generative Models of Video" (2018).

    Raises:
        ValueError: fewer than two rows.
    """
    if min(len(first), len(second)) < 2:
        raise ValueError("A covariance needs two videos or more.")
    gap = first.mean(0) - second.mean(0)
    s1, s2 = np.cov(first, rowvar=False), np.cov(second, rowvar=False)
    s1, s2 = np.atleast_2d(s1), np.atleast_2d(s2)
    eigenvalues = np.linalg.eigvals(s1 @ s2).real.clip(min=0)
    return float(gap @ gap + np.trace(s1) + np.trace(s2) - 2 * np.sqrt(eigenvalues).sum())


def import_torchmetrics(name: str) -> Any:
    """A module of torchmetrics, past the torchvision that it imports.

    Raises:
        MissingDependencyError: torchmetrics is not installed.
    """
    import importlib

    try:
        import_vision("torchmetrics")
        return importlib.import_module(f"torchmetrics.{name}")
    except ModuleNotFoundError as error:
        raise MissingDependencyError(
            "This figure needs torchmetrics, which is not installed. Install it with: "
            "pip install torchmetrics (or '.[train]' in a checkout)"
        ) from error
