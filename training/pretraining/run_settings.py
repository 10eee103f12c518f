"""How long a run is, how it uses its machine, what it is validated on, and how it ended."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from retina_fm.configuration import AnyPath, Configuration


class Limits(Configuration):
    """How long a run is and how often it saves.

    Attributes:
        max_steps: stop when this many steps are done since the run's beginning.
        max_minutes: stop after this many minutes of this call.
        schedule_minutes: measure the schedule in minutes of training instead of ``preset.steps``: for a
            fixed slot on a machine of unknown speed. Such a run cannot be repeated to the bit.
        save_minutes: between checkpoints.
        save_steps: likewise in steps; None leaves it to the minutes.
        validate_minutes: between validations.
        keep: checkpoints that stay.
        log_steps: steps between log lines.
    """

    section: ClassVar[str] = "limits"

    max_steps: int | None = None
    max_minutes: float | None = None
    schedule_minutes: float | None = None
    save_minutes: float = 10.0
    save_steps: int | None = None
    validate_minutes: float = 30.0
    keep: Annotated[int, Field(ge=1)] = 2
    log_steps: int = 20


class Machine(Configuration):
    """How the machine is used.

    Attributes:
        device: ``cpu``, ``cuda``...; the first GPU, or the CPU without one.
        precision: ``bfloat16`` (autocast; weights and optimiser stay float32), ``float32``, or ``auto``:
            bfloat16 where the processor multiplies it natively. Elsewhere it is emulated, more than ten times
            as slowly.
        compile: whether the generator is compiled.
        channels_last: memory format of the networks; None is on a GPU alone (eager CPUs are slower with it).
        ahead: batches drawn ahead in a thread.
    """

    section: ClassVar[str] = "machine"

    device: str | None = None
    precision: Literal["auto", "bfloat16", "float32"] = "auto"
    compile: bool = False
    channels_last: bool | None = None
    ahead: int = 2


class Validation(Configuration):
    """What a run is validated on while it runs.

    Attributes:
        held_back: prepared eyes or pairs that are not trained on, for videos.
        vessels: folder of photographs and folder of vessel masks.
        probes: tables of labels.
        lpips: file with torchvision's AlexNet, for LPIPS of the videos.
        fvd: I3D as TorchScript and its SHA-256, for their FVD.
    """

    section: ClassVar[str] = "validation"

    held_back: AnyPath | None = None
    vessels: Annotated[tuple[AnyPath, AnyPath], Field(strict=False)] | None = None
    probes: Annotated[tuple[AnyPath, ...], Field(strict=False)] = ()
    lpips: AnyPath | None = None
    fvd: Annotated[tuple[AnyPath, str], Field(strict=False)] | None = None


@dataclass(frozen=True)
class PretrainReport:
    """How a run ended.

    Attributes:
        step: done since the run's beginning.
        samples: seen since then, by all processes.
        minutes: of training since then.
        stopped: why: ``steps``, ``minutes``, ``schedule`` or ``interrupted``.
        checkpoint: the last one.
        losses: total loss of every step of this call.
        waiting: share of this call's time in which the loop waited for data.
        figures: of the last validation.
    """

    step: int
    samples: int
    minutes: float
    stopped: str
    checkpoint: Path | None
    losses: list[float] = field(default_factory=list)
    waiting: float = 0.0
    figures: dict[str, float] = field(default_factory=dict)
