"""Ways to segment vessels, behind one face: none to sixteen pictures to learn from, then a map a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of
from retina_fm.errors import ConfigError
from retina_fm.evaluation.suite import Settings

Mask = NDArray[np.bool_]
_SHARE = 0.12
"""Of the field of view that vessels cover; it sets the threshold where nothing is learnt."""


class Fitted(NamedTuple):
    """A method after its examples.

    Attributes:
        scores: photo to ``float32 (H, W)``, higher on vessels.
        threshold: from which a pixel is called a vessel; None takes the surest eighth or so of each photo.
    """

    scores: Callable[[Path], NDArray[Any]]
    threshold: float | None


class VesselMethod(NamedTuple):
    """A method by name.

    Attributes:
        name: of the contender.
        identity: what determines its results beside examples and seed.
        fit: examples, masks, fields of view and seed to a fitted method; a text says why it cannot.
    """

    name: str
    identity: dict[str, Any]
    fit: Callable[[Sequence[Path], Sequence[Mask], Sequence[Mask], int], Fitted | str]


def call_vessels(scores: NDArray[Any], inside: Mask, threshold: float | None) -> Mask:
    """The pixels called vessels."""
    if threshold is None:
        threshold = float(np.quantile(scores[inside], 1 - _SHARE))
        return (scores > threshold) & inside
    return (scores >= threshold) & inside


def frangi(_: Settings) -> VesselMethod:
    """Frangi's filter."""
    from retina_fm.evaluation.baselines.frangi import frangi_vessels
    from retina_fm.metrics.scores import best_threshold

    def fit(photos: Sequence[Path], masks: Sequence[Mask], fields: Sequence[Mask], _: int) -> Fitted:
        """The filter learns nothing; examples choose the threshold."""
        if not photos:
            return Fitted(frangi_vessels, None)
        examples = list(zip([frangi_vessels(path) for path in photos], masks, fields, strict=True))
        pooled = np.concatenate([scores[inside] for scores, _, inside in examples])
        candidates = np.quantile(pooled, np.linspace(0.8, 0.98, 37))
        return Fitted(frangi_vessels, best_threshold(examples, candidates))

    return VesselMethod("frangi", {"kind": "frangi", "version": 1}, fit)


def scratch(settings: Settings) -> VesselMethod:
    """A U-Net without pretraining."""

    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted | str:
        if not photos:
            return "a network from scratch knows nothing without examples"
        import torch

        from retina_fm.encoding.precision import fastest_precision
        from retina_fm.evaluation.baselines.unet import ScratchUNet

        native = fastest_precision(torch.device("cpu")).dtype == torch.bfloat16
        network = ScratchUNet(steps=settings.vessel_steps, seed=seed, bfloat16=native).fit(photos, masks)
        return Fitted(network.predict_proba, network.threshold_)

    identity = {"kind": "unet-scratch", "version": 1, "steps": settings.vessel_steps}
    return VesselMethod("unet-scratch", identity, fit)


def sam2(name: str, folder: str, settings: Settings) -> VesselMethod:
    """SAM 2 from a folder of weights, its mask decoder trained."""

    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted:
        from retina_fm.evaluation.baselines.sam2 import Sam2Vessels

        network = Sam2Vessels(folder, steps=settings.vessel_steps, seed=seed)
        if photos:
            network.fit(photos, masks)
        return Fitted(network.predict_proba, network.threshold_ if photos else None)

    files = sorted(Path(folder).glob("*.safetensors"))
    identity = {"kind": "sam2", "steps": settings.vessel_steps, "files": [sha256_of(file) for file in files]}
    return VesselMethod(name, identity, fit)


def adapter(
    name: str, source: str, encoder: Callable[[], Any], identity: dict[str, Any], settings: Settings
) -> VesselMethod:
    """A light decoder over an encoder's maps; without examples, vessels read off its generator.

    Args:
        name: of the contender.
        source: that models are loaded by.
        encoder: gives the loaded one.
        identity: of the encoder.
        settings: of the suite.
    """

    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted | str:
        from retina_fm.adapters import FundusSegmenter, vessel_reader

        if not photos:
            try:
                return Fitted(vessel_reader(source), None)
            except ConfigError as error:
                return str(error)
        segmenter = FundusSegmenter(
            model=encoder(),
            steps=settings.vessel_steps,
            view_size=settings.vessel_size,
            seed=seed,
            progress=False,
        )
        segmenter.fit(list(photos), [mask.astype(np.uint8) for mask in masks])
        return Fitted(lambda path: segmenter.predict_proba([path])[0], float(segmenter.threshold_))

    return VesselMethod(name, {**identity, "decoder": "light"}, fit)
