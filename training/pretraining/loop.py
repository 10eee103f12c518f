"""The loop of generative pretraining: runs unattended, resumes exactly, on one process or many."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import ExitStack, nullcontext
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor

import retina_fm
from retina_fm._io.folders import own_folder
from retina_fm._io.locks import locked
from retina_fm.encoding.precision import choose_precision
from retina_fm.errors import ConfigError, OutputError
from retina_fm.learning import follow
from retina_fm.network import Generator
from retina_fm.training.pretraining import checkpoints
from retina_fm.training.pretraining.data.autoregression import other_last
from retina_fm.training.pretraining.data.feeding import Feed, SampleStream, settings_at
from retina_fm.training.pretraining.data.samples import Samples
from retina_fm.training.pretraining.data.streams import seed_of
from retina_fm.training.pretraining.guards import (
    memory_advice,
    refuse_another_run,
    refuse_missing_device,
    stop_signals,
)
from retina_fm.training.pretraining.losses import terms as losses
from retina_fm.training.pretraining.losses.discriminators import Discriminators
from retina_fm.training.pretraining.losses.learner import total_loss, wanted_frames
from retina_fm.training.pretraining.losses.perceptual import PerceptualFeatures
from retina_fm.training.pretraining.optimisation import clip_gradient, rate_factor, set_rate
from retina_fm.training.pretraining.presets import ADVERSARIAL, LossWeights, Preset
from retina_fm.training.pretraining.processes import make_accelerator
from retina_fm.training.pretraining.run_log import RunLog, progress_line
from retina_fm.training.pretraining.run_settings import Limits, Machine, PretrainReport
from retina_fm.training.pretraining.run_state import RunState, renumbered

Validate = Callable[[Generator, int], dict[str, float]]
"""Takes the averaged generator and the step, returns figures by name."""


def train(
    stream: SampleStream,
    out: str | Path,
    preset: Preset,
    *,
    limits: Limits | None = None,
    machine: Machine | None = None,
    resume: bool = False,
    seed: int = 0,
    data: list[str] | None = None,
    perceptual: PerceptualFeatures | None = None,
    validate: Validate | None = None,
    start_from: dict[str, Tensor] | None = None,
    origin: dict[str, Any] | None = None,
    recipe: str | None = None,
    tensorboard: bool = True,
) -> PretrainReport:
    """Train a generator on a stream, or go on training it; ``pretrain`` is what people call.

    Args:
        stream: samples; batch n must depend on n alone.
        out: the run's folder.
        preset: everything that fixes the run.
        limits: length and saving.
        machine: device and precision.
        resume: continue the run in ``out``; starts it where there is none yet. Rates may differ from the
            run's, and so may batch and accumulation as long as a step has as many samples.
        seed: of weights and of every choice made on the way.
        data: paths of the data, kept in ``run.json`` for the export.
        perceptual: VGG features, for presets with that term.
        validate: called now and then with the averaged generator.
        start_from: a generator's weights to begin with.
        origin: what they are, kept in ``run.json`` and in the export's provenance.
        recipe: name of the recipe that the run follows, kept likewise.
        tensorboard: whether to write TensorBoard files.

    Returns:
        How it ended.

    Raises:
        OutputError: the folder holds another run, another process trains it, a loss is not finite, memory or
            disk are full.
        ConfigError: the preset and the stream do not fit, or there is no such device.
        MissingDependencyError: Accelerate is not installed.
    """
    run = _Run(
        stream,
        Path(out),
        preset,
        limits or Limits(),
        machine or Machine(),
        seed,
        perceptual,
        validate,
        tensorboard,
    )
    try:
        with memory_advice(preset):
            run.begin(resume, data or [], start_from, {"started_from": origin, "recipe": recipe})
        with memory_advice(preset), stop_signals(run.interrupt):
            return run.go()
    finally:
        run.close()


_LOCK = ".lock"
_TERMS = (*LossWeights.model_fields, "discriminator", "loss")
_PACES, _PAUSE = 51, 20.0  # steps whose median time is a step's usual time; times that, it was a pause


class _Run:
    """State of a run in progress; :func:`train` is its face."""

    def __init__(
        self,
        stream: SampleStream,
        out: Path,
        preset: Preset,
        limits: Limits,
        machine: Machine,
        seed: int,
        perceptual: PerceptualFeatures | None,
        validate: Validate | None,
        tensorboard: bool,
    ) -> None:
        self.stream, self.out, self.preset, self.limits, self.machine = stream, out, preset, limits, machine
        self.seed, self.validate = seed, validate
        refuse_missing_device(machine.device)
        self.accelerator = make_accelerator(machine.device)
        self.device = self.accelerator.device
        self.precision = choose_precision(machine.precision, self.device)
        self.interrupted = False
        self.tensorboard = tensorboard
        self.perceptual = perceptual
        self.figures: dict[str, float] = {}
        self.log: RunLog | None = None
        self.feed: Feed | None = None
        self._held = ExitStack()
        if stream.batch != preset.batch:
            raise ConfigError(
                f"The stream gives batches of {stream.batch}, the preset asks for {preset.batch}. "
                "Make them equal."
            )

    def begin(self, resume: bool, data: list[str], start_from: Any, history: Mapping[str, Any]) -> None:
        """Build everything, from a seed or from the last checkpoint."""
        if self.accelerator.is_main_process:
            self._claim()
            checkpoints.tidy_checkpoints(self.out)
        self.accelerator.wait_for_everyone()
        found = checkpoints.list_checkpoints(self.out)
        if found and not resume:
            raise OutputError(
                f"{self.out} holds a run already. Continue it with --resume, or choose another --out."
            )
        identity = {
            "preset": self.preset.model_dump(mode="json"),
            "seed": self.seed,
            "schedule_minutes": self.limits.schedule_minutes,
            "perceptual": self.perceptual is not None and self.preset.weights.perceptual > 0,
        }
        if found:
            before = checkpoints.read_run_file(self.out)
            if self.limits.schedule_minutes is None:
                begun = {"schedule_minutes": before.get("schedule_minutes")}
                identity |= begun
                self.limits = self.limits.model_copy(update=begun)
            refuse_another_run(before, identity, self.out)
        elif self.accelerator.is_main_process:
            about = {**identity, "data": data, "retina_fm_version": retina_fm.__version__}
            about |= {name: value for name, value in history.items() if value}
            checkpoints.write_run_file(self.out, about)
        self.log = RunLog(self.out, quiet=not self.accelerator.is_main_process, tensorboard=self.tensorboard)
        self.state = RunState(
            self.preset,
            self.seed,
            self.device,
            channels_last=self.machine.channels_last,
            perceptual=self.perceptual,
            start_from=start_from,
        )
        if found:
            self._continue_from(found[-1], self.log)
        if self.preset.weights.perceptual > 0 and self.perceptual is None:
            self.log.say("no file with VGG-19 weights was given: the perceptual term is off")
        self.log.say(f"computes in {self.precision}")
        if self.machine.compile:
            self.state.learner.generator.compile()
        self.parallel = self.accelerator.prepare_model(self.state.learner)
        judge = self.state.judge
        self.parallel_judge = None if judge is None else self.accelerator.prepare_model(judge)
        processes, rank = self.accelerator.num_processes, self.accelerator.process_index
        self.first, self.clock = self.step, {self.step: self.state.minutes}
        self.feed = Feed(
            self.stream,
            lambda step, part: (step * self.preset.accumulation + part) * processes + rank,
            lambda step: settings_at(self.preset.curriculum, step, self._progress_drawn(step)),
            accumulation=self.preset.accumulation,
            first=self.step,
            ahead=self.machine.ahead,
        )

    def _continue_from(self, last: Path, log: RunLog) -> None:
        checkpoint = checkpoints.load_checkpoint(last)
        first_batch = checkpoints.read_run_file(self.out)["preset"]["batch"]
        self.state.restore(checkpoint, self.batches_a_step, first_batch)
        stream = checkpoint.state["stream"]
        self.stream.load_state_dict(renumbered(stream, self.preset.batch, self.step * self.batches_a_step))
        log.say(f"continuing at step {self.step} from {last.name}")
        if self.accelerator.is_main_process:
            for name, value in checkpoints.record_changes(self.out, self.preset, self.step).items():
                log.say(f"from step {self.step} on, {name} is {value}")

    def _claim(self) -> None:
        """Two processes that wrote checkpoints in turn would mix two histories."""
        busy = (
            f"Another process trains {self.out}. Stop it first (it saves when it is told to), "
            "or choose another --out."
        )
        own_folder(self.out, "a run of pretraining", "run.json", _LOCK, checkpoints.FOLDER)
        try:
            self._held.enter_context(locked(self.out / _LOCK, busy))
        except OSError as error:
            what = "is a file" if self.out.is_file() else f"cannot be written ({error})"
            raise OutputError(f"{self.out} {what}. Give --out a folder, new or of a run.") from None

    @property
    def step(self) -> int:
        """Steps done since the run's beginning."""
        return self.state.step

    @property
    def batches_a_step(self) -> int:
        """Batches of all processes that make one step."""
        return int(self.accelerator.num_processes) * self.preset.accumulation

    def _progress(self, step: int) -> float:
        if self.limits.schedule_minutes is not None:
            return min(1.0, self.state.minutes / self.limits.schedule_minutes)
        return min(1.0, step / self.preset.steps)

    def _progress_drawn(self, step: int) -> float:
        """Progress for batches of a step, which are drawn before it: by the clock of when they were ordered.

        Whatever the clock says while the thread draws differs between processes.
        """
        if self.limits.schedule_minutes is None:
            return self._progress(step)
        minutes = self.clock[max(step - self._steps_ahead, self.first)]
        return min(1.0, minutes / self.limits.schedule_minutes)

    @property
    def _steps_ahead(self) -> int:
        return -(-self.machine.ahead // self.preset.accumulation)

    def _tick(self, minutes: float) -> None:
        """Let time pass; where the schedule is measured in it, the first process's clock counts for all."""
        total = self.state.minutes + minutes
        if self.limits.schedule_minutes is not None and self.accelerator.num_processes > 1:
            own = total if self.accelerator.is_main_process else 0.0
            shared = torch.tensor([own], dtype=torch.float64, device=self.device)
            total = float(self.accelerator.reduce(shared, reduction="sum"))
        self.state.minutes = total
        self.clock[self.step] = total
        self.clock.pop(self.step - self._steps_ahead - 1, None)  # drawn and trained long ago

    def _save(self) -> Path | None:
        path = None
        if self.accelerator.is_main_process:
            tensors, state = self.state.snapshot(self.batches_a_step, self.stream.state_dict())
            path = checkpoints.save_checkpoint(self.out, self.step, tensors, state, keep=self.limits.keep)
        self.saved = self.step
        self.accelerator.wait_for_everyone()
        return path

    def weights_now(self) -> LossWeights:
        """Weights of the loss terms at this step: adversarial ones wait for the warm start."""
        weights = self.preset.weights
        if self._progress(self.step) < self.preset.curriculum.adversarial_from:
            weights = weights.model_copy(update=dict.fromkeys(ADVERSARIAL, 0.0))
        return weights

    def _autocast(self) -> Any:
        return torch.autocast(
            self.device.type, dtype=torch.bfloat16, enabled=self.precision.dtype == torch.bfloat16
        )

    def _other_last(self, samples: Samples, number: int) -> Samples:
        """Some samples get the generator's own last triple, or a blurred one, instead of the true one."""
        if self.preset.architecture.in_channels == 3:
            return samples
        curriculum = self.preset.curriculum
        started = self._progress(self.step) >= curriculum.own_frames_from
        # eager: how many rows there are changes, and each count would be compiled anew
        forward = self.state.learner.generator.forward
        return other_last(samples, forward, curriculum, started=started, seed=seed_of(self.seed, 3, number))

    def one_step(self) -> dict[str, float]:
        """One update of the generator and, where they take part, of the discriminators."""
        settings, weights = self.preset.optimiser, self.weights_now()
        factor = rate_factor(settings, self.step, self._progress(self.step))
        adversarial = weights.adversarial > 0 or weights.feature_matching > 0
        judge = self.state.judge if adversarial else None
        kept, parts = self._generator_gradient(weights, judge)
        if judge is not None:
            judge.requires_grad_(True)
            self._judge_gradient(kept, parts)
        # Both gradients are looked at before either optimiser steps: what is saved is always good.
        norm = clip_gradient(self.state.learner, settings.clip)
        self._refuse_nan("gradient", norm, parts)
        if judge is not None:
            self._refuse_nan("gradient of the discriminators", clip_gradient(judge, 0.0), parts)
        self._update(judge is not None, factor)
        return {
            **self._means(parts),
            "rate": settings.rate * factor,
            "gradient": float(norm),
        }

    def _means(self, parts: list[dict[str, Tensor]]) -> dict[str, float]:
        """The mean of each term over those batches of the step, on all processes, that have it.

        Batches of a ``pairs.csv`` know no lesions, vessels or anatomy, those of prepared eyes do.
        """
        nothing = torch.zeros((), device=self.device)
        found = [[part[name].float() for part in parts if name in part] for name in _TERMS]
        sums = torch.stack([torch.stack([nothing, *values]).sum() for values in found])
        counts = torch.tensor([float(len(values)) for values in found], device=self.device)
        # every process sends every name: what their batches know may differ
        sums, counts = self.accelerator.reduce(torch.stack([sums, counts]), reduction="sum").tolist()
        rows = zip(_TERMS, sums, counts, strict=True)
        return {name: value / count for name, value, count in rows if count}

    def _generator_gradient(
        self, weights: LossWeights, judge: Discriminators | None
    ) -> tuple[list[tuple[Samples, Tensor]], list[dict[str, Tensor]]]:
        """The generator's gradient over all parts of a step: their samples with fakes, and their terms."""
        assert self.feed is not None
        kept: list[tuple[Samples, Tensor]] = []
        parts: list[dict[str, Tensor]] = []
        self.state.optimiser.zero_grad(set_to_none=True)
        if judge is not None:
            judge.requires_grad_(False)
        for part in range(self.preset.accumulation):
            samples = self.feed.take().to(self.device)
            self._check(samples)
            number = self.feed.number(self.step, part)
            quiet = part < self.preset.accumulation - 1
            with self.accelerator.no_sync(self.parallel) if quiet else nullcontext():
                with self._autocast():
                    samples = self._other_last(samples, number)
                    learned = self.parallel(samples, weights, judge, seed_of(self.seed, 4, number))
                    loss = total_loss(learned.terms, weights)
                (loss / self.preset.accumulation).backward()  # type: ignore[no-untyped-call]
            parts.append({**{k: v.detach() for k, v in learned.terms.items()}, "loss": loss.detach()})
            if judge is not None:
                kept.append((samples, learned.frames.detach()))
        return kept, parts

    def _judge_gradient(self, kept: list[tuple[Samples, Tensor]], parts: list[dict[str, Tensor]]) -> None:
        assert self.state.judge_optimiser is not None and self.parallel_judge is not None
        self.state.judge_optimiser.zero_grad(set_to_none=True)
        for index, ((samples, fake), values) in enumerate(zip(kept, parts, strict=True)):
            real = wanted_frames(samples, self.preset.single_frame)
            quiet = index < len(kept) - 1
            with self.accelerator.no_sync(self.parallel_judge) if quiet else nullcontext():
                with self._autocast():
                    # One pass over both halves: instance normalisation keeps pictures apart.
                    photo, mask = samples.photo.repeat(2, 1, 1, 1), samples.mask.repeat(2, 1, 1, 1)
                    judged = self.parallel_judge(photo, torch.cat([real, fake]), mask)
                    halves = [score.float().chunk(2) for score in judged.scores]
                    loss = losses.lsgan_discriminator([h[0] for h in halves], [h[1] for h in halves])
                (loss / len(kept)).backward()  # type: ignore[no-untyped-call]
            values["discriminator"] = loss.detach()

    def _update(self, adversarial: bool, factor: float) -> None:
        """Step the optimisers whose gradient is there, the average and the counters."""
        settings, state = self.preset.optimiser, self.state
        set_rate(state.optimiser, settings.rate * factor)
        state.optimiser.step()
        if adversarial and state.judge_optimiser is not None:
            set_rate(state.judge_optimiser, settings.discriminator_rate * factor)
            state.judge_optimiser.step()
        if state.average:
            follow(state.average, state.learner.generator.state_dict(), settings.average, self.step)
        state.step += 1
        state.samples += self.preset.batch * self.batches_a_step

    def _check(self, samples: Samples) -> None:
        lesions = self.preset.architecture.lesions
        if samples.lesions is not None and lesions and samples.lesions.shape[1] != len(lesions):
            raise ConfigError(
                f"The samples have {samples.lesions.shape[1]} lesion maps, the preset {len(lesions)}."
            )

    def _refuse_nan(self, what: str, norm: Tensor, parts: list[dict[str, Tensor]]) -> None:
        if bool(torch.isfinite(norm)):
            return
        assert self.feed is not None
        bad = [
            f"batch {self.feed.number(self.step, part)}: "
            + ", ".join(f"{name} {float(value):.3g}" for name, value in terms.items())
            for part, terms in enumerate(parts)
        ]
        last = checkpoints.list_checkpoints(self.out)
        where = f"{last[-1].name} holds the weights before it" if last else "there is no checkpoint yet"
        raise OutputError(
            f"The {what} is not finite at step {self.step} ({'; '.join(bad)}). Training stopped; {where}. "
            "Look at that batch, lower the rate (--set optimiser.rate=..., for discriminators "
            "optimiser.discriminator_rate) or use --precision float32, then continue with --resume."
        )

    def go(self) -> PretrainReport:
        """Step until a limit is reached; save, validate and log on the way."""
        assert self.feed is not None and self.log is not None
        began = mark = saved = validated = time.monotonic()
        before, paces = began, deque[float](maxlen=_PACES)
        history: list[float] = []
        since = self.step
        self.feed.waited = 0.0
        path: Path | None = None
        stopped = self._stop_reason(0.0)
        while stopped is None:
            values = self.one_step()
            history.append(values["loss"])
            now = time.monotonic()
            paces.append(now - before)
            # A machine that is suspended or given to others does not use up the schedule.
            self._tick(min(now - before, _PAUSE * median(paces)) / 60)
            before = now
            stopped = self._stop_reason((now - began) / 60)
            if self.step - since >= self.limits.log_steps or stopped:
                self._report(values, since, now - mark, (now - began) / 60)
                since, mark = self.step, now
                self.feed.waited = 0.0
            if self._due(now - saved, self.limits.save_minutes) or (
                self.limits.save_steps and self.step % self.limits.save_steps == 0
            ):
                path, saved = self._save(), time.monotonic()
            if self.validate is not None and self._due(now - validated, self.limits.validate_minutes):
                self._validate()
                validated = time.monotonic()
        if history:
            path = path if self.saved == self.step else self._save()
            if self.validate is not None and self.validated != self.step:
                self._validate()
        self.log.say(f"stopped at step {self.step} ({stopped})")
        total = max(time.monotonic() - began, 1e-9)
        existing = checkpoints.list_checkpoints(self.out)
        return PretrainReport(
            self.step,
            self.state.samples,
            self.state.minutes,
            stopped,
            path or (existing[-1] if existing else None),
            history,
            min(1.0, self.total_waited / total),
            self.figures,
        )

    total_waited = 0.0
    saved = validated = -1

    def _due(self, seconds: float, minutes: float) -> bool:
        """Whether the first process's clock says so; all processes must agree."""
        due = torch.tensor([float(seconds >= 60 * minutes and self.accelerator.is_main_process)])
        if self.accelerator.num_processes == 1:
            return bool(due)
        return bool(self.accelerator.reduce(due.to(self.device), reduction="sum") > 0)

    def _stop_reason(self, minutes: float) -> str | None:
        limits = self.limits
        if limits.max_steps is not None and self.step >= limits.max_steps:
            return "steps"
        if limits.schedule_minutes is None and self.step >= self.preset.steps:
            return "schedule"
        if limits.schedule_minutes is not None and self._due(
            60 * self.state.minutes, limits.schedule_minutes
        ):
            return "schedule"
        if limits.max_minutes is not None and self._due(60 * minutes, limits.max_minutes):
            return "minutes"
        if self._due(float(self.interrupted), 1 / 60):
            return "interrupted"
        return None

    def _report(self, values: dict[str, float], since: int, seconds: float, minutes: float) -> None:
        assert self.feed is not None and self.log is not None
        done = self.step - since
        batch = self.preset.batch * self.batches_a_step
        seconds = max(seconds, 1e-9)
        self.total_waited += self.feed.waited
        values = {
            **values,
            "samples_per_second": done * batch / seconds,
            "waiting": min(1.0, self.feed.waited / seconds),
        }
        self.log.write(self.step, {**values, "minutes": self.state.minutes})
        left = self._minutes_left(seconds / 60 / max(done, 1), minutes)
        steps = self.limits.max_steps
        if self.limits.schedule_minutes is None:
            steps = min(self.preset.steps, steps or self.preset.steps)
        share = self.step / steps if steps else self._progress(self.step)
        self.log.say(progress_line(self.step, steps, share, values, self.state.minutes, left))

    def _minutes_left(self, a_step: float, minutes: float) -> float | None:
        ends = []
        if self.limits.max_minutes is not None:
            ends.append(self.limits.max_minutes - minutes)
        if self.limits.schedule_minutes is not None:
            ends.append(self.limits.schedule_minutes - self.state.minutes)
        else:
            ends.append((self.preset.steps - self.step) * a_step)
        if self.limits.max_steps is not None:
            ends.append((self.limits.max_steps - self.step) * a_step)
        return max(0.0, min(ends))

    def _validate(self) -> None:
        self.validated = self.step
        if self.accelerator.is_main_process and self.validate is not None and self.log is not None:
            generator = Generator(self.preset.architecture).to(self.device)
            generator.load_state_dict(self.state.average or self.state.learner.generator.state_dict())
            with torch.no_grad(), self._autocast():
                self.figures = self.validate(generator.eval(), self.step)
            self.log.write(self.step, {f"validation/{k}": v for k, v in self.figures.items()})
            shown = "  ".join(f"{name} {value:.3f}" for name, value in self.figures.items())
            self.log.say(f"validation at step {self.step}: {shown}")
            sheet = self.out / "sheets" / f"step-{self.step:08d}.png"
            if sheet.is_file():
                self.log.picture(self.step, "validation/videos", sheet)
        self.accelerator.wait_for_everyone()

    def interrupt(self) -> None:
        """End after the step that is under way."""
        self.interrupted = True

    def close(self) -> None:
        """Stop the thread that draws ahead, close files."""
        try:
            if self.feed is not None:
                self.feed.close()
            if self.log is not None:
                self.log.close()
        finally:
            self._held.close()
