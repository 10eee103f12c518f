"""A weights folder: ``config.json`` beside safetensors, each verified before it is parsed."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Annotated, Any, Literal

import torch
from pydantic import AfterValidator, BeforeValidator, Field, InstanceOf, PlainSerializer, model_serializer
from safetensors import SafetensorError
from safetensors.torch import load as parse_safetensors
from safetensors.torch import save as serialise
from torch import Tensor

from retina_fm._io.files import canonical_json
from retina_fm._io.folders import check_replaceable, whole_folder
from retina_fm._io.strict_json import read_json, write_sealed_json
from retina_fm._io.tensor_files import header_of
from retina_fm.configuration import Configuration
from retina_fm.errors import ConfigError, WeightsError
from retina_fm.models.contract import ModelCard
from retina_fm.models.reliability import Reliability
from retina_fm.pictures import Transform

CONFIG, CARD, WHITENING, SOURCES = "config.json", "README.md", "whitening.safetensors", "sources.csv"
SIGNATURE = "signature.safetensors"
FORMAT: Literal[1] = 1
SHARD_BYTES = 16_000_000
MOST_PARAMETERS = 2_000_000_000
MOST_CLASSES = 100_000
_HEADER = 1 << 20
_SHARD = re.compile(r"model-\d{5}-of-\d{5}\.safetensors")
_PART = re.compile(r"(.+):(0|[1-9][0-9]{0,5})", re.DOTALL)


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
        reliability: how far maps can be believed, by name (see ``retina_fm.models.reliability``).
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
    reliability: Mapping[str, Reliability] = Field(default_factory=dict)
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
        optional = ("seed", "provenance", "reliability", "whitening", "signature")
        values = plain(self)
        return {k: v for k, v in values.items() if k not in optional or v not in (None, {})}


def read_config(folder: Path) -> WeightsConfig:
    """Read and check a folder's ``config.json``.

    Raises:
        ConfigError: it is not there, is not JSON, or a field is missing or of the wrong kind.
    """
    path = folder / CONFIG
    try:
        values = read_json(path)
    except FileNotFoundError:
        raise ConfigError(
            f"{folder} has no {CONFIG}; it is no weights folder. 'retina-fm convert' makes one."
        ) from None
    except (OSError, ValueError) as error:
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


def read_tensors(
    folder: Path, config: WeightsConfig, wanted: Mapping[str, Tensor] | None = None
) -> dict[str, Tensor]:
    """All tensors of a folder; each file is hashed first and parsed from the very bytes that were hashed.

    Args:
        folder: of the weights.
        config: its configuration.
        wanted: names and shapes that there may be (on the ``meta`` device); files that are larger than these
            can be, and tensors that are none of them, are refused before memory is taken for them.

    Raises:
        WeightsError: a file is missing or has another hash than the configuration states, is not
            safetensors, repeats a tensor, or holds one that is unknown, of a number type that is not read, or
            not finite.
    """
    tensors: dict[str, Tensor] = {}
    _refuse_large(folder, config, wanted)
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
    """Write a weights folder, whole or not at all, in shards of at most 16 MB: none is too large to pass on.

    A larger tensor is cut along its first axis into ``KEY:0``, ``KEY:1`` and so on. A card that is there
    stays.

    Returns:
        The configuration with the files' hashes filled in.

    Raises:
        OutputError: the folder holds what is not part of a weights folder.
    """
    with whole_weights(folder) as scratch:
        return fill_folder(scratch, config, tensors)


def whole_weights(folder: Path) -> AbstractContextManager[Path]:
    """A folder to fill that takes the place of a weights folder when the block ends well."""
    return whole_folder(folder, "a weights folder", _is_part, keeps=(CARD,))


def check_weights_folder(folder: Path) -> None:
    """Refuse what :func:`save_folder` would not replace.

    Raises:
        OutputError: a file, a link, or a folder with what is not part of a weights folder.
    """
    check_replaceable(folder, "a weights folder", _is_part)


def fill_folder(folder: Path, config: WeightsConfig, tensors: Mapping[str, Tensor]) -> WeightsConfig:
    """:func:`save_folder` into a folder that is scratch itself."""
    files: dict[str, str] = {}
    shards = _shards(tensors)
    for number, shard in enumerate(shards, start=1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        data = serialise({key: value.detach().cpu().contiguous() for key, value in shard.items()})
        files[name] = hashlib.sha256(data).hexdigest()
        (folder / name).write_bytes(data)
    written = config.model_copy(update={"files": files})
    write_config(folder, written)
    return written


def write_config(folder: Path, config: WeightsConfig) -> None:
    """Write ``config.json`` with its checksum."""
    write_sealed_json(folder / CONFIG, config.model_dump(mode="json"))


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


def check_parameters(shape: torch.nn.Module, what: str) -> None:
    """Refuse a network that no file bounds, before it is built.

    Args:
        shape: the network on the ``meta`` device.
        what: names it in the message.

    Raises:
        ConfigError: it has more parameters than any model here.
    """
    count = sum(parameter.numel() for parameter in shape.parameters())
    if count > MOST_PARAMETERS:
        raise ConfigError(
            f"{what}: the network has {count} parameters, {MOST_PARAMETERS} are the most that a seed may "
            f"fill. Look at 'network' in {CONFIG}."
        )


def class_count(config: WeightsConfig) -> int:
    """Classes of a classifier that was saved along, 0 without one.

    Raises:
        ConfigError: it is no such number.
    """
    classes = config.network.get("num_classes", 0)
    if isinstance(classes, bool) or not isinstance(classes, int) or not 0 <= classes <= MOST_CLASSES:
        raise ConfigError(
            f"network.num_classes is {classes!r:.40}; it must be a whole number up to {MOST_CLASSES}."
        )
    return classes


def _parse(data: bytes, path: Path, known: Mapping[str, Tensor]) -> dict[str, Tensor]:
    try:
        header_of(data)  # refuses keys that come twice, and number types that nothing here computes with
        tensors = parse_safetensors(data)
    except (SafetensorError, ValueError) as error:
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


def part_of(key: str) -> tuple[str, int]:
    """A tensor's name and the number of its part, -1 where it is whole; only ``KEY:NUMBER`` is a part."""
    found = _PART.fullmatch(key)
    return (found[1], int(found[2])) if found else (key, -1)


def _refuse_large(folder: Path, config: WeightsConfig, wanted: Mapping[str, Tensor] | None) -> None:
    """Compare sizes and headers with what a network takes, before any file is read.

    Raises:
        WeightsError: the files are larger than all its tensors in float64, or hold others.
    """
    if wanted is None:
        return
    most = sum(8 * tensor.numel() for tensor in wanted.values()) + _HEADER * (len(config.files) + 1)
    sizes = {}
    for name in config.files:
        with suppress(OSError):  # said where it is read
            sizes[name] = (folder / name).stat().st_size
    if sum(sizes.values()) > most:
        raise WeightsError(
            f"{folder}: {len(sizes)} files of {sum(sizes.values())} bytes hold more than the {len(wanted)} "
            f"tensors that {CONFIG} asks for ({most} bytes at most). These weights belong to another network."
        )


def read_beside(path: Path, expected: str) -> bytes:
    """A file that lies beside the weights, such as whitening, whose SHA-256 ``config.json`` states.

    Raises:
        WeightsError: it cannot be read, or is another one.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise WeightsError(
            f"{path} is named in {CONFIG} but cannot be read ({error.strerror}); fetch the folder again."
        ) from None
    if hashlib.sha256(data).hexdigest() != expected:
        raise WeightsError(f"{path} is not the file that {CONFIG} states; fetch the folder again.")
    return data


def _is_part(name: str) -> bool:
    """Whether a file of that name may be part of a weights folder that we wrote."""
    return name in (CONFIG, CARD, WHITENING, SIGNATURE, SOURCES) or bool(_SHARD.fullmatch(name))


def _joined(tensors: Mapping[str, Tensor], folder: Path) -> dict[str, Tensor]:
    parts: dict[str, dict[int, Tensor]] = {}
    for key, tensor in tensors.items():
        name, number = part_of(key)
        parts.setdefault(name, {})[number] = tensor
    found = {}
    for name, cut in parts.items():
        if -1 in cut and len(cut) == 1:
            found[name] = cut[-1]
        elif sorted(cut) == list(range(len(cut))):
            try:
                found[name] = torch.cat([cut[i] for i in range(len(cut))])
            except RuntimeError:
                raise WeightsError(
                    f"{folder}: the parts of tensor {name!r} do not fit together. Fetch the folder again."
                ) from None
        else:
            raise WeightsError(f"{folder}: parts of tensor {name!r} are missing. Fetch the folder again.")
    return found
