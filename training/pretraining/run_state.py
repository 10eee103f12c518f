"""Everything of a run that changes: networks, optimisers, average, counters; built, saved, restored."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from retina_fm.errors import OutputError
from retina_fm.training.pretraining import checkpoints
from retina_fm.training.pretraining.losses.discriminators import Discriminators
from retina_fm.training.pretraining.losses.learner import Learner
from retina_fm.training.pretraining.losses.perceptual import PerceptualFeatures
from retina_fm.training.pretraining.optimisation import initialise_modules, make_optimiser
from retina_fm.training.pretraining.presets import Preset


class RunState:
    """A run's networks and counters.

    There is no state of random numbers: every choice of a step depends on the seed and the batch's number.

    Attributes:
        learner: generator and patch heads.
        judge: discriminators, or None.
        average: moving average of the generator's weights; empty where the preset keeps none.
        optimiser: of the learner.
        judge_optimiser: of the discriminators, or None.
        step: done since the run's beginning.
        samples: seen since then by all processes.
        minutes: of training since then.
    """

    def __init__(
        self,
        preset: Preset,
        seed: int,
        device: torch.device,
        *,
        channels_last: bool | None = None,
        perceptual: PerceptualFeatures | None = None,
        start_from: dict[str, Tensor] | None = None,
    ) -> None:
        self.batch = preset.batch
        self.learner = Learner(preset, perceptual)
        self.judge = (
            Discriminators(width=preset.discriminator_width, knowledge=preset.knowledge)
            if preset.adversarial
            else None
        )
        parts = (self.learner.generator, self.learner.heads, self.judge)
        initialise_modules([part for part in parts if part is not None], preset, seed)
        if start_from is not None:
            begun = self.learner.generator.load_state_dict(start_from, strict=False)
            assert not begun.unexpected_keys, begun
        if not preset.optimiser.encoder:
            self.learner.generator.freeze_encoder()
        for module in (self.learner, self.judge):
            if module is not None:
                _place(module, device, device.type != "cpu" if channels_last is None else channels_last)
        self.average: dict[str, Tensor] = {}
        if preset.optimiser.average > 0:
            self.average = {k: v.detach().clone() for k, v in self.learner.generator.state_dict().items()}
        settings = preset.optimiser
        self.optimiser = make_optimiser(settings, self.learner, settings.rate)
        self.judge_optimiser = (
            make_optimiser(settings, self.judge, settings.discriminator_rate) if self.judge else None
        )
        self.step, self.samples, self.minutes = 0, 0, 0.0

    def snapshot(
        self, batches_a_step: int, stream: dict[str, Any]
    ) -> tuple[dict[str, dict[str, Tensor]], dict[str, Any]]:
        """Tensors by file, and everything else as JSON values."""
        tensors: dict[str, dict[str, Tensor]] = {"generator": dict(self.learner.generator.state_dict())}
        if self.learner.heads is not None:
            tensors["heads"] = dict(self.learner.heads.state_dict())
        if self.average:
            tensors["average"] = self.average
        if self.judge is not None:
            tensors["discriminators"] = dict(self.judge.state_dict())
        groups: dict[str, Any] = {}
        for name, optimiser in self._optimisers():
            tensors[name], groups[name] = checkpoints.optimiser_tensors(optimiser)
        return tensors, {
            "step": self.step,
            "samples": self.samples,
            "minutes": self.minutes,
            "batch": self.batch,
            "batches_a_step": batches_a_step,
            "groups": groups,
            "stream": {**stream, "index": self.step * batches_a_step},
        }

    def restore(self, checkpoint: checkpoints.Checkpoint, batches_a_step: int, first_batch: int) -> None:
        """Become what a checkpoint holds.

        Args:
            checkpoint: of the same run.
            batches_a_step: of all processes, now.
            first_batch: the batch that the run began with; older checkpoints do not name theirs.

        Raises:
            OutputError: its steps are made of another number of samples.
        """
        tensors, state = checkpoint.tensors, checkpoint.state
        batch, batches = state.get("batch", first_batch), state["batches_a_step"]
        if batch * batches != self.batch * batches_a_step:
            raise OutputError(
                f"A step of the run has {batch * batches} samples, a step of this call "
                f"{self.batch * batches_a_step} (batch: {batch} then, {self.batch} now; batches a step, "
                f"which are processes times accumulation: {batches} then, {batches_a_step} now). Change "
                "--batch, --accumulation or the number of processes to have as many samples as before."
            )
        self.learner.generator.load_state_dict(tensors["generator"])
        if self.learner.heads is not None:
            self.learner.heads.load_state_dict(tensors["heads"])
        for name, value in self.average.items():
            value.copy_(tensors["average"][name])
        if self.judge is not None:
            self.judge.load_state_dict(tensors["discriminators"])
        for name, optimiser in self._optimisers():
            checkpoints.restore_optimiser(optimiser, tensors.get(name, {}), state["groups"][name])
        self.step, self.samples, self.minutes = state["step"], state["samples"], state["minutes"]

    def _optimisers(self) -> list[tuple[str, torch.optim.Optimizer]]:
        pairs = (("optimiser", self.optimiser), ("judge_optimiser", self.judge_optimiser))
        return [(name, optimiser) for name, optimiser in pairs if optimiser is not None]


def renumbered(stream: Mapping[str, Any], batch: int, index: int) -> dict[str, Any]:
    """A stream's saved state as of batches of another size, at the batch that begins with the same sample.

    Batch n holds the places n B to n B + B - 1 of the passes over the data, so with as many samples a step
    as before no eye is left out and none comes twice. A mixture counts its turns in batches: inside one cycle
    of turns its sources may then stand a few samples before or behind where they were.
    """
    changed: dict[str, Any] = {**stream, "index": index}
    if "batch" in stream:
        changed["batch"] = batch
    if "streams" in stream:  # of a mixture, whose turns are counted in batches
        changed["streams"] = [{**own, "batch": batch} for own in stream["streams"]]
    return changed


def _place(module: nn.Module, device: torch.device, channels_last: bool) -> None:
    module.to(device)
    if channels_last:
        module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
