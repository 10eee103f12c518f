"""What a trained encoder sees of an eye's anatomy: better targets than a filter's, for the next training.

Self-training (Xie 2020, "Noisy Student"): a network that learnt vessels, disc and fovea where they are known
maps them on photographs where they are not. Views of two sizes, each also mirrored, must agree; what they do
not agree on, and pieces that no tree supports, no loss reads. Arteries and veins are told apart by colour as
everywhere: networks that learnt them from drawings are at chance on photographs.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.network import Encoder
from retina_fm.network.levels import from_levels
from retina_fm.training.simulator.eyes.landmarks import find_landmarks
from retina_fm.vessels.landmarks import disc_in, fovea_in
from retina_fm.vessels.trust import believe

Map = NDArray[np.float32]

_SIZES = (1.0, 0.75)
_LANDMARKS = ("disc", "fovea")
_DISAGREEMENT = 0.3  # standard deviation of a probability between views from which it is unsure


@dataclass(frozen=True)
class Seen:
    """Anatomy of one view. All maps are in its own pixels.

    Attributes:
        vessels: coverage in [0, 1], float32 (S, S).
        disc: coverage of the optic disc, float32 (S, S), or None where it is not seen.
        unsure: bool (S, S), where nothing can be said of vessels.
        landmarks: disc centre (y, x), disc radius, fovea centre, pixels.
        trust: 0 to 1, how far the vessels as a whole can be believed; 0 where no disc is seen.
    """

    vessels: Map
    disc: Map | None
    unsure: NDArray[np.bool_]
    landmarks: tuple[tuple[float, float], float, tuple[float, float]]
    trust: float


def see(encoder: Encoder, view: NDArray[np.uint8], field_of_view: NDArray[np.bool_], radius: float) -> Seen:
    """Maps the anatomy of a view.

    Args:
        encoder: with maps of vessels, disc and fovea.
        view: uint8 (S, S, 3), black outside the field of view; 16 divides S.
        field_of_view: bool (S, S).
        radius: of the field of view, pixels.

    Raises:
        ConfigError: the encoder maps no vessels, no disc or no fovea.
    """
    refuse_blind(encoder)
    mean, spread = _agreed(encoder, view, field_of_view)
    vessels, disc, fovea = mean
    first = find_landmarks(view, field_of_view, vessels)
    disc_centre, disc_radius, disc_map = first.disc, first.disc_radius, None
    if (seen_disc := disc_in(disc, radius)) is not None:
        disc_centre, disc_radius = seen_disc.centre, seen_disc.radius
        near = ndimage.binary_dilation(seen_disc.piece, iterations=max(1, int(0.03 * radius)))
        disc_map = np.asarray(disc * near, np.float32)
    seen_fovea = fovea_in(fovea, radius)
    fovea_centre = first.fovea if seen_fovea is None else seen_fovea.centre
    believed = believe(view, vessels, field_of_view, radius, disc_radius, fovea_centre)
    unsure = believed.unsure | (spread[0] > _DISAGREEMENT) & field_of_view
    return Seen(
        vessels=believed.vessels,
        disc=disc_map,
        unsure=unsure,
        landmarks=(disc_centre, disc_radius, fovea_centre),
        # Dye arrives at the disc: without one, no time of arrival is right.
        trust=believed.trust if disc_map is not None else 0.0,
    )


def refuse_blind(encoder: Any) -> None:
    """Raises ConfigError where an encoder, of whatever kind, does not map vessels, disc and fovea."""
    architecture = getattr(encoder, "architecture", None)
    mapped = () if architecture is None else architecture.anatomy
    if not getattr(encoder, "sees_vessels", False) or not {*_LANDMARKS} <= {*mapped}:
        raise ConfigError(
            "This encoder does not map vessels, disc and fovea. Give one whose architecture has vessels and "
            "anatomy=('disc', 'fovea') or more, or leave --seen-by out so that a filter estimates them."
        )


@torch.inference_mode()
def _agreed(encoder: Encoder, view: NDArray[np.uint8], field_of_view: NDArray[np.bool_]) -> tuple[Map, Map]:
    """Mean and standard deviation over views of vessels, disc and fovea, each float32 (3, S, S)."""
    size = view.shape[0]
    inside = torch.from_numpy(field_of_view)[None, None]
    photo = from_levels(view.transpose(2, 0, 1))[None]
    photo = torch.where(inside, photo, -1.0)
    found: list[Tensor] = []
    dtype = next(encoder.parameters()).dtype
    for factor in _SIZES:
        side = max(16, round(size * factor / 16) * 16)
        smaller = photo
        if side != size:
            smaller = F.interpolate(photo, (side, side), mode="bilinear", antialias=True, align_corners=False)
            lit = F.interpolate(inside.float(), (side, side), mode="area") > 0.5
            smaller = torch.where(lit, smaller, -1.0)
        for mirrored in (False, True):
            shown = smaller.flip(-1) if mirrored else smaller
            maps = encoder.maps(shown.to(dtype))
            decoded = encoder.dense_maps(maps)
            seen = torch.stack([decoded[name] for name in ("vessel", *_LANDMARKS)], 1).float()
            seen = seen.flip(-1) if mirrored else seen
            found.append(F.interpolate(seen, (size, size), mode="bilinear", align_corners=False))
    stacked = torch.cat(found) * inside
    return stacked.mean(0).numpy(), stacked.std(0).numpy()
