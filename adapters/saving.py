"""Adapters as folders: ``adapter.json`` beside safetensors, tied to the encoder they were fitted on."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pydantic import Field
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise

import retina_fm
from retina_fm._io.files import json_bytes
from retina_fm._io.folders import check_replaceable, whole_folder
from retina_fm._io.strict_json import read_json, sealed
from retina_fm._io.tensor_files import finite, header_of
from retina_fm.adapters.extraction import Compute, Identity, encoder_of
from retina_fm.configuration import Configuration
from retina_fm.errors import ConfigError, OutputError, WeightsError
from retina_fm.models import ModelCard
from retina_fm.models.contract import RESEARCH_USE
from retina_fm.models.folder import CARD
from retina_fm.models.sharing import front_matter

MANIFEST, TENSORS = "adapter.json", "adapter.safetensors"
_FILES = frozenset({MANIFEST, TENSORS, CARD})
FORMAT: Literal[1] = 1


class Manifest(Configuration):
    """What an adapter's ``adapter.json`` says.

    Attributes:
        format: of the folder.
        retina_fm_version: that wrote it.
        task: ``classification``, ``regression`` or ``segmentation``.
        settings: of the estimator.
        state: what it learnt that is no array, as the estimator itself writes and reads it.
        encoders: that it was fitted on.
        licence: of the adapter.
        intended_use: and what it is not for.
        drawn: positions of the photos trained on.
        drawn_names: what they are called.
        metrics: figures of the validation part.
        files: SHA-256 by name.
    """

    format: Literal[1]
    retina_fm_version: str = ""
    task: Literal["classification", "regression", "segmentation"]
    settings: dict[str, Any]
    state: dict[str, Any]
    encoders: list[Identity]
    licence: str
    intended_use: str = RESEARCH_USE
    drawn: list[int]
    drawn_names: list[str]
    metrics: dict[str, float] = Field(default_factory=dict)
    files: dict[str, str]


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
        OutputError: the folder cannot be written, or holds what is not part of an adapter.
    """
    if getattr(estimator, "shots", None) == 0:
        raise ConfigError("With shots=0 nothing is learnt: there is no adapter to save, the model is read.")
    if not hasattr(estimator, "encoders_"):
        raise ConfigError("The adapter is not fitted; call fit before save.")
    target = Path(folder)
    arrays, state = estimator.state()
    tensors = {key: torch.from_numpy(np.ascontiguousarray(value)) for key, value in arrays.items()}
    data = serialise(tensors)
    manifest = Manifest(
        format=FORMAT,
        retina_fm_version=retina_fm.__version__,
        task=estimator.task,
        settings=estimator.saved_settings(),
        state=state,
        encoders=estimator.encoders_,
        licence=checked_licence(licence, [ModelCard.model_validate(one.card) for one in estimator.encoders_]),
        drawn=estimator.drawn_.tolist(),
        # file names alone: folders of a clinic are nobody else's business
        drawn_names=[Path(name).name for name in estimator.drawn_names_],
        metrics=estimator.metrics(),
        files={TENSORS: hashlib.sha256(data).hexdigest()},
    ).model_dump()
    try:
        text = json_bytes(sealed(manifest), nan=False)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"The adapter cannot be written as JSON: {error}.") from None
    try:
        with whole_folder(target, "an adapter", _FILES.__contains__) as scratch:
            (scratch / TENSORS).write_bytes(data)
            (scratch / CARD).write_bytes(card_of(manifest).encode())
            (scratch / MANIFEST).write_bytes(text)
    except OSError as error:
        raise OutputError(f"{target} cannot be written ({error}). Choose another folder.") from error
    return target


def check_savable(estimator: Any, folder: str | Path, licence: str | None) -> None:
    """Find before a long fit what :func:`save` would refuse after it.

    Raises:
        ConfigError: the licence claims more than the encoders allow.
        OutputError: the folder is a file or a link, or holds what is not part of an adapter.
    """
    check_replaceable(Path(folder), "an adapter", _FILES.__contains__)
    if licence is not None:
        checked_licence(licence, [encoder_of(model, Compute()).card for model in estimator.models()])


def read_manifest(folder: str | Path) -> dict[str, Any]:
    """An adapter's ``adapter.json``.

    Raises:
        ConfigError: it is not there, is not JSON, is of another format, or holds what it should not.
    """
    return checked_manifest(Path(folder)).model_dump()


def checked_manifest(folder: Path) -> Manifest:
    """:func:`read_manifest` with its fields as attributes."""
    path = folder / MANIFEST
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {MANIFEST}; it is no adapter. estimator.save(folder) makes one."
        ) from None
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}. Save or fetch it again.") from None
    if not isinstance(values, dict) or values.get("format") != FORMAT:
        raise ConfigError(
            f"{path}: this release reads adapters of format {FORMAT}; upgrade retina_fm or fit again."
        )
    try:
        return Manifest.model_validate(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_arrays(folder: Path, manifest: Manifest) -> dict[str, np.ndarray]:
    """An adapter's arrays by name, its files checked before they are parsed.

    Raises:
        WeightsError: a file is missing, was changed, is no safetensors file, or holds NaN.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, expected in manifest.files.items():
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
            header_of(data)
            found = {key: value.numpy() for key, value in parse_safetensors(data).items()}
        except (SafetensorError, ValueError, TypeError) as error:
            raise WeightsError(f"{path} is no safetensors file ({error}). Save the adapter again.") from None
        for key, value in found.items():
            if not finite(value):
                raise WeightsError(f"{path}: array {key!r} holds NaN or infinity. Fit the adapter again.")
        arrays.update(found)
    return arrays


def joint_licence(cards: Sequence[ModelCard]) -> str:
    """The licence that an adapter over these encoders may state.

    One shared licence is itself; otherwise all restricted ones joined by ``AND``, or, where none is
    restricted, all of them.
    """
    names = list(dict.fromkeys(card.licence for card in cards))
    restricted = list(dict.fromkeys(card.licence for card in cards if card.restricted))
    return " AND ".join(restricted or names)


def checked_licence(wanted: str | None, cards: Sequence[ModelCard]) -> str:
    """The licence to write into an adapter.

    Args:
        wanted: by the user, or None for what follows from the encoders.
        cards: of the encoders.

    Raises:
        ConfigError: the one wanted claims more freedom than the encoders give.
    """
    joint = joint_licence(cards)
    if wanted is None or wanted == joint:
        return joint
    binding = [card for card in cards if card.restricted]
    parts = re.split(r"\s+AND\s+", wanted)  # SPDX; with OR, whoever takes it could choose the freer one
    unmet = [card.licence for card in binding if card.licence not in parts]
    if unmet:
        raise ConfigError(
            f"licence={wanted!r} claims more than the encoders allow: they bring {', '.join(unmet)}. "
            f"State {joint!r}, or leave licence out."
        )
    return wanted


_TASKS = {
    "classification": "image-classification",
    "segmentation": "image-segmentation",
    "regression": "image-feature-extraction",
}
"""As the hub calls them; it has no word for measurements."""


def card_of(manifest: dict[str, Any]) -> str:
    """A model card: licence, encoders with theirs, purpose."""
    encoders = "\n".join(
        f"- `{one['name']}`, licence {one['card']['licence']}, weights `{one['weights_sha256'][:16]}`"
        for one in manifest["encoders"]
    )
    seen = "1 photo" if len(manifest["drawn"]) == 1 else f"{len(manifest['drawn'])} photos"
    return (
        f"{front_matter(manifest['licence'], _TASKS[manifest['task']])}"
        f"# {manifest['task'].capitalize()} adapter\n\n"
        f"Licence: {manifest['licence']}. It needs these encoders, which are not part of it and keep "
        "their own licences:\n\n"
        f"{encoders}\n\n"
        f"Learnt from {seen}, whose names are in `adapter.json` (`drawn_names`). In use: "
        "`retina-fm predict FOLDER PHOTOS --out OUT`.\n\n"
        f"{manifest['intended_use']}\n"
    )
