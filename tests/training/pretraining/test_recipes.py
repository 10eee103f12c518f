"""Recipes fix what a released model was trained on and how, and say what does not fit."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path

import pytest

from retina_fm.errors import ConfigError, NoPicturesError
from retina_fm.models import read_config
from retina_fm.training import (
    Limits,
    Machine,
    draw_retina,
    find_recipe,
    list_recipes,
    prepare_drawn,
    pretrain,
)
from retina_fm.training.pretraining.recipes import photographs_hash, read_recipe

WEIGHTS = Path(__file__).parents[3] / "weights"
CPU = Machine(device="cpu", precision="float32")


def legs_of(provenance, preset):
    """Provenances of a model's legs of one preset, the last first."""
    while provenance is not None and provenance.get("preset") == preset:
        yield provenance
        provenance = provenance.get("started_from")


@pytest.mark.parametrize("name", ["fundus2video", "fundus2video-half"])
def test_the_released_weights_have_a_recipe_that_builds_their_network(name):
    config = json.loads((WEIGHTS / name / "config.json").read_text())
    recipe = find_recipe(name)
    assert recipe in list_recipes()
    preset = recipe.resolved()
    assert preset.name == config["provenance"]["preset"]
    made = preset.architecture.model_dump(mode="json")
    pooled = {"lesion_decoder", "colour", "pools_anatomy", "clip"}  # the export's choice, not the run's
    trained = {key: value for key, value in config["network"].items() if key not in pooled}
    assert {key: made[key] for key in trained} == trained


def test_a_recipe_has_as_many_steps_as_all_legs_and_begins_where_the_first_did():
    config = json.loads((WEIGHTS / "fundus2video" / "config.json").read_text())
    recipe = find_recipe("fundus2video")
    preset = recipe.resolved()
    legs = list(legs_of(config["provenance"], preset.name))
    assert preset.steps == sum(leg["steps"] for leg in legs)
    assert preset.steps * preset.batch * preset.accumulation == sum(leg["samples"] for leg in legs)
    # the half was pooled anew since; its network is the same
    assert recipe.start_from.weights_sha256 == read_config(WEIGHTS / "fundus2video-half").sha256
    assert legs[-1]["started_from"]["model"] == recipe.start_from.model


def test_its_hashes_are_those_of_the_photographs_that_the_last_leg_saw():
    rows = list(csv.DictReader((WEIGHTS / "fundus2video" / "sources.csv").read_text().splitlines()))
    for one in find_recipe("fundus2video").data:
        seen = [row["sha256"] or row["photo"] for row in rows if row["set"] == one.name]
        assert one.photographs == len(seen)
        assert one.sha256 == hashlib.sha256("\n".join(sorted(seen)).encode()).hexdigest()


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    home = tmp_path_factory.mktemp("sets")
    for seed in range(2):
        prepare_drawn(draw_retina(seed, 96)).save(home / "drawn" / f"{seed}.eye.safetensors")
    return home


@pytest.fixture
def recipe(sets, tmp_path):
    count, digest = photographs_hash(sets / "drawn")
    path = tmp_path / "mine.toml"
    path.write_text(
        f"""
about = "for this test"
preset = "tiny"
seed = 5
[settings]
batch = 2
"curriculum.crops" = [64]
[[data]]
name = "drawn"
times = 2
photographs = {count}
sha256 = "{digest}"
"""
    )
    return path


def test_a_recipe_is_run_and_kept(sets, recipe, tmp_path):
    limits = Limits(max_steps=1)
    report = pretrain(sets, tmp_path / "run", recipe=recipe, limits=limits, machine=CPU, tensorboard=False)
    about = json.loads((tmp_path / "run" / "run.json").read_text())
    assert report.step == 1
    assert (about["recipe"], about["seed"], about["preset"]["batch"]) == ("mine", 5, 2)
    assert about["data"] == [str(sets / "drawn")] * 2


def test_what_a_recipe_fixes_cannot_be_changed(sets, recipe, tmp_path):
    wrong = {
        "a preset": {"preset": "tiny"},
        "settings": {"settings": {"optimiser.rate": 1.0}},
        "settings$": {"batch": 1},
        "a seed": {"seed": 1},
        "a schedule in minutes": {"limits": Limits(schedule_minutes=1)},
    }
    for what, given in wrong.items():
        with pytest.raises(ConfigError, match=f"'mine' fixes the run, but {what.rstrip('$')} came"):
            pretrain(sets, tmp_path / "run", recipe=recipe, machine=CPU, **given)
    with pytest.raises(ConfigError, match="one folder in which they lie"):
        pretrain([sets, sets], tmp_path / "run", recipe=recipe, machine=CPU)
    assert not (tmp_path / "run").exists()


def test_other_photographs_and_other_weights_are_refused(sets, recipe, tmp_path):
    with pytest.raises(NoPicturesError, match="drawn"):
        pretrain(tmp_path, tmp_path / "run", recipe=recipe, machine=CPU)
    recipe.write_text(recipe.read_text().replace("photographs = 2", "photographs = 3"))
    with pytest.raises(ConfigError, match=r"holds 2 photographs .* asks for 3"):
        pretrain(sets, tmp_path / "run", recipe=recipe, machine=CPU)
    with pytest.raises(ConfigError, match="begins with weights of fundus2video"):
        pretrain(sets, tmp_path / "run", recipe="fundus2video", machine=CPU)


def test_a_recipe_that_makes_no_sense_is_named(recipe, tmp_path):
    with pytest.raises(ConfigError, match="Did you mean 'fundus2video'"):
        find_recipe("fundus2vido")
    with pytest.raises(ConfigError, match=r"nothing\.toml cannot be read"):
        read_recipe(tmp_path / "nothing.toml")
    for good, bad, said in (
        ("seed = 5", "sead = 5", r"mine\.toml: .*'sead'"),
        ("batch = 2", "batch = 0", r"mine\.toml: batch is 0"),
        ("times = 2", 'times = "2"', r"mine\.toml: data\.0\.times is '2'"),
    ):
        text = recipe.read_text()
        recipe.write_text(text.replace(good, bad))
        with pytest.raises(ConfigError, match=said):
            find_recipe(recipe)
        recipe.write_text(text)
