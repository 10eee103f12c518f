"""Prepared eyes as one batch of tensors on a device, and the window of them that is rendered."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.training.simulator.eyes.prepared import MAPS, UNITS, PreparedEye
from retina_fm.training.simulator.rendering.parameters import Parameters


@dataclass(frozen=True)
class EyeBatch:
    """Stacked eyes of one size.

    Attributes:
        maps: uint8 (B, 16, S, S).
        lesions: uint8 (B, 6, S, S), or None where no eye knows any.
        lesion_known: bool (B, 6).
        anchors: float32 (B, 4, 256, 2).
        radius: of the field of view in pixels, float32 (B,).
        disc: centre (x, y) in [-1, 1], float32 (B, 2).
    """

    maps: Tensor
    lesions: Tensor | None
    lesion_known: Tensor
    anchors: Tensor
    radius: Tensor
    disc: Tensor

    def __len__(self) -> int:
        return int(self.maps.shape[0])

    @property
    def size(self) -> int:
        """Side of the maps in pixels."""
        return int(self.maps.shape[-1])

    def to(self, device: torch.device | str) -> EyeBatch:
        """The same eyes on another device."""
        return EyeBatch(
            self.maps.to(device, non_blocking=True),
            None if self.lesions is None else self.lesions.to(device, non_blocking=True),
            self.lesion_known.to(device),
            self.anchors.to(device),
            self.radius.to(device),
            self.disc.to(device),
        )

    def rows(self, chosen: Tensor) -> EyeBatch:
        """The eyes at these places, int64 (N,)."""
        return EyeBatch(
            self.maps[chosen],
            None if self.lesions is None else self.lesions[chosen],
            self.lesion_known[chosen],
            self.anchors[chosen],
            self.radius[chosen],
            self.disc[chosen],
        )


def stack_eyes(eyes: Sequence[PreparedEye]) -> EyeBatch:
    """Stacks eyes of one size.

    Raises:
        ConfigError: no eyes, or eyes of several sizes.
    """
    sizes = {eye.size for eye in eyes}
    if len(sizes) != 1:
        raise ConfigError(
            f"Eyes of one size can be rendered together, not of {sorted(sizes)}. Prepare them with one size."
        )
    size = sizes.pop()
    known = np.stack([eye.lesion_known for eye in eyes])
    return EyeBatch(
        torch.from_numpy(np.stack([eye.maps for eye in eyes])),
        torch.from_numpy(np.stack([eye.lesions for eye in eyes])) if known.any() else None,
        torch.from_numpy(known),
        torch.from_numpy(np.stack([eye.anchors for eye in eyes])),
        torch.tensor([eye.radius for eye in eyes], dtype=torch.float32),
        torch.tensor(
            [[eye.disc_centre[1] / size * 2 - 1, eye.disc_centre[0] / size * 2 - 1] for eye in eyes],
            dtype=torch.float32,
        ),
    )


@dataclass(frozen=True)
class Window:
    """What the camera sees of each eye.

    Attributes:
        maps: named float32 (B, 1, H, W) in their own units.
        photo: float32 (B, 3, H, W) in [0, 1].
        lesions: float32 (B, 6, H, W), known lesions of the eyes themselves.
        radius: of the field of view in pixels of the window, (B,).
        to_window: affine (B, 2, 3) from the eye's [-1, 1] coordinates to the window's.
    """

    maps: dict[str, Tensor]
    photo: Tensor
    lesions: Tensor | None
    radius: Tensor
    to_window: Tensor

    def moved(self, points: Tensor) -> Tensor:
        """Points (B, N, 2) of the eye in the window's coordinates."""
        return points @ self.to_window[:, :, :2].transpose(1, 2) + self.to_window[:, None, :, 2]


def open_window(eyes: EyeBatch, parameters: Parameters, side: int) -> Window:
    """Cuts, turns, flips and scales the window of ``side`` pixels that the parameters describe.

    Rotation, flip and scale are applied to the maps before rendering, so photo, frames and lesions agree to
    the pixel.
    """
    frame = parameters["frame_size"]
    reach = side / frame  # half a window in the eye's units
    turn = parameters["angle"]
    flip = 1.0 - 2.0 * parameters["flip"].float()
    cos, sin = torch.cos(turn) * reach, torch.sin(turn) * reach
    linear = torch.stack([torch.stack([cos * flip, -sin], 1), torch.stack([sin * flip, cos], 1)], 1)
    theta = torch.cat([linear, parameters["centre"].unsqueeze(2)], 2)
    inverse = torch.linalg.inv(linear.double()).float()
    back = torch.cat([inverse, -(inverse @ parameters["centre"].unsqueeze(2))], 2)
    still = side == eyes.size and bool((turn == 0).all()) and bool((parameters["centre"] == 0).all())
    still = still and bool((frame == side).all()) and not bool(parameters["flip"].any())
    grid = None if still else F.affine_grid(theta, [len(eyes), 1, side, side], align_corners=False)

    def seen(stored: Tensor) -> Tensor:
        if grid is None:
            return stored.float()
        return F.grid_sample(stored.float(), grid, mode="bilinear", padding_mode="zeros", align_corners=False)

    units = torch.tensor([UNITS[name] for name in MAPS], device=theta.device).view(1, -1, 1, 1)
    levels = seen(eyes.maps).mul_(units)
    maps = {name: levels[:, i : i + 1] for i, name in enumerate(MAPS)}
    lesions = None if eyes.lesions is None else seen(eyes.lesions).mul_(1 / 255)
    return Window(maps, levels[:, :3], lesions, eyes.radius * frame / eyes.size, back)
