"""Heads, decoders and few-shot protocols on frozen or fine-tuned encoders.

Names are loaded on first use, so that importing this package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "Draw": "retina_fm.adapters.examples.draws",
    "FundusClassifier": "retina_fm.adapters.photo_estimators",
    "FundusRegressor": "retina_fm.adapters.photo_estimators",
    "FundusSegmenter": "retina_fm.adapters.segmenter",
    "LinearClassifier": "retina_fm.adapters.heads.linear",
    "LinearRegressor": "retina_fm.adapters.heads.linear",
    "MLPClassifier": "retina_fm.adapters.heads.mlp",
    "MLPRegressor": "retina_fm.adapters.heads.mlp",
    "NearestMeanClassifier": "retina_fm.adapters.heads.neighbours",
    "NeighboursClassifier": "retina_fm.adapters.heads.neighbours",
    "NeighboursRegressor": "retina_fm.adapters.heads.neighbours",
    "adapt": "retina_fm.adapters.factory",
    "draw_examples": "retina_fm.adapters.examples.draws",
    "draw_pictures": "retina_fm.adapters.examples.draws",
    "export_adapter": "retina_fm.adapters.onnx_export",
    "lesion_maps": "retina_fm.adapters.zero_shot",
    "load": "retina_fm.adapters.factory",
    "save": "retina_fm.adapters.saving",
    "overlay": "retina_fm.pictures.sheets",
    "pair_by_name": "retina_fm.pictures.masks",
    "pull": "retina_fm.adapters.hub",
    "push": "retina_fm.adapters.hub",
    "read_manifest": "retina_fm.adapters.saving",
    "vessel_maps": "retina_fm.adapters.zero_shot",
    "vessel_reader": "retina_fm.adapters.zero_shot",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.adapters.examples.draws import Draw as Draw
    from retina_fm.adapters.examples.draws import draw_examples as draw_examples
    from retina_fm.adapters.examples.draws import draw_pictures as draw_pictures
    from retina_fm.adapters.factory import adapt as adapt
    from retina_fm.adapters.factory import load as load
    from retina_fm.adapters.heads.linear import LinearClassifier as LinearClassifier
    from retina_fm.adapters.heads.linear import LinearRegressor as LinearRegressor
    from retina_fm.adapters.heads.mlp import MLPClassifier as MLPClassifier
    from retina_fm.adapters.heads.mlp import MLPRegressor as MLPRegressor
    from retina_fm.adapters.heads.neighbours import NearestMeanClassifier as NearestMeanClassifier
    from retina_fm.adapters.heads.neighbours import NeighboursClassifier as NeighboursClassifier
    from retina_fm.adapters.heads.neighbours import NeighboursRegressor as NeighboursRegressor
    from retina_fm.adapters.hub import pull as pull
    from retina_fm.adapters.hub import push as push
    from retina_fm.adapters.onnx_export import export_adapter as export_adapter
    from retina_fm.adapters.photo_estimators import FundusClassifier as FundusClassifier
    from retina_fm.adapters.photo_estimators import FundusRegressor as FundusRegressor
    from retina_fm.adapters.saving import read_manifest as read_manifest
    from retina_fm.adapters.saving import save as save
    from retina_fm.adapters.segmenter import FundusSegmenter as FundusSegmenter
    from retina_fm.adapters.zero_shot import lesion_maps as lesion_maps
    from retina_fm.adapters.zero_shot import vessel_maps as vessel_maps
    from retina_fm.adapters.zero_shot import vessel_reader as vessel_reader
    from retina_fm.pictures.masks import pair_by_name as pair_by_name
    from retina_fm.pictures.sheets import overlay as overlay
