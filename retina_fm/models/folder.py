"""A weights folder: ``config.json`` beside safetensors, each verified before it is parsed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer, model_serializer
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise
from torch import Tensor

from retina_fm._io.files import canonical_json, write_bytes, write_json
from retina_fm.configuration import Configuration
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models.card import ModelCard
from retina_fm.pictures import Transform

CONFIG = "config.json"
FORMAT: Literal[1] = 1
SHARD_BYTES = 16_000_000


def _digest(text: str) -> str:
    if len(text) != 64:
        raise ValueError("64 hex digits are needed.")
    return text


def _plain_name(name: str) -> str:
    if Path(name).name != name or not name.endswith(".safetensors"):
        raise ValueError("the plain name of a safetensors file is needed.")
    return name


_Digest = Annotated[str, AfterValidator(_digest)]
_PlainName = Annotated[str, AfterValidator(_plain_name)]
_PhotoToView = Annotated[
    InstanceOf[Transform],
    BeforeValidator(lambda said: Transform.from_dict(said) if isinstance(said, Mapping) else said),
    PlainSerializer(Transform.as_dict),
]


class WeightsConfig(Configuration):
    """Everything that a weights folder says about itself; ``config.json`` is its plain form.

    Attributes:
        format: of the file.
        name: of the model.
        kind: which code builds it: ``fundus2video`` or ``timm``.
        network: arguments of the network, by kind.
        transform: how a photo becomes its view.
        card: licence, training data, intended use, pooling.
        files: SHA-256 of every safetensors file, by name.
        seed: where the rest of the weights comes from this seed instead of a file.
        provenance: how the weights came about; free of meaning to the loader.
        signature: SHA-256 of ``signature.safetensors`` (see ``retina_fm.models.signing``), or None.
        whitening: SHA-256 of ``whitening.safetensors`` (see ``retina_fm.models.whitening``), or None.
    """

    format: Literal[1] = FORMAT
    name: str
    kind: str
    network: Mapping[str, Any]
    transform: _PhotoToView
    card: ModelCard
    files: Mapping[_PlainName, _Digest] = Field(default_factory=dict)
    seed: Annotated[int, Field(ge=0)] | None = None
    provenance: Mapping[str, Any] = Field(default_factory=dict)
    whitening: _Digest | None = None
    signature: _Digest | None = None

    @property
    def sha256(self) -> str:
        """Hash of what determines the features: network, files and seed."""
        identity = {
            "kind": self.kind,
            "network": dict(self.network),
            "files": dict(self.files),
            "seed": self.seed,
        }
        return hashlib.sha256(canonical_json(identity)).hexdigest()

    @model_serializer(mode="wrap")
    def _without_what_is_not_said(self, plain: Any) -> dict[str, Any]:
        optional = ("seed", "provenance", "whitening", "signature")
        values = plain(self)
        return {k: v for k, v in values.items() if k not in optional or v not in (None, {})}


def read_config(folder: Path) -> WeightsConfig:
    """Read and check a folder's ``config.json``.

    Raises:
        ConfigError: it is not there, is not JSON, or a field is missing or of the wrong kind.
    """
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {CONFIG}; it is no weights folder. 'retina-fm convert' makes one."
        ) from None
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as JSON: {error}. Fetch or export it again.") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path} holds a {type(values).__name__}, not an object of settings.")
    if values.get("format") != FORMAT:
        raise ConfigError(
            f"{path} has format {values.get('format')!r}, this release reads {FORMAT}; "
            "upgrade retina_fm or export the weights again."
        )
    try:
        return WeightsConfig.model_validate(values)
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None


def read_tensors(folder: Path, config: WeightsConfig) -> dict[str, Tensor]:
    """All tensors of a folder; each file is hashed first and parsed from the very bytes that were hashed.

    Raises:
        WeightsError: a file is missing or has another hash than the configuration states, is not
            safetensors, repeats a tensor, or holds one that is not finite.
    """
    tensors: dict[str, Tensor] = {}
    for name, expected in config.files.items():
        path = folder / name
        try:
            data = path.read_bytes()
        except OSError as error:
            raise WeightsError(
                f"{path} is named in {CONFIG} but cannot be read ({error.strerror}); fetch the folder again."
            ) from None
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise WeightsError(
                f"{path} has SHA-256 {found[:12]}..., {CONFIG} states {expected[:12]}...; the file was "
                "changed or damaged. Fetch the folder again."
            )
        tensors.update(_parse(data, path, known=tensors))
    tensors = _joined(tensors, folder)
    for key, tensor in tensors.items():
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise WeightsError(f"{folder}: tensor {key!r} holds NaN or infinity; the weights are unusable.")
    return tensors


def save_folder(folder: Path, config: WeightsConfig, tensors: Mapping[str, Tensor]) -> WeightsConfig:
    """Write a weights folder in shards of at most 16 MB, so that no file is too large to pass on.

    A larger tensor is cut along its first axis into ``KEY:0``, ``KEY:1`` and so on.

    ``config.json`` comes last, so that a folder without one is unfinished.

    Returns:
        The configuration with the files' hashes filled in.
    """
    files: dict[str, str] = {}
    shards = _shards(tensors)
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        data = serialise({key: value.detach().cpu().contiguous() for key, value in shard.items()})
        files[name] = hashlib.sha256(data).hexdigest()
        write_bytes(folder / name, data)
    written = config.model_copy(update={"files": files})
    write_json(folder / CONFIG, written.model_dump(mode="json"))
    return written


def check_tensors(tensors: Mapping[str, Tensor], expected: Mapping[str, Tensor], what: str) -> None:
    """Compare names and shapes with what a network needs.

    Raises:
        WeightsError: a tensor is missing, superfluous or of another shape; all kinds are counted.
    """
    missing = sorted(set(expected) - set(tensors))
    extra = sorted(set(tensors) - set(expected))
    shapes = sorted(key for key in set(expected) & set(tensors) if expected[key].shape != tensors[key].shape)
    if not (missing or extra or shapes):
        return
    parts = []
    if missing:
        parts.append(f"{len(missing)} missing ({', '.join(missing[:3])})")
    if extra:
        parts.append(f"{len(extra)} unexpected ({', '.join(extra[:3])})")
    if shapes:
        key = shapes[0]
        parts.append(
            f"{len(shapes)} of another shape ({key}: {tuple(tensors[key].shape)} instead of "
            f"{tuple(expected[key].shape)})"
        )
    matched = len(set(expected) & set(tensors)) - len(shapes)
    raise WeightsError(
        f"{what}: {matched} of {len(expected)} tensors match; {'; '.join(parts)}. "
        "These weights belong to another network or release."
    )


def _parse(data: bytes, path: Path, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        tensors = parse_safetensors(data)
    except SafetensorError as error:
        raise WeightsError(
            f"{path} is no safetensors file ({error}). Pickled checkpoints are read by "
            "'retina-fm convert' alone."
        ) from None
    repeated = sorted(set(tensors) & set(known))
    if repeated:
        raise WeightsError(f"{path} repeats tensors of another file: {', '.join(repeated[:3])}.")
    return tensors


def _shards(tensors: Mapping[str, Tensor]) -> list[dict[str, Tensor]]:
    shards: list[dict[str, Tensor]] = []
    room = 0
    for key, tensor in _cut(tensors).items():
        size = tensor.numel() * tensor.element_size()
        if not shards or size > room:
            shards.append({})
            room = SHARD_BYTES
        shards[-1][key] = tensor
        room -= size
    return shards


def _cut(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for key, tensor in tensors.items():
        parts = -(-tensor.numel() * tensor.element_size() // SHARD_BYTES)
        if parts > 1 and tensor.shape[0] >= parts:
            found.update({f"{key}:{i}": part for i, part in enumerate(tensor.tensor_split(parts))})
        else:
            found[key] = tensor
    return found


def _joined(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        name, _, number = key.partition(":")
        parts.setdefault(name, {})[int(number) if number.isdigit() else -1] = tensor
    found = {}
    for name, cut in parts.items():
        if -1 in cut and len(cut) == 1:
            found[name] = cut[-1]
        elif sorted(cut) == list(range(len(cut))):
            found[name] = torch.cat([cut[i] for i in range(len(cut))])
        else:
            raise WeightsError(f"{folder}: parts of tensor {name!r} are missing. Fetch the folder again.")
    return found
