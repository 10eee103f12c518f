"""Presets keep what the paper fixed, and survive JSON."""

from __future__ import annotations

import json

import pytest

from retina_fm.errors import ConfigError
from retina_fm.training.presets import PRESETS, Preset, preset_named, with_settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = preset_named(name)
    assert Preset.from_dict(json.loads(json.dumps(preset.as_dict()))) == preset


def test_the_papers_preset_has_its_weights_and_none_of_our_terms():
    preset = preset_named("fundus2video-paper")
    weights = preset.weights
    assert (weights.patch_nce, weights.attention, weights.adversarial) == (1, 4, 2)
    assert weights.reconstruction == weights.correlation == weights.lesions == 0
    assert preset.architecture.encoder_blocks + preset.architecture.decoder_blocks == 9
    assert preset.curriculum.adversarial_from == 0


def test_the_released_size_is_three_blocks_of_width_64():
    architecture = preset_named("fundus2video").architecture
    assert (architecture.width, architecture.encoder_blocks, architecture.decoder_blocks) == (64, 3, 0)


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(ConfigError, match="fundus2video"):
        preset_named("fundus2vido")


def test_settings_reach_into_parts_and_unknown_ones_are_refused():
    changed = with_settings(preset_named("tiny"), {"batch": 2, "weights.lesions": 0.0})
    assert (changed.batch, changed.weights.lesions) == (2, 0.0)
    assert changed.weights.reconstruction == preset_named("tiny").weights.reconstruction
    with pytest.raises(ConfigError, match=r"weights\.lesions"):
        with_settings(preset_named("tiny"), {"weights.lesion": 1})
