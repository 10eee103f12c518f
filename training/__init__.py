"""Simulated angiograms, paired videos and generative pretraining.

The public names are loaded on first use.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

_HOMES = {
    "DrawnRetina": "retina_fm.training.drawn",
    "EyeBatch": "retina_fm.training.eye_batch",
    "LESION_TYPES": "retina_fm.training.lesion_shapes",
    "Limits": "retina_fm.training.run_settings",
    "Machine": "retina_fm.training.run_settings",
    "PRESETS": "retina_fm.training.presets",
    "PairSamples": "retina_fm.training.pair_samples",
    "PairSequence": "retina_fm.training.pairs",
    "PreparedEye": "retina_fm.training.prepared",
    "Preset": "retina_fm.training.presets",
    "PretrainReport": "retina_fm.training.run_settings",
    "Rendered": "retina_fm.training.render",
    "RenderedSamples": "retina_fm.training.samples",
    "Samples": "retina_fm.training.samples",
    "check_data": "retina_fm.training.checks",
    "check_pairs": "retina_fm.training.pairs",
    "draw_parameters": "retina_fm.training.parameters",
    "draw_patient": "retina_fm.training.drawn",
    "draw_retina": "retina_fm.training.drawn",
    "load_eye": "retina_fm.training.prepared",
    "open_stream": "retina_fm.training.feeding",
    "prepare_drawn": "retina_fm.training.prepare",
    "prepare_drawn_folder": "retina_fm.training.prepare_folder",
    "prepare_eye": "retina_fm.training.prepare",
    "prepare_folder": "retina_fm.training.prepare_folder",
    "prepare_view": "retina_fm.training.prepare",
    "preset_named": "retina_fm.training.presets",
    "pretrain": "retina_fm.training.pretraining",
    "read_pairs": "retina_fm.training.pairs",
    "register_archive": "retina_fm.training.register_archive",
    "register_sequence": "retina_fm.training.registration",
    "render_batch": "retina_fm.training.render",
    "render_parameters": "retina_fm.training.render",
    "render_samples": "retina_fm.training.samples",
    "sample_steps": "retina_fm.training.samples",
    "stack_eyes": "retina_fm.training.eye_batch",
    "with_settings": "retina_fm.training.presets",
    "write_pairs": "retina_fm.training.pairs",
}

__all__ = [
    "LESION_TYPES",
    "PRESETS",
    "DrawnRetina",
    "EyeBatch",
    "Limits",
    "Machine",
    "PairSamples",
    "PairSequence",
    "PreparedEye",
    "Preset",
    "PretrainReport",
    "Rendered",
    "RenderedSamples",
    "Samples",
    "check_data",
    "check_pairs",
    "draw_parameters",
    "draw_patient",
    "draw_retina",
    "load_eye",
    "open_stream",
    "prepare_drawn",
    "prepare_drawn_folder",
    "prepare_eye",
    "prepare_folder",
    "prepare_view",
    "preset_named",
    "pretrain",
    "read_pairs",
    "register_archive",
    "register_sequence",
    "render_batch",
    "render_parameters",
    "render_samples",
    "sample_steps",
    "stack_eyes",
    "with_settings",
    "write_pairs",
]

if TYPE_CHECKING:
    from retina_fm.training.checks import check_data as check_data
    from retina_fm.training.drawn import DrawnRetina as DrawnRetina
    from retina_fm.training.drawn import draw_patient as draw_patient
    from retina_fm.training.drawn import draw_retina as draw_retina
    from retina_fm.training.eye_batch import EyeBatch as EyeBatch
    from retina_fm.training.eye_batch import stack_eyes as stack_eyes
    from retina_fm.training.feeding import open_stream as open_stream
    from retina_fm.training.lesion_shapes import LESION_TYPES as LESION_TYPES
    from retina_fm.training.pair_samples import PairSamples as PairSamples
    from retina_fm.training.pairs import PairSequence as PairSequence
    from retina_fm.training.pairs import check_pairs as check_pairs
    from retina_fm.training.pairs import read_pairs as read_pairs
    from retina_fm.training.pairs import write_pairs as write_pairs
    from retina_fm.training.parameters import draw_parameters as draw_parameters
    from retina_fm.training.prepare import prepare_drawn as prepare_drawn
    from retina_fm.training.prepare import prepare_eye as prepare_eye
    from retina_fm.training.prepare import prepare_view as prepare_view
    from retina_fm.training.prepare_folder import prepare_drawn_folder as prepare_drawn_folder
    from retina_fm.training.prepare_folder import prepare_folder as prepare_folder
    from retina_fm.training.prepared import PreparedEye as PreparedEye
    from retina_fm.training.prepared import load_eye as load_eye
    from retina_fm.training.presets import PRESETS as PRESETS
    from retina_fm.training.presets import Preset as Preset
    from retina_fm.training.presets import preset_named as preset_named
    from retina_fm.training.presets import with_settings as with_settings
    from retina_fm.training.pretraining import pretrain as pretrain
    from retina_fm.training.register_archive import register_archive as register_archive
    from retina_fm.training.registration import register_sequence as register_sequence
    from retina_fm.training.render import Rendered as Rendered
    from retina_fm.training.render import render_batch as render_batch
    from retina_fm.training.render import render_parameters as render_parameters
    from retina_fm.training.run_settings import Limits as Limits
    from retina_fm.training.run_settings import Machine as Machine
    from retina_fm.training.run_settings import PretrainReport as PretrainReport
    from retina_fm.training.samples import RenderedSamples as RenderedSamples
    from retina_fm.training.samples import Samples as Samples
    from retina_fm.training.samples import render_samples as render_samples
    from retina_fm.training.samples import sample_steps as sample_steps


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'retina_fm.training' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
