"""Presets keep what the paper fixed, and survive JSON."""

from __future__ import annotations

import json

import pytest

from retina_fm.errors import ConfigError
from retina_fm.training.pretraining.presets import PRESETS, Preset, preset_named, with_settings


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_survives_json(name):
    preset = preset_named(name)
    assert Preset.model_validate(json.loads(json.dumps(preset.model_dump(mode="json")))) == preset


def test_the_papers_preset_has_its_weights_and_none_of_our_terms():
    preset = preset_named("fundus2video-paper")
    weights = preset.weights
    assert (weights.patch_nce + weights.patch_identity, weights.attention, weights.adversarial) == (1, 4, 2)
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
    with pytest.raises(ConfigError, match=r"steps\.x"):
        with_settings(preset_named("tiny"), {"steps.x": 1})


def test_lists_and_whole_numbers_become_what_a_preset_read_back_has():
    settings = {"curriculum.crops": [64, None], "optimiser.betas": [0, 0.9], "weights.lesions": 1}
    changed = with_settings(preset_named("tiny"), {**settings, "video_steps": [0, 1]})
    assert changed.curriculum.crops == (64, None)
    assert (changed.optimiser.betas, changed.video_steps) == ((0.0, 0.9), (0, 1))
    assert isinstance(changed.weights.lesions, float)
    assert Preset.model_validate(json.loads(json.dumps(changed.model_dump(mode="json")))) == changed


WRONG = {
    "optimiser.kind": "sgd",
    "optimiser.schedule": "linear",
    "initialisation": "zeros",
    "weights.lesions": "abc",
    "optimiser.rate": float("nan"),
    "optimiser.betas": (0.9,),
    "weights": 1,
    "batch": 0,
    "steps": 10.5,
    "knowledge": 1,
    "video_steps": ["first"],
    "curriculum.crops": (100,),
}


@pytest.mark.parametrize("path", WRONG)
def test_values_that_make_no_sense_are_refused_and_named(path):
    with pytest.raises(ConfigError, match=rf"^{path}"):
        with_settings(preset_named("tiny"), {path: WRONG[path]})


@pytest.mark.parametrize("crops", [(), (0,), (64, -16), (8,)])
def test_crops_that_the_network_cannot_halve_four_times_are_refused(crops):
    with pytest.raises(ConfigError, match=r"curriculum\.crops \(--crop\)"):
        with_settings(preset_named("tiny"), {"curriculum.crops": crops})


def test_a_loss_without_terms_is_refused():
    off = {f"weights.{name}": 0 for name in preset_named("tiny").model_dump()["weights"]}
    with pytest.raises(ConfigError, match="All weights are 0"):
        with_settings(preset_named("tiny"), off)
    late = {**off, "weights.adversarial": 1}
    with pytest.raises(ConfigError, match=r"curriculum\.adversarial_from"):
        with_settings(preset_named("tiny"), late)
    assert with_settings(preset_named("tiny"), {**late, "curriculum.adversarial_from": 0}).adversarial


def test_a_vessel_map_and_its_weight_go_together():
    tiny = preset_named("tiny")
    both = {"architecture.vessels": True, "weights.vessels": 2}
    assert with_settings(tiny, both).architecture.outputs == tiny.architecture.outputs + 1
    for name, value in both.items():
        with pytest.raises(ConfigError, match=r"weights\.vessels"):
            with_settings(tiny, {name: value})


def test_arteries_and_veins_are_told_apart_where_both_are_mapped() -> None:
    settings = {"weights.artery_or_vein": 1.0, "weights.anatomy": 1.0}
    preset = with_settings(preset_named("tiny"), {**settings, "architecture.anatomy": ("artery", "vein")})
    assert preset.weights.artery_or_vein == 1
    for anatomy in ((), ("artery", "disc")):
        given = {**settings, "weights.anatomy": float(bool(anatomy)), "architecture.anatomy": anatomy}
        with pytest.raises(ConfigError, match="artery_or_vein"):
            with_settings(preset_named("tiny"), given)
