"""A whole pretraining run from what a person says of it; ``retina-fm pretrain`` is this function."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from retina_fm.encoding.precision import choose_precision
from retina_fm.errors import ConfigError
from retina_fm.models import load_generator, read_config, resolve
from retina_fm.network import Architecture
from retina_fm.training.pretraining.batch_size import largest_batch
from retina_fm.training.pretraining.calibration import undo_calibration
from retina_fm.training.pretraining.checkpoints import begun_preset, run_preset
from retina_fm.training.pretraining.data.feeding import SampleStream, open_stream
from retina_fm.training.pretraining.guards import device_for, memory_advice
from retina_fm.training.pretraining.loop import Validate, train
from retina_fm.training.pretraining.losses.perceptual import PerceptualFeatures, load_perceptual
from retina_fm.training.pretraining.presets import Preset, preset_named, with_settings
from retina_fm.training.pretraining.recipes import Recipe, find_recipe
from retina_fm.training.pretraining.run_log import logger
from retina_fm.training.pretraining.run_settings import Limits, Machine, PretrainReport, Validation
from retina_fm.training.pretraining.validating.validation import validation_for
from retina_fm.training.pretraining.widening import starting_state

DEFAULT_PRESET = "fundus2video"


def pretrain(
    source: SampleStream | str | Path | Sequence[str | Path],
    out: str | Path,
    preset: Preset | str | None = None,
    *,
    settings: Mapping[str, Any] | None = None,
    recipe: Recipe | str | Path | None = None,
    batch: int | Literal["auto"] | None = None,
    start_from: str | Path | dict[str, Tensor] | None = None,
    resident: bool = False,
    validate: Validation | Validate | None = None,
    perceptual: PerceptualFeatures | str | Path | None = None,
    limits: Limits | None = None,
    machine: Machine | None = None,
    resume: bool = False,
    seed: int | None = None,
    data: list[str] | None = None,
    origin: dict[str, Any] | None = None,
    tensorboard: bool = True,
) -> PretrainReport:
    """Train a generator, or go on training it.

    Args:
        source: prepared eyes, a ``pairs.csv``, a folder that holds one, or several of them, which take turns;
            with a recipe, the folder in which its sets lie under their names; or a stream of one's own, whose
            batch n must depend on n alone.
        out: the run's folder.
        preset: everything that fixes the run, or a preset's name; ``fundus2video`` without it. A continued
            run goes on with the settings that it began with, where none or a name is given.
        settings: changes to it, as ``--set`` takes them: ``{"weights.lesions": 0.5}``.
        recipe: of a released model, by name or file: fixes data, preset, settings, seed and start.
        batch: samples a process and accumulation step; ``auto`` takes what fills the device, and a continued
            run's own.
        start_from: model or weights folder whose generator to begin with, widened where the run is twice as
            wide; or a generator's weights as they are. A recipe asks for certain weights.
        resident: keep all prepared eyes on the device.
        validate: data to validate on, or a function that is called now and then with the averaged generator
            and the step.
        perceptual: VGG-19 features or a file with their weights, for presets with that term.
        limits: length and saving.
        machine: device and precision.
        resume: continue the run in ``out``; starts it where there is none yet. Rates may differ from the
            run's, and so may batch and accumulation as long as a step has as many samples.
        seed: of weights and of every choice made on the way; 0 without it.
        data: paths of the data, kept in ``run.json`` for the export; those of ``source`` without it.
        origin: what ``start_from`` is, kept in ``run.json`` and in the export's provenance; known by itself
            where it is a model or folder.
        tensorboard: whether to write TensorBoard files.

    Returns:
        How it ended.

    Raises:
        ConfigError: settings or data make no sense, or are not those of the recipe; there is no such device.
        NoPicturesError: a folder holds no training data.
        OutputError: the folder holds another run, another process trains it, a loss is not finite, memory or
            disk are full.
        MissingDependencyError: Accelerate, or what validation needs, is not installed.
    """
    machine, limits = machine or Machine(), limits or Limits()
    known = find_recipe(recipe) if isinstance(recipe, str | Path) else recipe
    changes = {**(settings or {}), **({} if batch in (None, "auto") else {"batch": batch})}
    if known is None:
        named = preset if isinstance(preset, Preset) else _named(preset, Path(out) if resume else None)
    else:
        named = known.resolved()
        _refuse_changes(known, named, changes, auto=batch == "auto", preset=preset, seed=seed, limits=limits)
    chosen = with_settings(named, changes)
    device = device_for(machine.device)
    if batch == "auto":
        before = run_preset(Path(out)) if resume else None
        precision = choose_precision(machine.precision, torch.device(device)).name
        fitting = before.batch if before else largest_batch(chosen, device, precision)
        chosen = chosen.model_copy(update={"batch": fitting})
        logger.info("batch auto: %d samples", fitting)
    if isinstance(perceptual, str | Path):
        perceptual = load_perceptual(perceptual)
    if start_from is not None and not isinstance(start_from, dict):
        start_from, origin = _beginning(start_from, chosen.architecture)
    if known is not None and known.start_from is not None:
        _refuse_other_start(known, origin)
    seed = known.seed if known is not None else seed or 0
    stream, places = _opened(source, known, chosen, seed, device, resident)
    if isinstance(validate, Validation):
        validate = validation_for(Path(out), chosen, validate, device)
    return train(
        stream,
        out,
        chosen,
        limits=limits,
        machine=machine,
        resume=resume,
        seed=seed,
        data=places if data is None else data,
        perceptual=perceptual,
        validate=validate,
        start_from=start_from,
        origin=origin,
        recipe=None if known is None else known.name,
        tensorboard=tensorboard,
    )


def _named(name: str | None, run: Path | None) -> Preset:
    """A preset by name, as the run to be continued began with it: a later release may have changed it."""
    begun = None if run is None else begun_preset(run)
    if begun is not None and name in (None, begun.name):
        return begun
    return preset_named(name or DEFAULT_PRESET)


def _refuse_changes(
    recipe: Recipe,
    fixed: Preset,
    changes: Mapping[str, Any],
    *,
    auto: bool,
    preset: Preset | str | None,
    seed: int | None,
    limits: Limits,
) -> None:
    """A step may be split otherwise, as long as it has as many samples; nothing else may differ."""
    split = {name: changes.get(name, getattr(fixed, name)) for name in ("batch", "accumulation")}
    same = split["batch"] * split["accumulation"] == fixed.batch * fixed.accumulation
    given = {
        "a preset": preset is not None,
        "settings": not set(changes) <= {*split} or not same,
        "batch auto": auto,
        "a seed": seed is not None,
        "a schedule in minutes": limits.schedule_minutes is not None,
    }
    wrong = [what for what, there in given.items() if there]
    if wrong:
        raise ConfigError(
            f"Recipe {recipe.name!r} fixes the run, but {' and '.join(wrong)} came with it. Leave that out, "
            "or change it in a copy of the recipe's file, which --recipe takes too."
        )


def _beginning(name: str | Path, architecture: Architecture) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights of a model's generator for an architecture, as it was before calibration, and what they are."""
    config = read_config(resolve(str(name)))
    generator = load_generator(str(name))
    if calibrated := config.provenance.get("lesions_calibrated"):
        undo_calibration(generator, calibrated["scale_and_offset"])
    state = starting_state(generator, architecture)
    return state, {"model": config.name, "weights_sha256": config.sha256, **config.provenance}


def _refuse_other_start(recipe: Recipe, origin: Mapping[str, Any] | None) -> None:
    wanted = recipe.start_from
    assert wanted is not None
    found = (origin or {}).get("weights_sha256")
    if found != wanted.weights_sha256:
        what = f"those given have {str(found)[:12]}..." if found else "none were given"
        raise ConfigError(
            f"Recipe {recipe.name!r} begins with weights of {wanted.model} with SHA-256 "
            f"{wanted.weights_sha256[:12]}..., but {what}. Give their folder to --start-from."
        )


def _opened(
    source: SampleStream | str | Path | Sequence[str | Path],
    recipe: Recipe | None,
    preset: Preset,
    seed: int,
    device: str,
    resident: bool,
) -> tuple[SampleStream, list[str]]:
    """A stream over the data, and their paths."""
    if isinstance(source, str | os.PathLike):
        places = [Path(source)]
    elif isinstance(source, Sequence):
        places = [Path(place) for place in source]
    elif recipe is None:
        return source, []
    else:
        raise ConfigError(f"Recipe {recipe.name!r} fixes the data. Give the folder that they lie in.")
    if recipe is not None:
        if len(places) != 1:
            raise ConfigError(
                f"Recipe {recipe.name!r} names its data. Give the one folder in which they lie."
            )
        places = recipe.places(places[0])
    with memory_advice(preset):
        stream = open_stream(places, preset, seed=seed, device=device, resident=resident)
    return stream, [str(place.resolve()) for place in places]
