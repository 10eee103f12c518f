"""Everything that one model says of one photo: its maps, its numbers, its angiogram."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from retina_fm.encoding.embedder import Embedder
from retina_fm.encoding.precision import choose_device, fastest_precision
from retina_fm.errors import ConfigError
from retina_fm.measuring.reading import Reading
from retina_fm.measuring.row import Values, measured
from retina_fm.measuring.table import refuse_blind
from retina_fm.models import load_generator
from retina_fm.models.reliability import Reliability
from retina_fm.network.levels import to_uint8
from retina_fm.network.unrolling import generate_frames, step_in
from retina_fm.pictures import Geometry
from retina_fm.pictures.marks import marked
from retina_fm.pictures.tags import tags_of


@dataclass(frozen=True)
class ReadPhoto:
    """A photo as one model reads it.

    Attributes:
        reading: view and maps.
        geometry: where the view lies in the photo.
        values: measurements by column, as ``retina_fm.measure`` gives them, and ``reasons``.
        stated: reliability of the model's maps.
        model: its name.
        weights_sha256: its hash.
    """

    reading: Reading
    geometry: Geometry
    values: Values
    stated: Mapping[str, Reliability]
    model: str
    weights_sha256: str


def read_with(
    model: str, photo: Any, *, device: str | None = None, allow_unreliable: bool = False
) -> ReadPhoto:
    """One pass of a model over a photo.

    Raises:
        ConfigError: the model does not map vessels and the anatomy.
        PictureError: the photo cannot be read.
    """
    embedder = Embedder(model, device=device, compile=False)
    encoder = embedder.encoder
    refuse_blind(encoder)
    view, geometry = encoder.transform.view(photo)
    with torch.inference_mode():
        layers = encoder.dense_maps(encoder.maps(embedder.prepared(view[None])))
    inside = geometry.mask_in_view()
    maps = {
        name: np.where(inside, one[0].float().cpu().numpy(), np.float32(0)) for name, one in layers.items()
    }
    reading = Reading(view, inside, geometry.radius / geometry.scale, maps)
    stated = getattr(encoder, "reliability", {})
    tags = tags_of(photo)._replace(patient_id=None)  # a page is handed on
    values = measured(reading, geometry, photo, tags, stated, allow_unreliable)
    return ReadPhoto(reading, geometry, values, stated, encoder.name, encoder.weights_sha256)


def frames_of(model: str, view: NDArray[np.uint8], *, device: str | None = None) -> NDArray[np.uint8] | None:
    """The generated angiogram of a view, ``uint8 (12, S, S)`` with SYNTHETIC in its corner.

    None for a model without a generator.
    """
    from retina_fm.models import read_config, resolve

    place = choose_device(device)
    try:
        generator = load_generator(model).to(place, fastest_precision(place).dtype)
    except ConfigError:
        return None
    scaled = torch.from_numpy(read_config(resolve(model)).transform.normalise(view))[None].to(place)
    frames = generate_frames(step_in(generator, generator.dtype), scaled)
    return np.stack([marked(frame) for frame in to_uint8(frames[0])])
