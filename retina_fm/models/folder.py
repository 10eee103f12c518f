"""A weights folder: ``config.json`` beside safetensors, each verified before it is parsed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise
from torch import Tensor

from retina_fm._io.files import canonical_json, write_bytes, write_json
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models.card import ModelCard
from retina_fm.pictures import Transform

CONFIG = "config.json"
FORMAT = 1
SHARD_BYTES = 16_000_000


@dataclass(frozen=True)
class WeightsConfig:
    """Everything that a weights folder says about itself.

    Attributes:
        name: of the model.
        kind: which code builds it: ``fundus2video`` or ``timm``.
        transform: how a photo becomes its view.
        card: licence, training data, intended use, pooling.
        network: arguments of the network, by kind.
        files: SHA-256 of every safetensors file, by name.
        seed: where the rest of the weights comes from this seed instead of a file.
        provenance: how the weights came about; free of meaning to the loader.
        whitening: SHA-256 of ``whitening.safetensors`` (see ``retina_fm.models.whitening``), or None.
    """

    name: str
    kind: str
    transform: Transform
    card: ModelCard
    network: Mapping[str, Any]
    files: Mapping[str, str] = field(default_factory=dict)
    seed: int | None = None
    provenance: Mapping[str, Any] = field(default_factory=dict)
    whitening: str | None = None

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

    def as_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        values: dict[str, Any] = {
            "format": FORMAT,
            "name": self.name,
            "kind": self.kind,
            "network": dict(self.network),
            "transform": self.transform.as_dict(),
            "card": self.card.as_dict(),
            "files": dict(self.files),
        }
        if self.seed is not None:
            values["seed"] = self.seed
        if self.provenance:
            values["provenance"] = dict(self.provenance)
        if self.whitening:
            values["whitening"] = self.whitening
        return values


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
    expected = {"name": str, "kind": str, "network": dict, "transform": dict, "card": dict, "files": dict}
    for key, kind in expected.items():
        if not isinstance(values.get(key), kind):
            raise ConfigError(f"{path}: {key!r} is {values.get(key)!r}; a {kind.__name__} is needed.")
    seed = values.get("seed")
    if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool) or seed < 0):
        raise ConfigError(f"{path}: 'seed' is {seed!r}; a whole number is needed.")
    whitening = values.get("whitening")
    if whitening is not None and (not isinstance(whitening, str) or len(whitening) != 64):
        raise ConfigError(f"{path}: 'whitening' is {whitening!r}; 64 hex digits are needed.")
    for name, digest in values["files"].items():
        if Path(name).name != name or not name.endswith(".safetensors"):
            raise ConfigError(f"{path}: {name!r} is not the plain name of a safetensors file.")
        if not isinstance(digest, str) or len(digest) != 64:
            raise ConfigError(f"{path}: the SHA-256 of {name!r} is {digest!r}; 64 hex digits are needed.")
    try:
        transform, card = Transform.from_dict(values["transform"]), ModelCard.from_dict(values["card"])
    except ConfigError as error:
        raise ConfigError(f"{path}: {error}") from None
    return WeightsConfig(
        name=values["name"],
        kind=values["kind"],
        transform=transform,
        card=card,
        network=values["network"],
        files=values["files"],
        seed=seed,
        provenance=values.get("provenance", {}),
        whitening=whitening,
    )


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
    written = WeightsConfig(**{**config.__dict__, "files": files})
    write_json(folder / CONFIG, written.as_dict())
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
