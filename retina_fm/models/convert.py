"""Public checkpoints to weights folders; the only place where a pickle is ever opened."""

from __future__ import annotations

import argparse
import pickle
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from retina_fm._io.files import sha256_of
from retina_fm.errors import ConfigError, WeightsError, WeightsNotFoundError, nearest
from retina_fm.models import backbones, fundus2video
from retina_fm.models.contract import ModelCard
from retina_fm.models.folder import WeightsConfig, check_tensors, save_folder
from retina_fm.models.peers import PEERS, Peer
from retina_fm.network import Architecture, Generator, initialise
from retina_fm.network.encoder import Encoder
from retina_fm.network.layers import TRUNK_LAYERS
from retina_fm.pictures import Transform

PIX2PIXHD = "pix2pixhd"
LAYOUTS = (PIX2PIXHD, *PEERS)


def convert(
    checkpoint: str | Path,
    out: str | Path,
    *,
    layout: str,
    name: str | None = None,
    encoder_blocks: int = 3,
    licence: str = "unknown",
) -> WeightsConfig:
    """Turn a published checkpoint into a weights folder.

    Args:
        checkpoint: a pickle (read with ``weights_only=True``) or safetensors file.
        out: the weights folder to write.
        layout: ``pix2pixhd`` or a peer's name.
        name: of the model; the layout's or the file's without it.
        encoder_blocks: how many of a pix2pixHD generator's residual blocks belong to the encoder.
        licence: of a pix2pixHD checkpoint, written into its card; peers' licences are known.

    Returns:
        The configuration written.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: it cannot be read safely, or not every tensor matches.
        ConfigError: the layout is unknown, or the blocks asked for are not there.
    """
    if layout not in LAYOUTS:
        raise ConfigError(f"Unknown layout {layout!r}. {nearest(layout, LAYOUTS)}")
    source = Path(checkpoint)
    values = read_checkpoint(source)
    provenance = {"converted_from": source.name, "sha256": sha256_of(source), "layout": layout}
    if layout == PIX2PIXHD:
        return _convert_generator(values, Path(out), name or source.stem, encoder_blocks, licence, provenance)
    return convert_peer(values, Path(out), PEERS[layout], name or layout, provenance)


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The contents of a checkpoint; nothing in it is executed.

    Raises:
        WeightsNotFoundError: there is no such file.
        WeightsError: it is neither safetensors nor a pickle of plain tensors.
    """
    if not path.is_file():
        raise WeightsNotFoundError(
            f"There is no checkpoint {path}. Give the path of a .pth or .safetensors file."
        )
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        # Published MAE checkpoints keep their command line in a Namespace, which only holds attributes.
        with torch.serialization.safe_globals([argparse.Namespace]):
            values = torch.load(path, map_location="cpu", weights_only=True)
    except (
        SafetensorError,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        zipfile.BadZipFile,
        ValueError,
    ) as error:
        raise WeightsError(
            f"{path} cannot be read as plain tensors ({_cause(error)}). It is damaged, or it would run code "
            "of its own, which is refused. Fetch it again from its authors, or ask them for safetensors."
        ) from None
    if not isinstance(values, Mapping):
        raise WeightsError(f"{path} holds a {type(values).__name__}, not named tensors.")
    return values


def _cause(error: Exception) -> str:
    """What was wrong, without the advice of others on how to run the code all the same."""
    text = str(error).strip()
    asked = re.search(r"(?:Unsupported global: GLOBAL|Unsupported class|GLOBAL) ([\w.]+)", text)
    if asked:
        return f"it asks for {asked[1]}"
    first = text.splitlines()[0] if text else type(error).__name__
    return type(error).__name__ if "weights_only" in first else first[:200]


def convert_peer(
    values: Mapping[str, Any], out: Path, peer: Peer, name: str, provenance: Mapping[str, Any]
) -> WeightsConfig:
    """Write a peer's checkpoint as a weights folder; all tensors of its backbone must be there.

    Raises:
        WeightsError: a tensor is missing, of another shape, or belongs to nothing that is known.
    """
    state = values
    if peer.unwrap is not None:
        found = [key for key in peer.unwrap if isinstance(values.get(key), Mapping)]
        if not found:
            raise WeightsError(
                f"The checkpoint has no {' or '.join(map(repr, peer.unwrap))} entry (it has "
                f"{', '.join(list(values)[:4])}); it is no {peer.name} checkpoint."
            )
        state = values[found[0]]
    tensors = {key: value for key, value in state.items() if isinstance(value, Tensor)}
    if peer.rename is not None:
        tensors = peer.rename(tensors)
    kept = {
        key.removeprefix(peer.prefix): value
        for key, value in tensors.items()
        if not key.startswith(peer.leave)
    }
    network: dict[str, Any] = {"backbone": peer.backbone, "arguments": dict(peer.arguments)}
    if peer.pooling != backbones.BACKBONE:
        network["pooling"] = peer.pooling
    with torch.device("meta"):
        expected = dict(backbones.create_backbone(network).state_dict())
    check_tensors(kept, expected, f"{peer.name} checkpoint")
    config = WeightsConfig(
        name=name,
        kind=backbones.KIND,
        transform=peer.transform,
        card=peer.card,
        network=network,
        provenance={**provenance, "matched_tensors": len(expected)},
    )
    return save_folder(out, config, kept)


def _convert_generator(
    values: Mapping[str, Any],
    out: Path,
    name: str,
    encoder_blocks: int,
    licence: str,
    provenance: Mapping[str, Any],
) -> WeightsConfig:
    state = {key.removeprefix("module."): value for key, value in values.items() if isinstance(value, Tensor)}
    architecture = infer_architecture(state, encoder_blocks)
    with torch.device("meta"):
        expected = dict(Generator(architecture).state_dict())
    check_tensors(state, expected, f"{name} (pix2pixHD layout)")
    with torch.no_grad():
        pooling = Encoder(architecture)
        initialise(pooling, seed=0)
    state.update({f"pooling.{key}": value for key, value in pooling.pooling.state_dict().items()})
    config = WeightsConfig(
        name=name,
        kind=fundus2video.KIND,
        transform=Transform(),
        card=ModelCard(
            licence=licence,
            training_data="unknown: a converted checkpoint",
            pooling="quantiles before normalisation, random projection (not fitted)",
        ),
        network=architecture.model_dump(mode="json"),
        provenance={**provenance, "matched_tensors": len(expected)},
    )
    return save_folder(out, config, state)


def infer_architecture(state: Mapping[str, Tensor], encoder_blocks: int) -> Architecture:
    """Read width, inputs and residual blocks off a state in the public pix2pixHD layout.

    Raises:
        WeightsError: it has no stem or no residual blocks where the layout puts them.
        ConfigError: fewer blocks than ``encoder_blocks``.
    """
    stem = state.get("model.1.weight")
    found = {int(m[1]) for key in state if (m := re.match(r"model\.(\d+)\.conv_block\.1\.weight$", key))}
    if stem is None or stem.ndim != 4 or min(found, default=0) != TRUNK_LAYERS:
        raise WeightsError(
            f"The checkpoint has no stem 'model.1.weight' or no residual blocks from 'model.{TRUNK_LAYERS}' "
            f"(keys: {', '.join(list(state)[:3])}...). It is not in the pix2pixHD layout with four "
            "downsamplings."
        )
    if not 1 <= encoder_blocks <= len(found):
        raise ConfigError(
            f"encoder_blocks is {encoder_blocks}; the checkpoint has blocks 1 to {len(found)} to choose from."
        )
    up = state.get(f"model.{TRUNK_LAYERS + len(found)}.weight")
    # A transposed convolution keeps (in, out, 3, 3), a plain one (out, in, 3, 3); here out = in / 2.
    transposed = up is None or up.shape[0] > up.shape[1]
    return Architecture.model_validate(
        {
            "width": int(stem.shape[0]),
            "in_channels": int(stem.shape[1]),
            "encoder_blocks": encoder_blocks,
            "decoder_blocks": len(found) - encoder_blocks,
            "upsample": "transposed" if transposed else "resize",
            "attention": "attention.weight" in state,
            "lesions": (),
        }
    )
