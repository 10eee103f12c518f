"""Adapters as folders: ``adapter.json`` beside safetensors, tied to the encoder they were fitted on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise

import retina_fm
from retina_fm._io.files import write_bytes, write_json
from retina_fm.adapters.cards import CARD, card_of
from retina_fm.adapters.extraction import Compute, Identity, encoder_of
from retina_fm.adapters.factory import TASKS
from retina_fm.adapters.heads.by_name import make_head
from retina_fm.adapters.licences import checked_licence
from retina_fm.adapters.tuning import changed_tensors, with_tensors
from retina_fm.errors import ConfigError, OutputError, TransformMismatchError, WeightsError
from retina_fm.models import ModelCard
from retina_fm.models.card import RESEARCH_USE
from retina_fm.models.places import HUB_PREFIX, fetch_from_hub

MANIFEST, TENSORS = "adapter.json", "adapter.safetensors"
FORMAT = 1
_HERE = ("device", "dtype", "progress", "memory_gb")
"""Settings that belong to a machine, not to the adapter."""


def save(estimator: Any, folder: str | Path, *, licence: str | None = None) -> Path:
    """Write a fitted estimator.

    Args:
        estimator: a classifier, regressor or segmenter.
        folder: to write; it needs the same encoder to be loaded again, which is not copied.
        licence: of the adapter; the encoders' own without it.

    Returns:
        The folder.

    Raises:
        ConfigError: nothing was fitted, the licence claims more than the encoders allow, or a label or
            setting cannot be written as JSON.
        OutputError: the folder cannot be written.
    """
    if getattr(estimator, "shots", None) == 0:
        raise ConfigError("With shots=0 nothing is learnt: there is no adapter to save, the model is read.")
    if not hasattr(estimator, "encoders_"):
        raise ConfigError("The adapter is not fitted; call fit before save.")
    target = Path(folder)
    cards = [ModelCard.model_validate(identity.card) for identity in estimator.encoders_]
    arrays, state = _state_of(estimator)
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    data = serialise(tensors)
    task = next(name for name, kind in TASKS.items() if type(estimator) is kind)
    manifest = {
        "format": FORMAT,
        "retina_fm_version": retina_fm.__version__,
        "task": task,
        "settings": _settings_of(estimator),
        "state": state,
        "encoders": [asdict(identity) for identity in estimator.encoders_],
        "licence": checked_licence(licence, cards),
        "intended_use": RESEARCH_USE,
        "drawn": estimator.drawn_.tolist(),
        # file names alone: folders of a clinic are nobody else's business
        "drawn_names": [Path(name).name for name in estimator.drawn_names_],
        "metrics": _metrics_of(estimator),
        "files": {TENSORS: hashlib.sha256(data).hexdigest()},
    }
    try:
        json.dumps(manifest, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The adapter cannot be written as JSON: {error}.") from None
    try:
        write_bytes(target / TENSORS, data)
        write_bytes(target / CARD, card_of(manifest).encode())
        write_json(target / MANIFEST, manifest)  # last, so that a folder without it is unfinished
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another folder.") from error
    return target


def check_savable(estimator: Any, folder: str | Path, licence: str | None) -> None:
    """Find before a long fit what :func:`save` would refuse after it.

    Raises:
        ConfigError: the licence claims more than the encoders allow.
        OutputError: the folder is a file.
    """
    if Path(folder).exists() and not Path(folder).is_dir():
        raise OutputError(f"{folder} is a file; an adapter is a folder. Choose another one.")
    if licence is not None:
        checked_licence(licence, [encoder_of(model, Compute()).card for model in estimator.models()])


def load(
    folder: str | Path,
    *,
    model: Any = None,
    fuse_with: Any = None,
    revision: str | None = None,
    device: str | None = None,
    dtype: str | None = None,
) -> Any:
    """A fitted estimator from a folder or the hub; its encoder is loaded by name and checked.

    Args:
        folder: as :func:`save` wrote it, or ``hf-hub:OWNER/NAME``.
        model: where the encoder is now, if not under the name that the adapter remembers.
        fuse_with: the same for fused encoders.
        revision: of a hub repository.
        device: the first GPU or the CPU without it.
        dtype: number type of the encoder; the one it was fitted with without it.

    Raises:
        ConfigError: the folder is no adapter, or of another release.
        WeightsError: its file was changed, or the encoder has other weights.
        TransformMismatchError: the encoder has another transform.
        WeightsNotFoundError, UnknownModelError: the encoder is not to be had.
    """
    path = Path(folder)
    if str(folder).startswith(HUB_PREFIX):
        path = fetch_from_hub(str(folder), revision)
    manifest = read_manifest(path)
    arrays = _read_arrays(path, manifest)
    settings = dict(manifest["settings"])
    if model is not None:
        settings["model"] = model
    if fuse_with is not None:
        settings["fuse_with"] = fuse_with
    settings["device"] = device
    if dtype is not None:
        settings["dtype"] = dtype
    estimator = TASKS[manifest["task"]](**settings)
    estimator.encoders_ = [Identity(**identity) for identity in manifest["encoders"]]
    estimator.drawn_ = np.array(manifest["drawn"], np.int64)
    estimator.drawn_names_ = manifest["drawn_names"]
    check_encoders(estimator)
    _restore(estimator, arrays, dict(manifest["state"]))
    return estimator


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """An adapter's ``adapter.json``.

    Raises:
        ConfigError: it is not there, is not JSON, or is of another format.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {MANIFEST}; it is no adapter. estimator.save(folder) makes one."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}. Save or fetch it again.") from None
    needed = ("task", "settings", "state", "encoders", "licence", "drawn", "drawn_names", "files")
    if not isinstance(manifest, dict) or manifest.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: this release reads adapters of format {FORMAT}; upgrade retina_fm or fit again."
        )
    missing = [key for key in needed if key not in manifest]
    if missing or manifest["task"] not in TASKS:
        raise ConfigError(f"{path} lacks {missing or 'a known task'}; save the adapter again.")
    return manifest


def check_encoders(estimator: Any) -> None:
    """Refuse an encoder or transform other than the adapter was fitted on.

    Raises:
        WeightsError: other weights.
        TransformMismatchError: another transform.
    """
    models = estimator.models()
    if len(models) != len(estimator.encoders_):
        raise ConfigError(f"The adapter fuses {len(estimator.encoders_)} encoders, {len(models)} were given.")
    for model, wanted in zip(models, estimator.encoders_, strict=True):
        encoder = encoder_of(model, estimator._compute())
        if encoder.transform.hash != wanted.transform_hash:
            raise TransformMismatchError(
                f"The adapter was fitted on {wanted.name} with transform {wanted.transform_hash}, "
                f"{encoder.name} has {encoder.transform.hash}: its views differ. Load that model, or fit the "
                "adapter again."
            )
        if encoder.weights_sha256 != wanted.weights_sha256:
            raise WeightsError(
                f"The adapter was fitted on {wanted.name} with weights {wanted.weights_sha256[:12]}..., "
                f"{encoder.name} has {encoder.weights_sha256[:12]}...: its features mean something else. "
                "Load that model (model=FOLDER), or fit the adapter again."
            )


def _settings_of(estimator: Any) -> dict[str, Any]:
    settings = {key: value for key, value in estimator.get_params(deep=False).items() if key not in _HERE}
    settings["dtype"] = str(estimator._compute().torch_dtype).removeprefix("torch.")
    for key in ("model", "fuse_with"):
        if key in settings and settings[key] is not None:
            settings[key] = _names(settings[key])
    if isinstance(settings.get("classes"), np.ndarray):
        settings["classes"] = settings["classes"].tolist()
    if isinstance(settings.get("class_weight"), dict):
        settings["class_weight"] = None  # it has done its work, and its keys need not be JSON
    return settings


def _metrics_of(estimator: Any) -> dict[str, float]:
    """What the validation part said, where there was one."""
    head = getattr(estimator, "head_", None)
    found = {name: getattr(head, f"{name}_", None) for name in ("validation_auroc", "validation_error")}
    looks = [record["dice"] for record in getattr(estimator, "history_", []) if "dice" in record]
    found["validation_dice"] = max(looks, default=None)
    return {name: float(value) for name, value in found.items() if value is not None}


def _names(model: Any) -> Any:
    if isinstance(model, list | tuple):
        return [_names(one) for one in model]
    return model if isinstance(model, str) else model.name


def _state_of(estimator: Any) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    if hasattr(estimator, "head_"):
        head = estimator.head_
        arrays, values = head.state()
        state: dict[str, Any] = {"values": values, "n_features_in": int(head.n_features_in_)}
        params = head.get_params()
        params["class_weight"] = None
        state["head"] = {key: value for key, value in params.items() if key in head.get_params()}
        if hasattr(head, "classes_"):
            state["classes"], state["multi_label"] = head.classes_.tolist(), head.multi_label_
        else:
            arrays = {**arrays, "target_mean_": head.target_mean_, "target_scale_": head.target_scale_}
            state["one_target"] = head.one_target_
        return {f"head.{key}": np.asarray(value) for key, value in arrays.items()} | _tuned(estimator), state
    module = {f"module.{k}": v.cpu().numpy() for k, v in estimator.module_.state_dict().items()}
    return module | _tuned(estimator), {
        "classes": estimator.classes_.tolist(),
        "threshold": estimator.threshold_,
        "history": estimator.history_,
    }


def _tuned(estimator: Any) -> dict[str, np.ndarray]:
    if not hasattr(estimator, "tuned_"):
        return {}
    return {f"encoder.{key}": value for key, value in changed_tensors(estimator.tuned_).items()}


def _restore(estimator: Any, arrays: dict[str, np.ndarray], state: dict[str, Any]) -> None:
    tuned = {k.removeprefix("encoder."): arrays.pop(k) for k in list(arrays) if k.startswith("encoder.")}
    if tuned:
        encoder = encoder_of(estimator.models()[0], estimator._compute())
        estimator.tuned_ = with_tensors(encoder, tuned)
    if "head" not in state:
        from retina_fm.adapters.segmentation.decoder import MapDecoder

        estimator.classes_ = np.array(state["classes"])
        estimator.threshold_, estimator.history_ = state["threshold"], state["history"]
        count = len(estimator.classes_)
        module: Any = MapDecoder(estimator._source(), 1 if count == 2 else count, estimator.decoder)
        module.load_state_dict({k.removeprefix("module."): torch.from_numpy(v) for k, v in arrays.items()})
        module = module.to(estimator._compute().torch_device, memory_format=torch.channels_last)
        estimator.module_ = module.eval()
        return
    head = make_head(estimator.head, estimator._heads, {}, state["head"])
    own = {key.removeprefix("head."): value for key, value in arrays.items()}
    head.n_features_in_ = state["n_features_in"]
    if "classes" in state:
        head.classes_, head.multi_label_ = np.array(state["classes"]), state["multi_label"]
    else:
        head.target_mean_, head.target_scale_ = own.pop("target_mean_"), own.pop("target_scale_")
        head.one_target_ = state["one_target"]
    head.restore(own, state["values"])
    estimator.head_ = head


def _read_arrays(folder: Path, manifest: Mapping[str, Any]) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for name, expected in manifest["files"].items():
        path = folder / Path(name).name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(
                f"{path} cannot be read ({error.strerror}); fetch the adapter again."
            ) from None
        if hashlib.sha256(data).hexdigest() != expected:
            raise WeightsError(f"{path} is not what {MANIFEST} states: changed or damaged. Fetch it again.")
        try:
            arrays.update({key: value.numpy() for key, value in parse_safetensors(data).items()})
        except SafetensorError as error:
            raise WeightsError(f"{path} is no safetensors file ({error}). Save the adapter again.") from None
    return arrays
