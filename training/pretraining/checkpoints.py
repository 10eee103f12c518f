"""Checkpoints: folders of safetensors and JSON that appear whole or not at all."""

from __future__ import annotations

import errno
import json
import re
import shutil
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from retina_fm._io.files import sync_folder, write_synced
from retina_fm._io.folders import contents
from retina_fm._io.strict_json import read_json, sealed, write_sealed_json
from retina_fm.errors import OutputError
from retina_fm.training.pretraining.presets import CHANGEABLE, Preset, setting, with_settings

FOLDER = "checkpoints"
STATE = "state.json"
_PREFIX = "step-"
_LAYERS_MATCHED = 4  # of a discriminator, over which the term is summed now
_FILES = "files"
"""Field of the state with the CRC-32 of each file of tensors."""


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint holds.

    Attributes:
        path: its folder.
        tensors: named tensors, by the name of their file (without ending).
        state: everything that is no tensor.
    """

    path: Path
    tensors: dict[str, dict[str, Tensor]]
    state: dict[str, Any]


def list_checkpoints(run: Path) -> list[Path]:
    """Finished checkpoints of a run, oldest first."""
    return [folder for folder in _named(run / FOLDER, "") if (folder / STATE).is_file()]


def tidy_checkpoints(run: Path) -> None:
    """Undo what a kill left half-way: parts go, and a checkpoint moved aside for one that never came returns.

    Only for the process that holds the run's lock.
    """
    home = run / FOLDER
    for part in _named(home, ".part"):
        shutil.rmtree(part, ignore_errors=True)
    for aside in _named(home, ".old"):
        final = home / aside.name[1 : -len(".old")]
        if final.exists():
            shutil.rmtree(aside, ignore_errors=True)
        else:
            aside.rename(final)


def save_checkpoint(
    run: Path,
    step: int,
    tensors: Mapping[str, Mapping[str, Tensor]],
    state: Mapping[str, Any],
    *,
    keep: int = 2,
) -> Path:
    """Write a checkpoint beside the others, rename it into place, then drop the oldest.

    Args:
        run: the run's folder.
        step: done so far.
        tensors: by file.
        state: JSON values.
        keep: how many checkpoints stay.

    Raises:
        OutputError: it cannot be written; the checkpoints before it are untouched.
    """
    home = run / FOLDER
    final = home / f"{_PREFIX}{step:08d}"
    part = home / f".{final.name}.part"
    try:
        home.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        crcs = {}
        for name, group in tensors.items():
            data = save({key: value.detach().cpu().contiguous() for key, value in group.items()})
            crcs[name] = f"{zlib.crc32(data):08x}"
            write_synced(part / f"{name}.safetensors", data)
        write_synced(part / STATE, json.dumps(sealed({**state, _FILES: crcs}), indent=1).encode())
        sync_folder(part)
        _replace_folder(part, final)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        last = list_checkpoints(run)
        raise OutputError(
            f"The checkpoint of step {step} could not be written to {home} "
            f"({'the disk is full' if full else error}). "
            + (f"{last[-1].name} is intact. " if last else "There is no earlier one. ")
            + "Make room (or lower --keep) and continue with --resume."
        ) from error
    for old in list_checkpoints(run)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return final


def load_checkpoint(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises:
        OutputError: a file of it is missing or damaged.
    """
    try:
        state = read_json(path / STATE, nan=True)
        crcs = state.pop(_FILES, None)
        names = sorted(crcs or (file.stem for file in path.glob("*.safetensors")))  # none in earlier releases
        tensors = {name: _checked(path / f"{name}.safetensors", crcs and crcs[name]) for name in names}
    except (OSError, ValueError, SafetensorError) as error:
        raise OutputError(
            f"The checkpoint {path} cannot be read ({error}). Delete that folder to continue from the one "
            "before it."
        ) from None
    return Checkpoint(path, tensors, state)


def _checked(file: Path, crc: str | None) -> dict[str, Tensor]:
    """Tensors of a file.

    Raises:
        ValueError: its bytes are not those that were written.
    """
    data = file.read_bytes()
    if crc is not None and f"{zlib.crc32(data):08x}" != crc:
        raise ValueError(f"the checksum of {file.name} is another: it was changed or damaged")
    return load(data)


def optimiser_tensors(optimiser: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimiser's state as named tensors and its groups as JSON values."""
    state = optimiser.state_dict()
    tensors = {
        f"{index}.{name}": value for index, entry in state["state"].items() for name, value in entry.items()
    }
    return tensors, state["param_groups"]


def restore_optimiser(
    optimiser: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """The inverse of :func:`optimiser_tensors`; each tensor takes its parameter's memory format."""
    parameters = [p for group in optimiser.param_groups for p in group["params"]]
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split(".", 1)
        like = parameters[int(index)]
        placed = value if value.shape != like.shape else torch.empty_like(like).copy_(value)
        state.setdefault(int(index), {})[name] = placed
    groups = [{**g, "betas": tuple(g["betas"])} if "betas" in g else dict(g) for g in groups]
    optimiser.load_state_dict({"state": state, "param_groups": groups})


def write_run_file(run: Path, values: Mapping[str, Any]) -> None:
    """``run.json``: what the run is.

    Raises:
        OutputError: the folder cannot be written.
    """
    try:
        write_sealed_json(run / "run.json", values)
    except OSError as error:
        raise OutputError(f"{run} cannot be written ({error}). Choose another --out.") from error


def read_run_file(run: Path) -> dict[str, Any]:
    """What :func:`write_run_file` wrote.

    Raises:
        OutputError: there is no run in that folder.
    """
    try:
        values: dict[str, Any] = read_json(run / "run.json", nan=True)
    except (OSError, ValueError) as error:
        raise OutputError(f"{run} holds no run ({error}). Give the --out of a pretraining run.") from None
    weights = values.get("preset", {}).get("weights", {})
    if weights and "patch_identity" not in weights:  # begun when features were matched by the mean of layers
        weights["feature_matching"] = weights.get("feature_matching", 0.0) / _LAYERS_MATCHED
    return values


def run_preset(run: Path) -> Preset | None:
    """The preset that a run goes by now, or None where there is no run yet."""
    if not (run / "run.json").is_file():
        return None
    return preset_now(read_run_file(run))


def begun_preset(run: Path) -> Preset | None:
    """The preset that a run began with, its settings in it, or None where there is no run yet."""
    if not (run / "run.json").is_file():
        return None
    return Preset.model_validate(read_run_file(run)["preset"])


def preset_now(about: Mapping[str, Any]) -> Preset:
    """The preset of a run file with the changes that were made when the run was continued."""
    preset = Preset.model_validate(about["preset"])
    for change in about.get("changes", []):
        preset = with_settings(preset, change["settings"])
    return preset


def record_changes(run: Path, preset: Preset, step: int) -> dict[str, Any]:
    """Add to ``run.json`` which changeable settings are others from ``step`` on; the run's start stays.

    Returns:
        The new values by name; empty where nothing changed.
    """
    about = read_run_file(run)
    before = preset_now(about)
    changed = {name: setting(preset, name) for name in CHANGEABLE}
    changed = {name: value for name, value in changed.items() if value != setting(before, name)}
    if changed:
        change = {"step": step, "settings": changed}
        write_run_file(run, {**about, "changes": [*about.get("changes", []), change]})
    return changed


def _named(home: Path, ending: str) -> list[Path]:
    """Folders in ``home`` with a checkpoint's name, hidden where there is an ending; copies have others."""
    form = re.compile(rf"{_PREFIX}\d{{8}}" if not ending else rf"\.{_PREFIX}\d{{8}}{re.escape(ending)}")
    return [home / name for name in contents(home) if form.fullmatch(name) and not (home / name).is_symlink()]


def _replace_folder(part: Path, final: Path) -> None:
    """A folder cannot be renamed over another, so one that is there (a step done again) moves aside."""
    aside = final.with_name(f".{final.name}.old")
    shutil.rmtree(aside, ignore_errors=True)
    if final.exists():
        final.rename(aside)
    part.rename(final)
    sync_folder(final.parent)
    shutil.rmtree(aside, ignore_errors=True)
