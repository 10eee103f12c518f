"""What two cameras do to a picture: the angiograph's exposure and noise, the colour camera's faults."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.pictures.angiograph import GAIN_OF_NOISE
from retina_fm.pictures.grain import angiograph_noise, gaussian_noise, soften
from retina_fm.pictures.grids import grid_of
from retina_fm.training.simulator.rendering.eye_batch import Window
from retina_fm.training.simulator.rendering.parameters import Parameters

_ONE = (-1, 1, 1, 1)


def expose(
    light: Tensor, index: Tensor, opened: Tensor, field: Tensor, shade: Tensor, parameters: Parameters
) -> Tensor:
    """Turns fluorescence into one grey frame in [0, 1]: gain, vignetting, tone, focus and noise.

    Args:
        light: fluorescence (B, 1, H, W), about 0.2 in the background and 0.8 in full vessels.
        index: number of the frame in its sequence, int (B,).
        opened: gain beside the drawn one, (B,).
        field: field of view (B, 1, H, W).
        shade: from ``vignette``.
        parameters: of the batch.
    """
    gain = (parameters["gain"].gather(1, index.unsqueeze(1))[:, 0] * opened).view(_ONE)
    grey = (light * shade).mul_(gain).clamp_(min=1e-4)
    # The shoulder of the sensor: bright vessels crowd below white instead of all reaching it.
    grey = grey.div_((grey * 0.8).square_().square_().add_(1).sqrt_().sqrt_())
    grey = grey.pow_(parameters["gamma"].view(_ONE)).add_(parameters["offset"].view(_ONE))
    # Gain lifts the noise of photons and of the camera.
    noise = angiograph_noise(
        grey, parameters["noise"].view(_ONE) * gain * GAIN_OF_NOISE, parameters["noise_seed"], index
    )
    # Focus blurs picture and grain alike.
    grey = soften(noise.add_(grey), 0.5 * parameters["blur"])
    return grey.clamp_(0, 1).mul_(field)


def moved(frame: Tensor, index: Tensor, parameters: Parameters, motion: float) -> Tensor:
    """Shifts frames by small eye movements; ``motion`` is the standard deviation in pixels.

    The true shift of frame k is ``motion * parameters["shift"][:, k]`` pixels, (y, x).
    """
    height, width = frame.shape[-2:]
    shift = motion * parameters["shift"][torch.arange(len(index), device=index.device), index]
    theta = torch.zeros(len(index), 2, 3, device=frame.device)
    theta[:, 0, 0] = theta[:, 1, 1] = 1
    theta[:, 0, 2], theta[:, 1, 2] = -2 * shift[:, 1] / width, -2 * shift[:, 0] / height
    grid = F.affine_grid(theta, list(frame.shape), align_corners=False)
    return F.grid_sample(frame, grid, mode="bilinear", padding_mode="zeros", align_corners=False)


def degrade_photo(photo: Tensor, window: Window, parameters: Parameters) -> Tensor:
    """Haze, blur, light, colour, gain, gamma, flare and noise of the colour photo; the frames know none.

    Args:
        photo: (B, 3, H, W) in [0, 1].
        window: for the field of view.
        parameters: of the batch.

    Returns:
        (B, 3, H, W) in [0, 1], 0 outside the field of view.
    """
    field = window.maps["field_of_view"]
    height, width = photo.shape[-2:]
    y, x = grid_of(field)
    slope = parameters["photo_light"].view(-1, 2, 1, 1)
    curve = parameters["photo_light_curve"].view(_ONE)
    light = 1 + slope[:, :1] * y + slope[:, 1:] * x - curve * (y.square() + x.square())
    colour = (parameters["photo_gain"].unsqueeze(1) * parameters["photo_colour"]).view(-1, 3, 1, 1)
    photo = (photo * light * colour).clamp(1e-4, 1)
    photo = photo.pow(parameters["photo_gamma"].view(_ONE))
    haze = parameters["photo_haze"].view(_ONE)
    photo = photo * (1 - haze) + haze * parameters["photo_haze_colour"].view(-1, 3, 1, 1)
    spot = parameters["photo_spot"].view(-1, 4, 1, 1)
    flare = spot[:, 3:] * torch.exp(
        -((y - spot[:, :1]).square() + (x - spot[:, 1:2]).square()) / spot[:, 2:3].square()
    )
    photo = photo + flare * (1 - photo)
    blur = parameters["photo_blur"]
    if bool((blur > 0).any()):
        photo = soften(soften(photo, blur), blur)
    grain = parameters["photo_noise"]
    if bool((grain > 0).any()):
        seeds = parameters["noise_seed"]
        noise = torch.cat([gaussian_noise(seeds + 104729 * (c + 1), height, width) for c in range(3)], 1)
        photo = photo + grain.view(_ONE) * noise
    return photo.clamp(0, 1) * (field > 0.5)
