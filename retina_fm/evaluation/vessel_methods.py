"""Ways to segment vessels, behind one face: none to sixteen pictures to learn from, then a map a photo."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from retina_fm._io.files import sha256_of
from retina_fm.errors import ConfigError
from retina_fm.evaluation.contenders import Contender, Encoder, VesselsOnly, Videos
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


def vessel_method(contender: Contender | VesselsOnly | Videos, settings: Settings) -> VesselMethod | None:
    """How a contender segments vessels; None for features without maps."""
    if isinstance(contender, VesselsOnly):
        if contender.folder:
            return _sam2(contender, settings)
        return {"frangi": _frangi, "unet-scratch": _scratch}[contender.name](settings)
    return _adapter(contender, settings) if isinstance(contender, Encoder) else None


def call_vessels(scores: NDArray[Any], inside: Mask, threshold: float | None) -> Mask:
    """The pixels called vessels."""
    if threshold is None:
        threshold = float(np.quantile(scores[inside], 1 - _SHARE))
        return (scores > threshold) & inside
    return (scores >= threshold) & inside


def _frangi(_: Settings) -> VesselMethod:
    from retina_fm.evaluation.baselines.frangi import frangi_vessels
    from retina_fm.metrics.scores import dice

    def fit(photos: Sequence[Path], masks: Sequence[Mask], fields: Sequence[Mask], _: int) -> Fitted:
        """The filter learns nothing; examples choose the threshold."""
        if not photos:
            return Fitted(frangi_vessels, None)
        examples = list(zip([frangi_vessels(path) for path in photos], masks, fields, strict=True))
        pooled = np.concatenate([scores[inside] for scores, _, inside in examples])
        candidates = np.quantile(pooled, np.linspace(0.8, 0.98, 37))
        found = [np.mean([dice(s >= t, mask, inside) for s, mask, inside in examples]) for t in candidates]
        return Fitted(frangi_vessels, float(candidates[int(np.argmax(found))]))

    return VesselMethod("frangi", {"kind": "frangi", "version": 1}, fit)


def _scratch(settings: Settings) -> VesselMethod:
    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted | str:
        if not photos:
            return "a network from scratch knows nothing without examples"
        from retina_fm.evaluation.baselines.unet import ScratchUNet

        network = ScratchUNet(steps=settings.vessel_steps, seed=seed).fit(photos, masks)
        return Fitted(network.predict_proba, network.threshold_)

    identity = {"kind": "unet-scratch", "version": 1, "steps": settings.vessel_steps}
    return VesselMethod("unet-scratch", identity, fit)


def _sam2(contender: VesselsOnly, settings: Settings) -> VesselMethod:
    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted:
        from retina_fm.evaluation.baselines.sam2 import Sam2Vessels

        network = Sam2Vessels(contender.folder, steps=settings.vessel_steps, seed=seed)
        if photos:
            network.fit(photos, masks)
        return Fitted(network.predict_proba, network.threshold_ if photos else None)

    files = sorted(Path(contender.folder).glob("*.safetensors"))
    identity = {"kind": "sam2", "steps": settings.vessel_steps, "files": [sha256_of(file) for file in files]}
    return VesselMethod(contender.name, identity, fit)


def _adapter(contender: Encoder, settings: Settings) -> VesselMethod:
    def fit(photos: Sequence[Path], masks: Sequence[Mask], _: Sequence[Mask], seed: int) -> Fitted | str:
        from retina_fm.adapters import FundusSegmenter, vessel_reader

        if not photos:
            try:
                return Fitted(vessel_reader(contender.source), None)
            except ConfigError as error:
                return str(error)
        segmenter = FundusSegmenter(
            model=contender.encoder,
            steps=settings.vessel_steps,
            view_size=settings.vessel_size,
            seed=seed,
            progress=False,
        )
        segmenter.fit(list(photos), [mask.astype(np.uint8) for mask in masks])
        return Fitted(lambda path: segmenter.predict_proba([path])[0], float(segmenter.threshold_))

    identity = {**contender.identity(), "decoder": "light"}
    return VesselMethod(contender.name, identity, fit)
