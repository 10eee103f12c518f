"""``retina-fm pretrain``: prepared eyes or paired videos to a training run."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from retina_fm.metrics.videos import FigureNetworks
    from retina_fm.training.pretraining.presets import Preset


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "pretrain",
        help="train a generator on prepared eyes or paired videos",
        description="Train, or with --resume go on training. Ctrl-C and SIGTERM end a run with a checkpoint.",
    )
    parser.add_argument(
        "--check",
        metavar="PAIRS|EYES",
        help="check a pairs.csv or prepared eyes like a compiler, train nothing",
    )
    parser.add_argument(
        "--data", action="append", default=[], help="folder of prepared eyes or pairs.csv; may be repeated"
    )
    parser.add_argument("--preset", default="fundus2video", help="name of a preset; 'list' shows them")
    parser.add_argument("--out", help="folder of the run")
    parser.add_argument("--resume", action="store_true", help="continue the run in --out, or start it")
    parser.add_argument(
        "--start-from",
        metavar="WEIGHTS",
        help="model or weights folder whose generator to begin with; one of half the width is widened",
    )
    length = parser.add_argument_group("length")
    length.add_argument("--steps", type=int, help="length of the schedule (the preset's)")
    length.add_argument("--schedule-minutes", type=float, help="length of the schedule in minutes instead")
    length.add_argument("--max-steps", type=int, help="stop when so many steps are done in all")
    length.add_argument("--max-minutes", type=float, help="stop after so many minutes of this call")
    size = parser.add_argument_group("size")
    size.add_argument("--batch", help="samples a process and accumulation step, or auto")
    size.add_argument("--accumulation", type=int, help="batches a step")
    size.add_argument(
        "--crop", type=int, action="append", help="side of the windows; repeated, they take turns"
    )
    size.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="any other setting")
    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", help="cpu or cuda (the first GPU if there is one)")
    machine.add_argument("--precision", choices=("bfloat16", "float32"), default="bfloat16")
    machine.add_argument(
        "--compile", action="store_true", help="compile the generator (a minute, then faster)"
    )
    machine.add_argument("--resident", action="store_true", help="keep all prepared eyes on the device")
    machine.add_argument("--seed", type=int, default=0)
    saving = parser.add_argument_group("saving and validation")
    saving.add_argument("--keep", type=int, default=2, help="checkpoints that stay")
    saving.add_argument("--save-minutes", type=float, default=10.0)
    saving.add_argument("--validate-minutes", type=float, default=30.0)
    saving.add_argument("--held-back", metavar="DATA", help="prepared eyes or pairs to validate videos on")
    saving.add_argument(
        "--vessels", nargs=2, metavar=("PHOTOS", "MASKS"), help="labelled photographs for zero-shot vessels"
    )
    saving.add_argument("--probe", metavar="LABELS_CSV", action="append", default=[], help="linear probe")
    saving.add_argument("--lpips", metavar="FILE", help="torchvision's AlexNet, for LPIPS of --held-back")
    saving.add_argument(
        "--fvd", nargs=2, metavar=("FILE", "SHA256"), help="I3D as TorchScript, for FVD of --held-back"
    )
    saving.add_argument("--perceptual", metavar="FILE", help="VGG-19 weights for the perceptual term")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and report."""
    from retina_fm.errors import ConfigError

    if arguments.check:
        return _check(arguments.check)
    if arguments.preset == "list":
        from retina_fm.training.pretraining.presets import PRESETS

        for preset in PRESETS.values():
            print(f"{preset.name:20} {preset.about}")
        return 0
    if not arguments.data or not arguments.out:
        raise ConfigError("Give --data with prepared eyes or a pairs.csv, and --out for the run.")
    return _train(arguments)


def _check(path: str) -> int:
    from retina_fm.training.pretraining.data.sources import check_data

    report = check_data(path)
    for problem in report.problems:
        print(f"{path}: {problem}")
    what = f"sequences, {report.frames} frames" if report.kind == "pairs" else report.kind
    print(f"{report.items} usable {what}, {len(report.problems)} problems")
    return 0 if report.ok else 1


def _preset(arguments: argparse.Namespace) -> Preset:
    import ast

    from retina_fm.errors import ConfigError
    from retina_fm.training.pretraining.presets import preset_named, with_settings

    settings: dict[str, Any] = {}
    for text in arguments.set:
        name, found, value = text.partition("=")
        if not found:
            raise ConfigError(f"--set {text!r} has no value. Write --set weights.lesions=0.5, for example.")
        try:
            settings[name] = ast.literal_eval({"true": "True", "false": "False"}.get(value, value))
        except (ValueError, SyntaxError):
            settings[name] = value
    for name in ("steps", "accumulation"):
        if getattr(arguments, name) is not None:
            settings[name] = getattr(arguments, name)
    if arguments.batch not in (None, "auto"):
        if not str(arguments.batch).isdigit() or int(arguments.batch) < 1:
            raise ConfigError(f"--batch is {arguments.batch!r}; give a number of samples or auto.")
        settings["batch"] = int(arguments.batch)
    if arguments.crop:
        settings["curriculum.crops"] = tuple(crop or None for crop in arguments.crop)
    return with_settings(preset_named(arguments.preset), settings)


def _train(arguments: argparse.Namespace) -> int:
    import logging
    from pathlib import Path

    from retina_fm.training.pretraining.checkpoints import run_preset
    from retina_fm.training.pretraining.data.feeding import open_stream
    from retina_fm.training.pretraining.guards import memory_advice
    from retina_fm.training.pretraining.loop import pretrain
    from retina_fm.training.pretraining.run_log import logger
    from retina_fm.training.pretraining.run_settings import Limits, Machine
    from retina_fm.training.pretraining.validating.validation import make_validation

    logging.getLogger("retina_fm.training").setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.propagate = False
    preset = _preset(arguments)
    device = _device(arguments.device)
    if arguments.batch == "auto":
        from retina_fm.training.pretraining.batch_size import largest_batch

        before = run_preset(Path(arguments.out)) if arguments.resume else None
        batch = before.batch if before is not None else largest_batch(preset, device, arguments.precision)
        preset = preset.model_copy(update={"batch": batch})
        logger.info("batch auto: %d samples", batch)
    perceptual = start_from = origin = None
    if arguments.perceptual:
        from retina_fm.training.pretraining.losses.perceptual import load_perceptual

        perceptual = load_perceptual(arguments.perceptual)
    if arguments.start_from:
        from retina_fm.models import load_generator, read_config, resolve
        from retina_fm.training.pretraining.widening import starting_state

        config = read_config(resolve(arguments.start_from))
        start_from = starting_state(load_generator(arguments.start_from), preset.architecture)
        origin = {"model": config.name, "weights_sha256": config.sha256, **config.provenance}
    with memory_advice(preset):
        stream = open_stream(
            arguments.data, preset, seed=arguments.seed, device=device, resident=arguments.resident
        )
    validate = make_validation(
        Path(arguments.out), preset, held_back=arguments.held_back, vessels=arguments.vessels,
        probes=arguments.probe, networks=_networks(arguments), device=device,
    )  # fmt: skip
    report = pretrain(
        stream,
        arguments.out,
        preset,
        limits=Limits(
            max_steps=arguments.max_steps,
            max_minutes=arguments.max_minutes,
            schedule_minutes=arguments.schedule_minutes,
            save_minutes=arguments.save_minutes,
            validate_minutes=arguments.validate_minutes,
            keep=arguments.keep,
        ),
        machine=Machine(device=arguments.device, precision=arguments.precision, compile=arguments.compile),
        resume=arguments.resume,
        seed=arguments.seed,
        data=[str(Path(place).resolve()) for place in arguments.data],
        perceptual=perceptual,
        validate=validate,
        start_from=start_from,
        origin=origin,
    )
    print(
        f"{arguments.out}: step {report.step}, {report.samples} samples, {report.minutes:.1f} minutes "
        f"({report.stopped}); next: retina-fm export {arguments.out} --out weights/NAME"
    )
    return 0


def _networks(arguments: argparse.Namespace) -> FigureNetworks:
    """What LPIPS and FVD need, read before training; what is missing is said once, not after hours."""
    from retina_fm.metrics.videos import FigureNetworks, load_fvd, load_lpips
    from retina_fm.training.pretraining.run_log import logger

    networks = FigureNetworks(
        lpips=load_lpips(arguments.lpips) if arguments.lpips else None,
        fvd=load_fvd(*arguments.fvd) if arguments.fvd else None,
    )
    if arguments.held_back and networks.missing:
        logger.info("validation without %s", " and ".join(networks.missing))
    return networks


def _device(wanted: str | None) -> str:
    import os

    import torch

    from retina_fm.training.pretraining.guards import refuse_missing_device

    if wanted:
        refuse_missing_device(wanted)
        return wanted
    if torch.cuda.is_available():
        return f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return "cpu"
