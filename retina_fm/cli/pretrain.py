"""``retina-fm pretrain``: prepared eyes or paired videos to a training run."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.checks import check_training_data

EXAMPLES = (
    "retina-fm pretrain --data eyes/ --preset fundus2video --max-minutes 60 --out run/ --resume",
    "retina-fm pretrain --check archive/pairs.csv",
)


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
    parser.add_argument("--preset", help="name of a preset (fundus2video); 'list' shows them")
    parser.add_argument(
        "--recipe",
        metavar="NAME",
        help="train as a released model was: fixes preset, settings and data, which lie under their names in "
        "the folder --data; 'list' shows them",
    )
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
    machine.add_argument(
        "--precision",
        choices=("auto", "bfloat16", "float32"),
        default="auto",
        help="auto takes bfloat16 where the processor multiplies it natively (auto)",
    )
    machine.add_argument(
        "--compile", action="store_true", help="compile the generator (a minute, then faster)"
    )
    machine.add_argument("--resident", action="store_true", help="keep all prepared eyes on the device")
    machine.add_argument("--seed", type=int, help="of weights and of every choice (0)")
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
    if "list" in (arguments.preset, arguments.recipe):
        from retina_fm.training.pretraining.presets import PRESETS
        from retina_fm.training.pretraining.recipes import list_recipes

        for one in PRESETS.values() if arguments.preset == "list" else list_recipes():
            print(f"{one.name:20} {one.about}")
        return 0
    if not arguments.data or not arguments.out:
        raise ConfigError("Give --data with prepared eyes or a pairs.csv, and --out for the run.")
    if not arguments.recipe:  # a recipe's data have names of their own in there
        check_training_data(arguments.data)
    return _train(arguments)


def _check(path: str) -> int:
    from retina_fm.training.pretraining.data.sources import check_data

    report = check_data(path)
    for problem in report.problems:
        print(f"{path}: {problem}")
    what = f"sequences, {report.frames} frames" if report.kind == "pairs" else report.kind
    print(f"{report.items} usable {what}, {len(report.problems)} problems")
    return 0 if report.ok else 1


def _settings(arguments: argparse.Namespace) -> dict[str, Any]:
    import ast

    from retina_fm.errors import ConfigError

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
    if arguments.crop:
        settings["curriculum.crops"] = tuple(crop or None for crop in arguments.crop)
    return settings


def _batch(said: str | None) -> Any:
    from retina_fm.errors import ConfigError

    if said in (None, "auto"):
        return said
    if not str(said).isdigit() or int(str(said)) < 1:
        raise ConfigError(f"--batch is {said!r}; give a number of samples or auto.")
    return int(str(said))


def _train(arguments: argparse.Namespace) -> int:
    import logging

    from retina_fm.training.pretraining.pretrain import pretrain
    from retina_fm.training.pretraining.run_log import logger
    from retina_fm.training.pretraining.run_settings import Limits, Machine, Validation

    logging.getLogger("retina_fm.training").setLevel(logging.INFO)
    if not logger.handlers:
        logger.addHandler(logging.StreamHandler())
        logger.propagate = False
    report = pretrain(
        arguments.data,
        arguments.out,
        arguments.preset,
        settings=_settings(arguments),
        recipe=arguments.recipe,
        batch=_batch(arguments.batch),
        start_from=arguments.start_from,
        resident=arguments.resident,
        validate=Validation(
            held_back=arguments.held_back,
            vessels=arguments.vessels,
            probes=arguments.probe,
            lpips=arguments.lpips,
            fvd=arguments.fvd,
        ),
        perceptual=arguments.perceptual,
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
    )
    print(
        f"{arguments.out}: step {report.step}, {report.samples} samples, {report.minutes:.1f} minutes "
        f"({report.stopped}); next: retina-fm export {arguments.out} --out weights/NAME"
    )
    return 0
