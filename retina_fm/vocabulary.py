"""What the project speaks of, each word and number in one place."""

from __future__ import annotations

from typing import Literal, TypeAlias

LESION_TYPES = ("microaneurysm", "haemorrhage", "hard_exudate", "cotton_wool_spot", "drusen", "scar")
"""Lesion types in the order of the channels of every lesion map."""

PHASES = ("arterial", "venous", "late")
"""Phases of an angiogram, from first to last."""
FRAMES_A_PASS = 3
"""Consecutive frames that one pass of the generator predicts: a triple."""
FRAMES_A_PHASE = 4
FRAMES_A_VIDEO = FRAMES_A_PHASE * len(PHASES)
STEPS_A_VIDEO = FRAMES_A_VIDEO - FRAMES_A_PASS + 1
"""Passes that make a video, each a triple that begins one frame after the last."""
FRAMES_OF = {
    phase: slice(number * FRAMES_A_PHASE, (number + 1) * FRAMES_A_PHASE)
    for number, phase in enumerate(PHASES)
}
"""Where the frames of each phase lie in a video."""

EYES = ("left", "right")
Eye: TypeAlias = Literal["left", "right"]
SPLITS = ("train", "val", "test")
TRAINED_ON = SPLITS[0]
"""The part of rows that name none."""


def phase_of(frame: int) -> str:
    """The phase that a frame of a video lies in, counted from 0."""
    return PHASES[frame // FRAMES_A_PHASE]
