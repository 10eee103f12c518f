"""Everything random about a rendered batch, drawn on the CPU and recorded as tensors.

Rendering itself draws nothing, so the same parameters give the same frames on any device.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from retina_fm.pictures.angiograph import draw_angiograph, draw_light
from retina_fm.pictures.draws import Draws
from retina_fm.training.simulator.eyes.prepared import ANCHOR_COUNT
from retina_fm.vocabulary import FRAMES_A_PHASE, FRAMES_A_VIDEO, FRAMES_OF, LESION_TYPES

ARTERIAL, VENOUS, LATE = FRAMES_OF.values()


class Parameters(dict[str, Tensor]):
    """Named tensors; the first axis is the batch, except for ``spot_*``, one row a painted lesion."""

    def to(self, device: torch.device | str) -> Parameters:
        """The same parameters on another device."""
        return Parameters({name: value.to(device, non_blocking=True) for name, value in self.items()})

    def as_lists(self) -> dict[str, Any]:
        """Plain numbers for JSON."""
        return {name: value.tolist() for name, value in self.items()}


def draw_times(draw: Draws) -> Tensor:
    """Seconds after dye reaches the disc, float32 (B, 12): four frames a phase, evenly spaced with jitter.

    Phases as in practice: arterial 1 to 3 s, venous to about 30 s, late from 2 to 10 minutes (Spaide 2015,
    Retina 35:2163; the study drew four frames evenly from each).
    """
    steps = torch.linspace(0, 1, 4)
    phases = []
    for first, last in (
        ((0.35, 1.1), (2.2, 3.6)),
        ((4.6, 6.8), (14.0, 30.0)),
        ((110.0, 240.0), (360.0, 620.0)),
    ):
        low, high = draw.uniform(*first, 1), draw.uniform(*last, 1)
        jitter = draw.uniform(-0.3, 0.3, 4) * torch.tensor([0.5, 1.0, 1.0, 0.5]) / 3
        # Later frames lie further apart, as photographers take them.
        place = (steps + jitter).clamp(0, 1)
        phases.append(low * (high / low) ** place)
    return torch.cat(phases, 1)


def _geometry(draw: Draws, crop: int | None, size: int, augment: bool) -> dict[str, Tensor]:
    """Rotation, flip, frame size and centre of the window."""
    if not augment:
        zero = torch.zeros(draw.batch)
        frame = torch.full((draw.batch,), float(crop or size))
        return {"angle": zero, "flip": zero.long(), "frame_size": frame, "centre": torch.zeros(draw.batch, 2)}
    side = crop or size
    # The whole field of view is drawn at 1.1 to 2 times the window, so that a window shows most of an eye.
    frame = side * draw.uniform(1.08, 2.0) if crop and crop < size else side * draw.uniform(0.95, 1.25)
    free = (1 - side / frame).clamp(min=0).unsqueeze(1)
    turn = draw.normal(0.2).clamp(-0.6, 0.6)
    turn = torch.where(draw.chance(0.15) > 0, draw.uniform(-math.pi, math.pi), turn)
    return {
        "angle": turn,
        "flip": draw.chance(0.5).long(),
        "frame_size": frame,
        "centre": draw.uniform(-0.9, 0.9, 2) * free,
    }


def _dye(draw: Draws) -> dict[str, Tensor]:
    """Speeds, transit times and concentrations."""
    return {
        "times": draw_times(draw),
        "artery_speed": draw.log_uniform(0.8, 2.2),  # radii of the field a second
        "front_width": draw.uniform(0.08, 0.25),
        "transit": draw.uniform(1.3, 2.6),  # seconds from artery to vein
        "laminar": draw.uniform(1.2, 3.6),  # seconds until the axis of the widest vein is filled
        "choroid_lead": draw.uniform(0.4, 1.2),  # choroid fills before the retina
        "choroid_patch": draw.uniform(0.15, 0.8),
        "bolus_peak": draw.uniform(2.8, 5.0),
        "plateau": draw.uniform(0.5, 0.7),
        "clearance": draw.log_uniform(300.0, 900.0),
        "choroid_level": draw.log_uniform(0.5, 1.2),
        "capillary_level": draw.log_uniform(0.75, 1.45),
        "texture": draw.uniform(0.9, 2.2),
        "xanthophyll": draw.uniform(0.5, 0.95),
        "calibre_half": draw.uniform(0.002, 0.0045),
        "late_stain": draw.uniform(0.03, 0.2),
        "disc_stain": draw.uniform(0.15, 0.75),
        "light_field": draw_light(draw),
        "patch_field": draw.normal(1.0, 1, 14, 14),
        "patchy_field": draw.normal(1.0, 1, 44, 44),
    }


def _camera(draw: Draws) -> dict[str, Tensor]:
    """What the angiography camera and the colour camera do to their pictures."""
    # Photographers expose each phase for itself; the levels are those of real frames.
    levels = torch.tensor([1.5, 1.12, 1.3]).repeat_interleave(FRAMES_A_PHASE)
    camera = draw_angiograph(draw)
    return {
        "gain": levels * camera.pop("exposure"),
        **camera,
        "noise_seed": torch.randint(0, 2**31 - 1, (draw.batch,), generator=draw.generator),
        "shift": draw.normal(1.0, FRAMES_A_VIDEO, 2),
        "photo_gain": draw.log_uniform(0.75, 1.25),
        "photo_gamma": draw.log_uniform(0.8, 1.3),
        "photo_colour": torch.exp(draw.normal(0.07, 3)),
        "photo_haze": draw.chance(0.5) * draw.uniform(0.0, 0.45),
        "photo_haze_colour": torch.tensor([0.55, 0.46, 0.36])
        * draw.uniform(0.6, 1.3, 1)
        * torch.exp(draw.normal(0.1, 3)),
        "photo_blur": draw.chance(0.5) * draw.uniform(0.0, 1.0),
        "photo_light": draw.normal(0.13, 2),
        "photo_light_curve": draw.uniform(-0.05, 0.3),
        "photo_noise": draw.chance(0.5) * draw.log_uniform(0.003, 0.03),
        "photo_spot": torch.cat(
            [
                draw.uniform(-0.9, 0.9, 2),
                draw.uniform(0.15, 0.5, 1),
                draw.chance(0.1, 1) * draw.uniform(0.05, 0.3, 1),
            ],
            1,
        ),
    }


# Expected counts of each type by picture of disease: microaneurysm, haemorrhage, hard exudate, cotton-wool
# spot, drusen, scar. Each picture draws a severity that multiplies them.
_DISEASES = torch.tensor(
    [
        [14.0, 6.0, 0.0, 0.3, 0.0, 0.0],  # mild diabetic
        [22.0, 20.0, 22.0, 1.2, 0.0, 0.0],  # severe diabetic
        [6.0, 6.0, 45.0, 0.3, 0.0, 0.0],  # macular oedema with exudates
        [4.0, 26.0, 2.0, 2.5, 0.0, 0.0],  # venous occlusion
        [0.5, 0.7, 0.0, 0.0, 40.0, 0.0],  # drusen
        [0.5, 0.5, 1.0, 0.0, 6.0, 2.5],  # atrophy
        [10.0, 6.0, 3.0, 0.7, 0.0, 16.0],  # laser for diabetes
        [8.0, 9.0, 10.0, 1.5, 8.0, 3.0],  # a bit of everything
    ]
)
_LIMITS = torch.tensor([60, 64, 110, 8, 90, 36])


def _spots(draw: Draws, painted: Tensor) -> dict[str, Tensor]:
    """One row for each lesion to paint: where, how large, how long, how rough, how strong.

    Sizes are radii of the field of view, with the same ranges as drawn retinas.
    """
    disease = torch.randint(0, len(_DISEASES), (draw.batch,), generator=draw.generator)
    expected = _DISEASES[disease] * draw.log_uniform(0.35, 1.6, 1) * torch.exp(draw.normal(0.3, 6))
    counts = torch.poisson(expected, generator=draw.generator).long().minimum(_LIMITS)
    counts = counts * painted.long().unsqueeze(1)
    owner = torch.repeat_interleave(torch.arange(draw.batch * 6), counts.flatten())
    batch, kind = owner // 6, owner % 6
    spots = Draws(draw.generator, len(owner))
    sizes = torch.tensor([0.0052, 0.0105, 0.0065, 0.03, 0.0075, 0.022])[kind]
    spread = torch.tensor([0.28, 0.75, 0.6, 0.3, 0.5, 0.25])[kind]
    big = spots.uniform(0, 1)
    long = sizes * torch.exp(spread * spots.normal(1.0).clamp(-2, 2.4))
    # Some lesions run together: pools of blood, confluent exudates and atrophy must be known inside, too.
    long = torch.where((kind == 1) & (big < 0.035), spots.uniform(0.05, 0.13), long)
    long = torch.where((kind == 2) & (big < 0.03), spots.uniform(0.03, 0.09), long)
    long = torch.where((kind == 5) & (disease[batch] == 5) & (big < 0.6), spots.uniform(0.06, 0.2), long)
    flame = (kind == 1) & (spots.uniform(0, 1) < 0.35) & (long < 0.05)
    wide = long * torch.where(flame, spots.uniform(0.2, 0.45), spots.uniform(0.55, 1.0))
    long = torch.where(flame, long * 1.8, long)
    # Anchors: -1 anywhere in the window, else artery 0, vein 1, edge 2, macula 3.
    where = spots.uniform(0, 1)
    anchor = torch.full_like(kind, -1)
    anchor = torch.where((kind == 1) & (where < 0.3), 1, anchor)
    anchor = torch.where((kind == 1) & (where > 0.9), 2, anchor)
    anchor = torch.where((kind == 4) & (where < 0.75), 3, anchor)
    anchor = torch.where((kind == 2) & (where < 0.1), 3, anchor)
    anchor = torch.where((kind == 0) & (where < 0.08), 1, anchor)
    # Exudates come in clusters and rings: they share one of four middles a picture.
    middles = draw.uniform(-0.75, 0.75, 4, 2)
    reach = draw.uniform(0.08, 0.32, 4)
    group = torch.randint(0, 4, (len(owner),), generator=draw.generator)
    turn = spots.uniform(0, 2 * math.pi)
    ring = (group % 2 == 0).float()
    far = reach[batch, group] * (ring * (1 + spots.normal(0.15)) + (1 - ring) * spots.normal(0.7).abs())
    clustered = middles[batch, group] + far.unsqueeze(1) * torch.stack([turn.cos(), turn.sin()], 1)
    place = spots.uniform(-1.0, 1.0, 2)
    together = ((kind == 2) & (anchor < 0)).unsqueeze(1)
    return {
        "spot_batch": batch,
        "spot_kind": kind,
        "spot_place": torch.where(together, clustered, place),
        "spot_anchor": anchor,
        "spot_choice": spots.uniform(0, 1),
        "spot_long": long,
        "spot_wide": wide,
        "spot_angle": torch.where(flame, 9.0, spots.uniform(0, math.pi)),  # 9: along the nerve fibres
        "spot_rough": spots.normal(1.0, 4).clamp(-1.5, 1.5)
        * torch.tensor([1.0, 1.0, 0.6, 0.5])
        * torch.tensor([0.06, 0.16, 0.2, 0.14, 0.1, 0.12])[kind].unsqueeze(1),
        "spot_phase": spots.uniform(0, 2 * math.pi, 4),
        "spot_strength": spots.uniform(0.75, 1.0),
    }


def draw_parameters(
    generator: torch.Generator,
    batch: int,
    *,
    size: int = 512,
    crop: int | None = None,
    painting: float = 0.5,
    augment: bool = True,
    grain: float = 1.0,
) -> Parameters:
    """Draws everything random about ``batch`` renderings.

    Args:
        generator: on the CPU; it alone decides.
        batch: how many.
        size: side of the prepared eyes' maps.
        crop: side of the window to render; the whole view when None.
        painting: probability that lesions are painted into a photo and its frames.
        augment: False keeps the eye as it lies, undegraded: no rotation, flip, scale, haze or blur.
        grain: factor on the frames' noise; 1 is as noisy as real frames, less is easier to learn from.

    Returns:
        Tensors on the CPU; see the source for each name's unit.
    """
    draw = Draws(generator, batch)
    values = _geometry(draw, crop, size, augment) | _dye(draw) | _camera(draw)
    values["noise"] = values["noise"] * grain
    painted = (draw.uniform(0, 1) < painting).float()
    values |= {
        "painted": painted.long(),
        "exudate_colour": torch.tensor([1.02, 0.86, 0.42]) * torch.exp(draw.normal(0.06, 3)),
        "blood_density": draw.uniform(0.7, 1.6),
        "lesion_contrast": draw.uniform(0.5, 1.0, len(LESION_TYPES)),
        "leak": draw.chance(0.75) * draw.uniform(0.1, 1.3),
        "leak_delay": draw.log_uniform(30.0, 240.0),
        "leak_field": draw.normal(1.0, 1, 20, 20),
        "window_defect": draw.chance(0.4),
        "nonperfusion": painted * draw.chance(0.25) * draw.uniform(0.6, 1.0),
        "nonperfusion_field": draw.normal(1.0, 1, 9, 9),
        "uneven_field": draw.normal(1.0, 1, 48, 48),
    }
    values |= _spots(draw, painted)
    if not augment:
        one, zero = torch.ones(batch), torch.zeros(batch)
        values |= {
            "photo_gain": one,
            "photo_gamma": one,
            "photo_colour": torch.ones(batch, 3),
            "photo_haze": zero,
            "photo_blur": zero,
            "photo_light": torch.zeros(batch, 2),
            "photo_light_curve": zero,
            "photo_noise": zero,
            "photo_spot": torch.tensor([[0.0, 0.0, 1.0, 0.0]]).repeat(batch, 1),
        }
    return Parameters(values)


def draw_camera(generator: torch.Generator, batch: int) -> Parameters:
    """What two cameras do to ``batch`` pictures, and nothing else."""
    return Parameters(_camera(Draws(generator, batch)))


def anchor_index(choice: Tensor) -> Tensor:
    """Row of ``PreparedEye.anchors`` that a uniform ``choice`` in [0, 1) stands for."""
    return (choice * ANCHOR_COUNT).long().clamp(0, ANCHOR_COUNT - 1)
