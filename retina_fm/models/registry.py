"""Names of models, and the one function that loads any of them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, overload

import torch

from retina_fm.errors import ConfigError, LicenceNotice, UnknownModelError, nearest
from retina_fm.models import backbones, fundus2video, places
from retina_fm.models.backbones import BackboneEncoder
from retina_fm.models.folder import CONFIG, WeightsConfig, read_config
from retina_fm.models.fundus2video import Fundus2VideoEncoder
from retina_fm.models.peers import PEERS
from retina_fm.models.signing import check_basis, read_signature_basis
from retina_fm.models.whitening import read_whitening
from retina_fm.network import Generator
from retina_fm.network.defaults import undisturbed
from retina_fm.network.devices import usable_device

TIMM_PREFIX = "timm/"
_ADAPTER = "adapter.json"  # what the folder of an adapter holds
_TRY = (
    "For a first try use 'fundus2video-random' (the paper's network, random weights) or "
    "'fundus2video-tiny' (seconds on a laptop)."
)
_OURS = {
    "fundus2video": (
        "the paper's width, 62.9 M parameters; maps of vessels, anatomy and calibrated lesions, six sets",
        f"The installation is incomplete; install retina_fm again. {_TRY}",
    ),
    "fundus2video-half": (
        "half width, 15.7 M parameters, otherwise alike: the laptop's",
        f"The installation is incomplete; install retina_fm again. {_TRY}",
    ),
    "fundus2video-random": (
        "the paper's width, 62.9 M parameters, random weights from a fixed seed: a baseline, not a model",
        "The installation is incomplete; install retina_fm again.",
    ),
    "fundus2video-tiny": (
        "the same layout at a sixteenth of the width, random weights: for tests and trials",
        "The installation is incomplete; install retina_fm again.",
    ),
    "pix2pixhd": (
        "the paper's comparison model: plain pix2pixHD, one venous frame",
        f"Trained weights are not part of this release. Pass weights=FOLDER. {_TRY}",
    ),
    "fundus2fa": (
        "the paper's comparison model: one venous frame instead of a video",
        f"Trained weights are not part of this release. Pass weights=FOLDER. {_TRY}",
    ),
}


@dataclass(frozen=True)
class ModelSummary:
    """One line of ``retina-fm models``.

    Attributes:
        name: what ``load`` takes.
        about: what it is.
        licence: of its weights, or a dash where there are none yet.
        folder: where its weights lie, or None.
        restricted: whether its licence asks for more than attribution.
    """

    name: str
    about: str
    licence: str
    folder: Path | None
    restricted: bool


def list_models() -> list[ModelSummary]:
    """Every name that ``load`` knows by itself; timm and hub names and folders come on top."""
    summaries = []
    for name, about in {**{k: v[0] for k, v in _OURS.items()}, **_peer_lines()}.items():
        try:
            folder: Path | None = places.find_weights(name, "")
        except FileNotFoundError:
            folder = None
        card = PEERS[name].card if name in PEERS else None
        if card is None and folder is not None:
            card = read_config(folder).card
        licence = card.licence if card else "-"
        summaries.append(ModelSummary(name, about, licence, folder, bool(card and card.restricted)))
    return summaries


@overload
def load(
    name: Literal["fundus2video", "fundus2video-half", "fundus2video-random", "fundus2video-tiny"] = ...,
    *,
    device: str | torch.device | None = ...,
    dtype: torch.dtype | None = ...,
    weights: str | Path | None = ...,
    revision: str | None = ...,
) -> Fundus2VideoEncoder: ...


@overload
def load(
    name: str | os.PathLike[str],
    *,
    device: str | torch.device | None = ...,
    dtype: torch.dtype | None = ...,
    weights: str | Path | None = ...,
    revision: str | None = ...,
) -> Fundus2VideoEncoder | BackboneEncoder: ...


@undisturbed
def load(
    name: str | os.PathLike[str] = "fundus2video",
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    weights: str | Path | None = None,
    revision: str | None = None,
) -> Fundus2VideoEncoder | BackboneEncoder:
    """An encoder by name, in evaluation mode, with its transform and card.

    Args:
        name: a registered name (``retina_fm.list_models()``), ``timm/NAME``, ``hf-hub:OWNER/NAME``, or the
            path of a weights folder.
        device: CPU without it.
        dtype: number type of the network, float32 without it; pooling stays in float32.
        weights: a weights folder to use instead of the places that are searched.
        revision: of a hub repository.

    Returns:
        A module with ``.transform``, ``.features(view)``, ``.embed(view)``, ``.card``, ``.num_features``.

    Raises:
        UnknownModelError: no such name.
        WeightsNotFoundError: the weights are in none of the places; the message says where and what to do.
        WeightsError: a file's hash, tensors or values are not what the configuration states.
        ConfigError: the configuration makes no sense, or the device cannot be used.
    """
    name, place = os.fspath(name), usable_device(device or "cpu")
    if weights is None and name.startswith(TIMM_PREFIX):
        encoder: Fundus2VideoEncoder | BackboneEncoder = backbones.fetch_from_timm(name)
    else:
        folder = resolve(name, weights=weights, revision=revision)
        config = read_config(folder)
        encoder = _builder(config, folder)
        encoder.whitening = read_whitening(folder)
        if isinstance(encoder, Fundus2VideoEncoder):
            encoder.signature_basis = check_basis(read_signature_basis(folder), encoder)
    if encoder.card.restricted:
        warnings.warn(
            LicenceNotice(f"{encoder.name}: licence {encoder.card.licence}. Results may not be free to use."),
            stacklevel=3,
        )
    encoder.to(device=place, dtype=dtype or torch.float32)
    encoder.mark_as_loaded()
    return encoder


@undisturbed
def load_generator(
    name: str | os.PathLike[str] = "fundus2video",
    *,
    weights: str | Path | None = None,
    revision: str | None = None,
) -> Generator:
    """The generator behind a Fundus2Video model, in evaluation mode, float32 on the CPU.

    Raises:
        The same as :func:`load`; ConfigError also where the model has no generator.
    """
    folder = resolve(name, weights=weights, revision=revision)
    config = read_config(folder)
    if config.kind != fundus2video.KIND:
        raise ConfigError(
            f"{os.fspath(name)!r} is a {config.kind} encoder; only Fundus2Video models have a generator."
        )
    return fundus2video.build_generator(folder, config)


def resolve(
    name: str | os.PathLike[str], *, weights: str | Path | None = None, revision: str | None = None
) -> Path:
    """The weights folder that a name, or a path, stands for.

    Raises:
        UnknownModelError: no such name, or one that is a folder and a registered name at once.
        WeightsNotFoundError: the name is known, its weights are not there.
    """
    if weights is not None:
        return Path(weights)
    name = os.fspath(name)
    if name.startswith(places.HUB_PREFIX):
        return places.fetch_from_hub(name, revision)
    if revision is not None:
        raise UnknownModelError(f"revision={revision!r} goes with hf-hub:OWNER/NAME, not with {name!r}.")
    if name in _OURS:
        return places.find_weights(name, _OURS[name][1])
    if name in PEERS:
        peer = PEERS[name]
        return places.find_weights(
            name,
            f"Get {peer.source} (licence: {peer.card.licence}), then run: "
            f"retina-fm convert FILE --layout {name} --out FOLDER",
        )
    if Path(name).is_dir():
        if (Path(name) / _ADAPTER).is_file() and not (Path(name) / CONFIG).is_file():
            raise ConfigError(
                f"{name} is an adapter, not a weights folder: retina_fm.adapters.load({name!r}) opens it."
            )
        return Path(name)
    known = [*_OURS, *PEERS]
    raise UnknownModelError(
        f"Unknown model {name!r}. {nearest(name, known)} A folder with {CONFIG}, timm/NAME and "
        "hf-hub:OWNER/NAME work too."
    )


def _builder(config: WeightsConfig, folder: Path) -> Fundus2VideoEncoder | BackboneEncoder:
    if config.kind == fundus2video.KIND:
        return fundus2video.build_encoder(folder, config)
    if config.kind == fundus2video.ENCODER_KIND:
        return fundus2video.build_encoder_alone(folder, config)
    if config.kind == backbones.KIND:
        return backbones.build_backbone(folder, config)
    raise ConfigError(
        f"{folder / CONFIG}: kind {config.kind!r} is unknown; this release reads "
        f"{fundus2video.KIND!r}, {fundus2video.ENCODER_KIND!r} and {backbones.KIND!r}."
    )


def _peer_lines() -> dict[str, str]:
    return {name: f"a peer, to be converted from {peer.source}" for name, peer in PEERS.items()}
