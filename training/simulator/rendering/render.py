"""The second of two stages: prepared eyes, drawn parameters and times become frames, on any device.

Nothing here is random: all randomness is in the parameters. Each piece of physiology is one small function
that returns a share of the fluorescence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from retina_fm.errors import ConfigError
from retina_fm.pictures.angiograph import vignette
from retina_fm.pictures.grain import gaussian_noise
from retina_fm.pictures.grids import enlarged
from retina_fm.training.simulator.eyes.prepared import PreparedEye
from retina_fm.training.simulator.rendering import lesion_painting as paint
from retina_fm.training.simulator.rendering.camera import degrade_photo, expose, moved
from retina_fm.training.simulator.rendering.dye import (
    arterial_delay,
    arterial_input,
    front,
    laminar_delay,
    slow_rise,
)
from retina_fm.training.simulator.rendering.eye_batch import EyeBatch, Window, open_window, stack_eyes
from retina_fm.training.simulator.rendering.neighbourhoods import highest_around, mean_around
from retina_fm.training.simulator.rendering.parameters import Parameters, draw_parameters
from retina_fm.training.simulator.rendering.poor_photos import cut_field, degrade_poor, draw_poor
from retina_fm.vocabulary import FRAMES_A_VIDEO

MASK_THRESHOLD = 45 / 255  # of the knowledge mask, as in the public code
_ONE = (-1, 1, 1, 1)


@dataclass(frozen=True)
class Rendered:
    """A rendered batch.

    Attributes:
        frames: float32 (B, K, H, W) in [0, 1], 0 outside the field of view.
        index: int64 (B, K), the number 0 to 11 of each frame: four arterial, four venous, four late.
        times: float32 (B, 12), seconds after dye reached the disc.
        photo: float32 (B, 3, H, W) in [-1, 1], -1 outside the field of view.
        field_of_view: float32 (B, 1, H, W), 0 or 1.
        mask: float32 (B, 1, H, W), the knowledge mask |first - last| > 45/255.
        sure: float32 (B, 1, H, W), the field of view without what is in doubt.
        lesions: float32 (B, 6, H, W) in [0, 1], given and painted, in the order of ``LESION_TYPES``.
        lesion_known: bool (B, 6), types whose absence is certain where the map is 0.
        painted: bool (B,), lesions were painted in.
        compartments: named float32 (B, 1, H, W): artery, vein, capillary, choroid, disc, macula,
            leak, nonperfusion.
        parameters: everything that was drawn.
    """

    frames: Tensor
    index: Tensor
    times: Tensor
    photo: Tensor
    field_of_view: Tensor
    mask: Tensor
    sure: Tensor
    lesions: Tensor
    lesion_known: Tensor
    painted: Tensor
    compartments: dict[str, Tensor]
    parameters: Parameters


class _Scene:
    """What does not change from frame to frame, computed once a batch."""

    def __init__(self, window: Window, lesions: Tensor, parameters: Parameters, with_lesions: bool) -> None:
        p = self.p = parameters
        maps = self.maps = window.maps
        height, width = window.photo.shape[-2:]
        self.lesions, self.with_lesions = lesions, with_lesions
        self.field = maps["field_of_view"]
        self.shade = vignette(self.field, p["vignette"], p["vignette_centre"], p["light_field"])
        # Fluorescence grows with the depth of the column of blood, and saturates.
        calibre = maps["calibre"]
        depth = 0.42 + 0.58 * (1 - torch.exp(-calibre / p["calibre_half"].view(_ONE)))
        depth = depth * (0.6 + 0.5 * maps["axis"])  # the column of blood is round
        self.artery, self.vein = maps["artery"] * depth, maps["vein"] * depth
        speed = p["artery_speed"].view(_ONE)
        self.artery_delay = arterial_delay(maps["artery_delay"], speed)
        self.vein_delay = laminar_delay(
            maps["vein_delay"], maps["axis"], calibre, speed, p["transit"].view(_ONE), p["laminar"].view(_ONE)
        )
        patches = enlarged(p["patch_field"], height, width)
        self.choroid_delay = p["choroid_patch"].view(_ONE) * patches - p["choroid_lead"].view(_ONE)
        fine = gaussian_noise(p["noise_seed"], height // 2 + 1, width // 2 + 1)
        fine = F.interpolate(fine, (height, width), mode="bilinear", align_corners=False)
        network = 1 - 2.2 * fine.abs().clamp(max=0.9)  # ridges of noise: the mesh of capillaries
        self.patchy = patchy = enlarged(p["patchy_field"], height, width)
        texture = p["texture"].view(_ONE)
        self.capillary = maps["capillary"] * (1 + texture * (0.3 * network + 0.12 * patchy)).clamp(min=0.1)
        mottle = 1 + texture * (0.06 * fine + 0.08 * patchy + 0.06 * patches) + 0.9 * (maps["choroid"] - 0.5)
        yellow = 1 - p["xanthophyll"].view(_ONE) * maps["macula"]
        self.choroid = p["choroid_level"].view(_ONE) * mottle.clamp_(0.2, 2.0) * yellow
        disc = maps["disc"]
        soft = _spread(disc, 3)  # no margin of a real disc is as sharp as its map
        rim = disc * (1 - soft).clamp(0, 1) * 2
        vessels = (maps["artery"] + maps["vein"]).clamp_(0, 1)
        self.disc_stain = p["disc_stain"].view(_ONE) * (0.26 * soft + 0.06 * rim) * (1 - 0.5 * vessels)
        # The disc has no choroid behind it; vessels hide what lies under them.
        self.uncovered = (1 - 0.72 * vessels) * (1 - 0.55 * soft)
        self.leak_near = self.leak_far = self.leak_wide = torch.zeros_like(self.field)
        self.perfused = torch.ones_like(self.field)
        if with_lesions:
            self._lesions(height, width)

    def _lesions(self, height: int, width: int) -> None:
        p, lesions = self.p, self.lesions
        spot = [lesions[:, i : i + 1] for i in range(paint.COUNT)]
        uneven = enlarged(p["leak_field"], height, width)
        self.perfused = 1 - self._nonperfusion(uneven)
        self.capillary = self.capillary * self.perfused
        self.choroid = self.choroid * (0.45 + 0.55 * self.perfused)
        small = 1 - (self.maps["calibre"] / 0.006).clamp(0, 1)
        keep = 1 - 0.85 * (1 - self.perfused) * small
        self.artery, self.vein = self.artery * keep, self.vein * keep
        block = self._blockage(spot)
        self.open = 1 - block
        self._stains(spot[paint.DRUSEN], spot[paint.SCAR])
        self.aneurysm = 0.75 * spot[paint.MICROANEURYSM]
        self.aneurysm_delay = self.artery_delay + 0.7 * p["transit"].view(_ONE)
        edge = (4 * self.perfused * (1 - self.perfused)).clamp(0, 1)
        source = 0.9 * spot[paint.MICROANEURYSM] * (uneven > -0.3) + 0.05 * edge * (uneven > 0.4)
        source = source + 0.3 * (spot[paint.COTTON_WOOL] > 0.2) * (uneven > 0)
        source = source * p["leak"].view(_ONE)
        seen = 0.75 * (1 - 0.85 * block)
        self.leak_near = _spread(source, 1) * 1.2 * seen
        self.leak_far = _spread(source, 2) * 2.2 * seen
        self.leak_wide = _spread(source, 4) * 3.5 * seen

    def _stains(self, drusen: Tensor, scar: Tensor) -> None:
        """How drusen and scars change the choroid's light at once, and what they add late.

        Window defects let the choroid through from the flush on and keep their size (Schatz 1978); laser
        scars are dark in their middle and stain at the rim; drusen stain late.
        """
        defect = self.p["window_defect"].view(_ONE)
        rim = (highest_around(scar) - 0.7 * scar).clamp_(0, 1)
        self.at_once = 0.5 * drusen + (1.95 * defect - 0.65) * scar
        self.late = 0.32 * drusen + 0.4 * (1 - defect) * rim + (0.18 - 0.03 * defect) * scar

    def _nonperfusion(self, ragged: Tensor) -> Tensor:
        """Areas without capillaries: dark from the first frame on (ETDRS report 11, 1991)."""
        field = enlarged(self.p["nonperfusion_field"], *ragged.shape[-2:])
        # Three scales: closed arterioles leave angular areas with ragged margins, not round ones.
        closed = torch.sigmoid((field + 0.4 * ragged + 0.35 * self.patchy - 1.1) * 16)
        away = 1 - self.maps["macula"].clamp(0, 1)
        return self.p["nonperfusion"].view(_ONE) * closed * away * (1 - self.maps["disc"]) * self.field

    def _blockage(self, spot: list[Tensor]) -> Tensor:
        """Share of light that blood and exudates hide (Schatz 1978: blocked fluorescence).

        Spots seen in an unlabelled photo count as far as they stand out from it.
        """
        blood = torch.maximum((1.2 * spot[paint.HAEMORRHAGE]).clamp(max=0.97), 0.8 * self.maps["dark"])
        faint = torch.maximum(0.35 * spot[paint.EXUDATE], 0.3 * self.maps["bright"])
        return (1 - (1 - blood) * (1 - faint) * (1 - 0.5 * spot[paint.COTTON_WOOL])).clamp(0, 0.97)


def _spread(source: Tensor, reach: int) -> Tensor:
    """Blurs by means of a coarser grid: a cheap wide kernel, exact on every device."""
    height, width = source.shape[-2:]
    if reach > 1:
        source = F.avg_pool2d(source, reach, ceil_mode=True)
    for _ in range(2):
        source = mean_around(source)
    if reach > 1:
        source = F.interpolate(source, (height, width), mode="bilinear", align_corners=False)
    return source


def _choroidal_glow(scene: _Scene, time: Tensor, dose: Tensor) -> Tensor:
    """Choroidal flush: lobules fill in patches before the retina, then the choriocapillaris leaks freely.

    Early it is patchy (Hayreh 1975, Br J Ophthalmol 59:631); late dye stains choroid and sclera.
    """
    stain = 0.42 * scene.p["late_stain"].view(_ONE) * slow_rise(time, 150.0)
    filled = front(time, scene.choroid_delay, 0.18)
    return filled.mul_(0.04 + 0.12 * dose).add_(stain).mul_(scene.choroid)


def _capillary_glow(scene: _Scene, time: Tensor, dose: Tensor) -> Tensor:
    """The capillary bed brightens after its arteries, and spares the fovea (Bird and Weale 1974)."""
    level = 0.12 * scene.p["capillary_level"].view(_ONE) * dose
    late = time - 0.45 * scene.p["transit"].view(_ONE)
    return front(late, scene.artery_delay, 0.35).mul_(level).mul_(scene.capillary)


def _arterial_glow(scene: _Scene, time: Tensor, dose: Tensor) -> Tensor:
    """Arteries: fronts run outward from the disc along the tree."""
    width = scene.p["front_width"].view(_ONE)
    return front(time, scene.artery_delay, width).mul_(1.25 * dose).mul_(scene.artery)


def _venous_glow(scene: _Scene, time: Tensor, dose: Tensor) -> Tensor:
    """Veins: from the walls inwards, after arteries and capillaries, brightest at the venous peak."""
    return front(time, scene.vein_delay, 0.32).mul_(1.4 * dose).mul_(scene.vein)


def _disc_glow(scene: _Scene, time: Tensor) -> Tensor:
    """The disc stains late: dye comes from its choroidal rim (Hayreh 1969)."""
    return scene.disc_stain * slow_rise(time, 140.0)


def _leakage(scene: _Scene, time: Tensor) -> Tensor:
    """Dye outside leaky walls: it grows, spreads and blurs with time, and never shrinks."""
    age = (time - 4.0).clamp(min=0) / scene.p["leak_delay"].view(_ONE)
    near, far, wide = 1 - torch.exp(-3 * age), 1 - torch.exp(-age), 1 - torch.exp(-0.4 * age)
    return (near * scene.leak_near).addcmul_(far, scene.leak_far).addcmul_(wide, scene.leak_wide)


def _lesion_glow(scene: _Scene, time: Tensor, dose: Tensor, base: Tensor) -> Tensor:
    """Microaneurysms shine from the arteriovenous phase on; drusen and scars stain late."""
    filled = front(time, scene.aneurysm_delay, 0.4).mul_(0.35 + 0.65 * dose).mul_(scene.aneurysm)
    return filled.addcmul_(scene.at_once, base).addcmul_(slow_rise(time, 160.0), scene.late)


def fluorescence(scene: _Scene, time: Tensor) -> Tensor:
    """Light from the whole fundus at ``time`` (B,), float32 (B, 1, H, W)."""
    p = scene.p
    t = time.view(_ONE)
    course = [p[name].view(_ONE) for name in ("bolus_peak", "plateau", "clearance")]
    transit = p["transit"].view(_ONE)
    arterial = arterial_input(t, *course)
    capillary = arterial_input(t - 0.5 * transit, *course)
    venous = arterial_input(t - transit, *course)
    choroid = _choroidal_glow(scene, t, arterial_input(t + p["choroid_lead"].view(_ONE), *course))
    light = (choroid + _capillary_glow(scene, t, capillary)).mul_(scene.uncovered)
    light += _disc_glow(scene, t)
    light += torch.maximum(_arterial_glow(scene, t, arterial), _venous_glow(scene, t, venous))
    if scene.with_lesions:
        light += _lesion_glow(scene, t, capillary, choroid)
        light *= scene.open
        light += _leakage(scene, t)
    return light


def exposure(parameters: Parameters, time: Tensor) -> Tensor:
    """Gain by which the photographer opens up as the dye fades, (B,): late vessels stay readable."""
    p = parameters
    venous = arterial_input(time - p["transit"], p["bolus_peak"], p["plateau"], p["clearance"])
    opened = (0.35 + 0.65 * venous).clamp(min=0.2).pow(-0.6)
    return torch.where(time > 30, opened, 1.0)


def render_parameters(
    eyes: EyeBatch,
    parameters: Parameters,
    *,
    side: int | None = None,
    frames: Tensor | None = None,
    lesions: bool = True,
    motion: float = 0.0,
) -> Rendered:
    """Renders a batch from parameters alone; the same parameters give the same frames.

    Args:
        eyes: on the device that shall do the work, as the parameters.
        parameters: from ``draw_parameters``.
        side: of the pictures in pixels; the eyes' own size when None.
        frames: which frames of the 12, int64 (B, K); all when None.
        lesions: False renders vessels alone: nothing is painted and given lesions do not show in frames.
        motion: standard deviation of eye movements between frames, pixels.
    """
    # Rendering has no gradient, and half precision would misplace lesions.
    with torch.no_grad(), torch.autocast(eyes.maps.device.type, enabled=False):
        return _render(eyes, parameters, side or eyes.size, frames, lesions, motion)


def _render(
    eyes: EyeBatch, parameters: Parameters, side: int, frames: Tensor | None, lesions: bool, motion: float
) -> Rendered:
    batch, device = len(eyes), eyes.maps.device
    window = open_window(eyes, parameters, side)
    field = (window.maps["field_of_view"] > 0.5).float()
    window.maps["field_of_view"] = field
    if "poor_cut" in parameters:
        field = window.maps["field_of_view"] = cut_field(window, parameters)
    photo = window.photo
    shown = (
        window.lesions
        if window.lesions is not None
        else field.new_zeros(batch, paint.COUNT, *field.shape[-2:])
    )
    if lesions:
        painted_maps = paint.paint_maps(eyes, window, parameters)
        photo = paint.paint_photo(window, painted_maps, parameters)
        shown = torch.maximum(shown, painted_maps)
    scene = _Scene(window, shown, parameters, lesions)
    index = (
        torch.arange(FRAMES_A_VIDEO, device=device).expand(batch, FRAMES_A_VIDEO)
        if frames is None
        else frames
    )

    def picture(slot: Tensor) -> Tensor:
        time = parameters["times"].gather(1, slot.unsqueeze(1))[:, 0]
        opened = exposure(parameters, time)
        frame = expose(fluorescence(scene, time), slot, opened, field, scene.shade, parameters)
        return moved(frame, slot, parameters, motion) * field if motion > 0 else frame

    rendered = [picture(index[:, k]) for k in range(index.shape[1])]
    ends = []
    for number in (0, FRAMES_A_VIDEO - 1):
        at = (index == number).all(0).nonzero()[:, 0]
        slot = torch.full((batch,), number, device=device)
        ends.append(rendered[int(at[0])] if len(at) else picture(slot))
    mask = ((ends[0] - ends[1]).abs() > MASK_THRESHOLD).float()
    seen = degrade_photo(photo, window, parameters)
    if "poor_gain" in parameters:
        seen = degrade_poor(seen, parameters)
    view = seen * 2 - 1
    painted = parameters["painted"].bool() if lesions else torch.zeros(batch, dtype=torch.bool, device=device)
    return Rendered(
        frames=torch.cat(rendered, 1),
        index=index,
        times=parameters["times"],
        photo=torch.where(field > 0, view, -1.0),
        field_of_view=field,
        mask=mask,
        sure=field * (window.maps["unsure"] < 0.5),
        lesions=shown,
        lesion_known=eyes.lesion_known,
        painted=painted,
        compartments={
            "artery": window.maps["artery"],
            "vein": window.maps["vein"],
            "capillary": scene.capillary,
            "choroid": scene.choroid,
            "disc": window.maps["disc"],
            "macula": window.maps["macula"],
            "leak": scene.leak_near + scene.leak_far + scene.leak_wide,
            "nonperfusion": 1 - scene.perfused,
        },
        parameters=parameters,
    )


def render_batch(
    eyes: EyeBatch | Sequence[PreparedEye],
    generator: torch.Generator,
    *,
    crop: int | None = None,
    frames: Tensor | None = None,
    lesions: bool = True,
    painting: float = 0.5,
    motion: float = 0.0,
    augment: bool = True,
    grain: float = 1.0,
    poor: float = 0.0,
    device: torch.device | str | None = None,
) -> Rendered:
    """Draws parameters and renders: one call a training step.

    Args:
        eyes: prepared eyes of one size, or a batch that already lies on the device.
        generator: on the CPU; the only source of randomness.
        crop: side of the window in pixels; the whole view when None.
        frames: which frames of the 12, int64 (B, K); all when None.
        lesions: False renders vessels alone.
        painting: probability that lesions are painted.
        motion: standard deviation of eye movements, pixels.
        augment: False keeps place and photo as they are.
        grain: factor on the frames' noise; 1 is as noisy as real frames.
        poor: probability that a photo is degraded as clinics' poor photographs are.
        device: where to render; the batch's own device when None.

    Raises:
        ConfigError: a crop that is not a positive number of pixels, or eyes of several sizes.
    """
    if crop is not None and crop < 16:
        raise ConfigError(f"A crop of {crop} pixels is too small to render. Give 16 or more.")
    batch = eyes if isinstance(eyes, EyeBatch) else stack_eyes(eyes)
    parameters = draw_parameters(
        generator,
        len(batch),
        size=batch.size,
        crop=crop,
        painting=painting if lesions else 0.0,
        augment=augment,
        grain=grain,
    )
    if poor > 0:
        parameters.update(draw_poor(generator, len(batch), poor))
    place = torch.device(device) if device is not None else batch.maps.device
    return render_parameters(
        batch.to(place),
        parameters.to(place),
        side=crop,
        frames=None if frames is None else frames.to(place),
        lesions=lesions,
        motion=motion,
    )
