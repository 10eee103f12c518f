"""What the model shows without any training: vessels, arteries, veins and disc, lesions."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray

from retina_fm.adapters.extraction import Compute, device_of, encoder_of, model_stamp, photo_list
from retina_fm.errors import ConfigError, nearest
from retina_fm.models import by_name, load_generator, read_config, resolve
from retina_fm.models.reliability import Reliability, fault_of, threshold_in
from retina_fm.network import Generator
from retina_fm.network.masks import field_of_view, without_rim
from retina_fm.pictures import Transform
from retina_fm.pictures.field_of_view import within_lit
from retina_fm.vessels.kinds import artery_share
from retina_fm.vessels.reading import read_vessels
from retina_fm.vocabulary import LESION_TYPES

logger = logging.getLogger("retina_fm")

VESSELS = "vessels"
ANATOMY_TARGETS = {"arteries": "artery", "veins": "vein", "disc": "disc"}
"""Targets and the maps that they are read off."""
TARGETS = (VESSELS, *ANATOMY_TARGETS, *LESION_TYPES)
"""What can be read off a model without training."""
VESSEL_SCALES = (1.0, 0.5)
"""On six photographs of CHASE_DB1, interim weights (AUROC): 0.88 at either scale alone, 0.91 for both. Off a
vessel map, on ten: 0.935 and 0.946, 0.958 for both, 0.961 with mirrored views; no other set did better."""
_LESION_RIM = 0.01
"""Share of the view's side along the edge of the field of view where no lesion is called: the edge looks like
one. The smallest of four tried (0.01 to 0.05) on 20 photographs of IDRiD: average precision of haemorrhages
0.044 without and 0.063 with it, of hard exudates 0.441 and 0.509."""
_LARGEST_SHARE = 0.12
"""Vessels cover about an eighth of a field of view (DRIVE, CHASE_DB1 and HRF labels: 0.10 to 0.13)."""


def vessel_maps(
    photos: Any,
    model: str = "fundus2video",
    *,
    scales: Sequence[float] = VESSEL_SCALES,
    device: str | None = None,
    dtype: str = "auto",
) -> list[NDArray[np.float32]]:
    """How much each pixel looks like a vessel to the generator.

    At each scale its vessel map is read where it has one, and an angiogram is generated otherwise; the scores
    are averaged: what is too wide for one scale is a thin vessel in the next.

    Args:
        photos: many photos.
        model: a Fundus2Video model with a generator.
        scales: sides of the views, as shares of the model's own.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.

    Returns:
        ``float32 (H, W)`` in [0, 1] in each photo's own pixels, 0 outside the field of view.

    Raises:
        ConfigError: the model has no generator (random and converted encoders).
    """
    read = vessel_reader(model, scales=scales, device=device, dtype=dtype)
    return [read(photo) for photo in photo_list(photos)]


def vessel_reader(
    model: str = "fundus2video",
    *,
    scales: Sequence[float] = VESSEL_SCALES,
    device: str | None = None,
    dtype: str = "auto",
) -> Callable[[Any], NDArray[np.float32]]:
    """:func:`vessel_maps` for photos that come one at a time: the generator is loaded here, once.

    Args:
        model: a Fundus2Video model with a generator.
        scales: sides of the views, as shares of the model's own.
        device: the first GPU or the CPU without it.
        dtype: ``"auto"`` takes bfloat16 where it is native.

    Returns:
        A photo to ``float32 (H, W)``.

    Raises:
        ConfigError: the model has no generator.
    """
    transform = read_config(resolve(model)).transform
    compute = Compute(device, dtype)
    generator = load_generator(model).to(compute.torch_device, compute.torch_dtype)
    transforms = [replace(transform, size=max(32, round(transform.size * scale))) for scale in scales]

    def read(photo: Any) -> NDArray[np.float32]:
        found = [_vessels(photo, generator, one, compute) for one in transforms]
        return np.asarray(np.mean(found, axis=0, dtype=np.float32))

    return read


def _vessels(photo: Any, generator: Generator, transform: Transform, compute: Compute) -> NDArray[np.float32]:
    view, geometry = transform.view(photo)
    tensor = torch.from_numpy(transform.normalise(view))[None].to(compute.torch_device)
    seen = read_vessels(generator, tensor)
    if generator.architecture.vessels:  # a map is cheap enough to look twice
        seen = (seen + read_vessels(generator, tensor.flip(-1)).flip(-1)) / 2
    score = within_lit(seen[0].cpu().numpy(), view, geometry.mask_in_view())
    found = geometry.picture_of(score, "bilinear").astype(np.float32)
    return np.where(geometry.mask_in_picture(), found, np.float32(0))


def lesion_maps(
    photos: Any, model: Any = "fundus2video", *, device: str | None = None, dtype: str = "auto"
) -> list[dict[str, NDArray[np.float32]]]:
    """The model's own lesion maps, by lesion type.

    An encoder with a lesion decoder gives them at full resolution, any other by its heads at a quarter of it.

    Returns:
        A photo's ``{lesion: float32 (H, W)}`` probabilities in its own pixels, 0 outside the field of view
        and along its rim.

    Raises:
        ConfigError: the model has no lesion heads.
    """
    compute = Compute(device, dtype)
    encoder = encoder_of(model, compute)
    names = lesion_names(encoder)
    found = []
    for photo in photo_list(photos):
        view, geometry = encoder.transform.view(photo)
        tensor = torch.from_numpy(encoder.transform.normalise(view))[None].to(device_of(encoder))
        with torch.inference_mode():
            dense = encoder.features(tensor).lesions.float()
            seen = without_rim(field_of_view(tensor), max(1, round(_LESION_RIM * tensor.shape[-1])))
            layers = (dense * F.interpolate(seen[:, None].float(), dense.shape[-2:]))[0].cpu().numpy()
        inside = geometry.mask_in_picture()
        found.append(
            {
                name: np.where(inside, geometry.picture_of(layer, "bilinear"), 0).astype(np.float32)
                for name, layer in zip(names, layers, strict=True)
            }
        )
    return found


def lesion_names(encoder: Any) -> tuple[str, ...]:
    """Lesion types that an encoder predicts.

    Raises:
        ConfigError: it predicts none.
    """
    names = tuple(getattr(getattr(encoder, "architecture", None), "lesions", ()))
    if not names or getattr(encoder, "lesion_heads", None) is None:
        raise ConfigError(
            f"{encoder.name} has no lesion heads; use a Fundus2Video model that was trained with them."
        )
    return names


def read_target(
    photos: Sequence[Any], target: str, model: Any, compute: Compute, *, allow_unreliable: bool = False
) -> list[NDArray[np.float32]]:
    """The map of one target, ``float32 (H, W)`` a photo.

    Raises:
        ConfigError: the model does not show that target, or states that it cannot be relied on.
    """
    if target == VESSELS:
        model = by_name(model)
        if not isinstance(model, str):
            raise ConfigError("Zero-shot vessels need the generator: pass the model by name or folder.")
        read = _reader(model, model_stamp(model), compute.device, compute.dtype)
        return [read(photo) for photo in photos]
    encoder = encoder_of(model, compute)
    if target in ANATOMY_TARGETS:
        refuse_unreliable(encoder, ANATOMY_TARGETS[target], allow_unreliable)
        return [_anatomy_map(photo, target, encoder) for photo in photos]
    names = lesion_names(encoder)
    if target not in names:
        raise ConfigError(
            f"target {target!r} is unknown. {nearest(target, [VESSELS, *ANATOMY_TARGETS, *names])}"
        )
    refuse_unreliable(encoder, target, allow_unreliable)
    return [
        lesion_maps([photo], model, device=compute.device, dtype=compute.dtype)[0][target] for photo in photos
    ]


def refuse_unreliable(encoder: Any, name: str, allowed: bool) -> None:
    """Refuse a map whose stated figures do not suffice; of one without any figures a log warns.

    Raises:
        ConfigError: the figures are stated and do not suffice, and that is not allowed.
    """
    stated = getattr(encoder, "reliability", {})
    why = fault_of(stated, name)
    if why is None or allowed:
        return
    if not stated:
        logger.warning(
            "%s: %s: nobody measured how far it can be believed. fundus2video states it.",
            encoder.name,
            why,
        )
        return
    raise ConfigError(
        f"The {name} map of {encoder.name} is not to be relied on: {why}. Pass allow_unreliable=True to "
        "read it all the same, or fit an adapter on examples."
    )


@torch.inference_mode()
def _anatomy_map(photo: Any, target: str, encoder: Any) -> NDArray[np.float32]:
    """One part of the anatomy, of the view and of its mirror image; arteries and veins share the vessels."""
    kind = ANATOMY_TARGETS[target]
    architecture = getattr(encoder, "architecture", None)
    if kind not in getattr(architecture, "anatomy", ()) or not encoder.sees_vessels:
        raise ConfigError(f"{encoder.name} does not map {target}; 'fundus2video' does.")
    view, geometry = encoder.transform.view(photo)
    one = torch.from_numpy(encoder.transform.normalise(view)).to(device_of(encoder))
    layers = encoder.dense_maps(encoder.maps(torch.stack([one, one.flip(-1)])))
    seen = {
        name: ((layer[0] + layer[1].flip(-1)) / 2).float().cpu().numpy() for name, layer in layers.items()
    }
    score = seen[kind]
    if target != "disc":
        share = artery_share(seen["artery"], seen["vein"], seen["vessel"])
        score = seen["vessel"] * (share if kind == "artery" else 1 - share)
    score = within_lit(score, view, geometry.mask_in_view())
    found = geometry.picture_of(score, "bilinear").astype(np.float32)
    return np.where(geometry.mask_in_picture(), found, np.float32(0))


@lru_cache(maxsize=1)
def _reader(
    model: str,
    stamp: int,  # noqa: ARG001
    device: str | None,
    dtype: str,
) -> Callable[[Any], NDArray[np.float32]]:
    """The last reader stays: predictions often come photo by photo."""
    return vessel_reader(model, device=device, dtype=dtype)


def threshold_of(target: str, score: NDArray[np.float32], stated: Mapping[str, Reliability]) -> float:
    """From which score a pixel counts.

    The surest eighth for vessels; for arteries and veins one half of a vessel's one half; for lesions what
    the model states, or 0.5; 0.5 for the disc.
    """
    if target in ("arteries", "veins"):
        return 0.25
    if target != VESSELS:
        return threshold_in(stated, target)
    inside = score[score > 0]
    return float(np.quantile(inside, 1 - _LARGEST_SHARE)) if len(inside) else 1.0
