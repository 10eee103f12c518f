"""Simulated angiograms, paired videos and generative pretraining.

The public names are loaded on first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from retina_fm._doors import lazy_names

_HOMES = {
    "DrawnRetina": "retina_fm.training.simulator.anatomy.drawn",
    "EyeBatch": "retina_fm.training.simulator.rendering.eye_batch",
    "LESION_TYPES": "retina_fm.vocabulary",
    "Limits": "retina_fm.training.pretraining.run_settings",
    "Machine": "retina_fm.training.pretraining.run_settings",
    "PRESETS": "retina_fm.training.pretraining.presets",
    "PairSamples": "retina_fm.training.pretraining.data.pair_samples",
    "PairSequence": "retina_fm.training.pairs.table",
    "PreparedEye": "retina_fm.training.simulator.eyes.prepared",
    "Preset": "retina_fm.training.pretraining.presets",
    "PretrainReport": "retina_fm.training.pretraining.run_settings",
    "Recipe": "retina_fm.training.pretraining.recipes",
    "Rendered": "retina_fm.training.simulator.rendering.render",
    "RenderedSamples": "retina_fm.training.pretraining.data.samples",
    "Samples": "retina_fm.training.pretraining.data.samples",
    "Validation": "retina_fm.training.pretraining.run_settings",
    "check_data": "retina_fm.training.pretraining.data.sources",
    "check_pairs": "retina_fm.training.pairs.table",
    "draw_parameters": "retina_fm.training.simulator.rendering.parameters",
    "draw_patient": "retina_fm.training.simulator.anatomy.drawn",
    "draw_retina": "retina_fm.training.simulator.anatomy.drawn",
    "find_recipe": "retina_fm.training.pretraining.recipes",
    "list_recipes": "retina_fm.training.pretraining.recipes",
    "load_eye": "retina_fm.training.simulator.eyes.prepared",
    "open_stream": "retina_fm.training.pretraining.data.feeding",
    "prepare_drawn": "retina_fm.training.simulator.eyes.prepare",
    "prepare_drawn_folder": "retina_fm.training.simulator.eyes.prepare_folder",
    "prepare_eye": "retina_fm.training.simulator.eyes.prepare",
    "prepare_folder": "retina_fm.training.simulator.eyes.prepare_folder",
    "prepare_view": "retina_fm.training.simulator.eyes.prepare",
    "preset_named": "retina_fm.training.pretraining.presets",
    "pretrain": "retina_fm.training.pretraining.pretrain",
    "read_pairs": "retina_fm.training.pairs.table",
    "register_archive": "retina_fm.training.pairs.register_archive",
    "render_batch": "retina_fm.training.simulator.rendering.render",
    "render_parameters": "retina_fm.training.simulator.rendering.render",
    "render_samples": "retina_fm.training.pretraining.data.samples",
    "stack_eyes": "retina_fm.training.simulator.rendering.eye_batch",
    "with_settings": "retina_fm.training.pretraining.presets",
    "write_pairs": "retina_fm.training.pairs.table",
}

__getattr__, __dir__, __all__ = lazy_names(__name__, _HOMES)

if TYPE_CHECKING:
    from retina_fm.training.pairs.register_archive import register_archive as register_archive
    from retina_fm.training.pairs.table import PairSequence as PairSequence
    from retina_fm.training.pairs.table import check_pairs as check_pairs
    from retina_fm.training.pairs.table import read_pairs as read_pairs
    from retina_fm.training.pairs.table import write_pairs as write_pairs
    from retina_fm.training.pretraining.data.feeding import open_stream as open_stream
    from retina_fm.training.pretraining.data.pair_samples import PairSamples as PairSamples
    from retina_fm.training.pretraining.data.samples import RenderedSamples as RenderedSamples
    from retina_fm.training.pretraining.data.samples import Samples as Samples
    from retina_fm.training.pretraining.data.samples import render_samples as render_samples
    from retina_fm.training.pretraining.data.sources import check_data as check_data
    from retina_fm.training.pretraining.presets import PRESETS as PRESETS
    from retina_fm.training.pretraining.presets import Preset as Preset
    from retina_fm.training.pretraining.presets import preset_named as preset_named
    from retina_fm.training.pretraining.presets import with_settings as with_settings
    from retina_fm.training.pretraining.pretrain import pretrain as pretrain
    from retina_fm.training.pretraining.recipes import Recipe as Recipe
    from retina_fm.training.pretraining.recipes import find_recipe as find_recipe
    from retina_fm.training.pretraining.recipes import list_recipes as list_recipes
    from retina_fm.training.pretraining.run_settings import Limits as Limits
    from retina_fm.training.pretraining.run_settings import Machine as Machine
    from retina_fm.training.pretraining.run_settings import PretrainReport as PretrainReport
    from retina_fm.training.pretraining.run_settings import Validation as Validation
    from retina_fm.training.simulator.anatomy.drawn import DrawnRetina as DrawnRetina
    from retina_fm.training.simulator.anatomy.drawn import draw_patient as draw_patient
    from retina_fm.training.simulator.anatomy.drawn import draw_retina as draw_retina
    from retina_fm.training.simulator.eyes.prepare import prepare_drawn as prepare_drawn
    from retina_fm.training.simulator.eyes.prepare import prepare_eye as prepare_eye
    from retina_fm.training.simulator.eyes.prepare import prepare_view as prepare_view
    from retina_fm.training.simulator.eyes.prepare_folder import prepare_drawn_folder as prepare_drawn_folder
    from retina_fm.training.simulator.eyes.prepare_folder import prepare_folder as prepare_folder
    from retina_fm.training.simulator.eyes.prepared import PreparedEye as PreparedEye
    from retina_fm.training.simulator.eyes.prepared import load_eye as load_eye
    from retina_fm.training.simulator.rendering.eye_batch import EyeBatch as EyeBatch
    from retina_fm.training.simulator.rendering.eye_batch import stack_eyes as stack_eyes
    from retina_fm.training.simulator.rendering.parameters import draw_parameters as draw_parameters
    from retina_fm.training.simulator.rendering.render import Rendered as Rendered
    from retina_fm.training.simulator.rendering.render import render_batch as render_batch
    from retina_fm.training.simulator.rendering.render import render_parameters as render_parameters
    from retina_fm.vocabulary import LESION_TYPES as LESION_TYPES
