"""``retina-fm adapt``: labelled photos to an adapter."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from retina_fm.cli.arguments import add_label_arguments, add_model_arguments, table_of
from retina_fm.cli.checks import check_folder, check_model

EXAMPLES = (
    "retina-fm adapt classification --labels labels.csv --column grade --images photos/ --out grading/",
    "retina-fm adapt segmentation --images photos/ --masks masks/ --shots 1 --out vessels/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "adapt",
        help="labelled photos to an adapter",
        description="Fit a head or a decoder on an encoder; 'retina-fm predict' uses the folder written.",
    )
    parser.add_argument("task", choices=("segmentation", "classification", "regression"))
    parser.add_argument("--masks", help="folder of masks named as the photos (segmentation)")
    add_label_arguments(parser, columns=False)
    parser.add_argument("--multi-label", action="store_true", help="labels are joined by |")
    parser.add_argument("--out", required=True, help="adapter folder to write")
    parser.add_argument("--shots", type=int, help="examples a class, or photos, to draw")
    parser.add_argument("--head", help="mlp, linear, neighbours, nearest-mean")
    parser.add_argument("--fuse-with", nargs="+", help="further encoders, fused by soft attention")
    parser.add_argument("--tune", choices=("head", "last", "all"), default="head", help="what is trained")
    parser.add_argument("--class-weight", choices=("balanced",), help="for classes of unequal size")
    parser.add_argument("--mask-threshold", type=float, help="mask values above it are foreground")
    parser.add_argument("--view-size", type=int, help="working size; larger than the encoder's gives tiles")
    parser.add_argument("--steps", type=int, help="of a decoder's training, at most")
    parser.add_argument("--max-seconds", type=float, help="of a decoder's training, photos' maps included")
    parser.add_argument("--licence", help="of the adapter; what follows from the encoders without it")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    add_model_arguments(parser)
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Fit, save and report."""
    _check(arguments)

    from retina_fm.adapters import adapt
    from retina_fm.adapters.saving import check_savable
    from retina_fm.cli.main import print_json

    settings = {
        "head": arguments.head,
        "fuse_with": arguments.fuse_with,
        "class_weight": arguments.class_weight,
        "mask_threshold": arguments.mask_threshold,
        "view_size": arguments.view_size,
        "steps": arguments.steps,
        "max_seconds": arguments.max_seconds,
        "device": arguments.device,
        "dtype": arguments.dtype,
    }
    estimator = adapt(
        arguments.task,
        arguments.shots,
        model=arguments.model,
        tune=arguments.tune,
        seed=arguments.seed,
        **{key: value for key, value in settings.items() if value is not None},
    )
    check_savable(estimator, arguments.out, arguments.licence)
    if arguments.task == "segmentation":
        estimator.fit(arguments.images, arguments.masks)
        held = 0
    else:
        held = _fit_labels(estimator, arguments)
    folder = estimator.save(arguments.out, licence=arguments.licence)
    report = _report(estimator, folder, held)
    if arguments.json:
        print_json(report)
        return 0
    for key, value in report.items():
        print(f"{key}: {value}")
    if "validation AUROC" in report:
        print(
            "Where the validation part chose the epoch (mlp) or the penalty (linear), its AUROC flatters. "
            "'retina-fm evaluate supervised' on the same table gives figures by patient, with intervals."
        )
    return 0


def _check(arguments: argparse.Namespace) -> None:
    """Raises RetinaError for what can be seen before a model is loaded."""
    from retina_fm.errors import ConfigError

    check_model(arguments.model)
    if arguments.shots == 0:
        raise ConfigError(
            "shots=0 needs no adapter: retina-fm predict vessels PHOTOS --out DIR reads the model."
        )
    if arguments.task == "segmentation":
        if not arguments.images or not arguments.masks:
            raise ConfigError("Segmentation needs --images DIR and --masks DIR.")
        check_folder(arguments.images, "--images")
        check_folder(arguments.masks, "--masks")
        return
    if not arguments.labels:
        raise ConfigError(f"{arguments.task.capitalize()} needs --labels labels.csv.")
    if arguments.images:
        check_folder(arguments.images, "--images")
    table_of(arguments.labels, arguments.images, arguments.column or "label")


def _fit_labels(estimator: Any, arguments: argparse.Namespace) -> int:
    """Fit on the rows of a table; returns how many of them are its validation part."""
    from retina_fm.adapters.examples.labels import regression_targets
    from retina_fm.adapters.prediction_files import read_labels
    from retina_fm.errors import ConfigError

    images = Path(arguments.images) if arguments.images else None
    numbers = arguments.task == "regression"
    found = read_labels(
        Path(arguments.labels),
        arguments.column or "label",
        images=images,
        several=arguments.multi_label,
        numbers=numbers,
    )
    train, held = ([i for i, part in enumerate(found.split) if part == name] for name in ("train", "val"))
    if not train:
        raise ConfigError(
            f"{arguments.labels}: no row has split=train. Leave the column out to train on all."
        )
    labels = regression_targets(found.labels).tolist() if numbers else found.labels

    def part(positions: list[int]) -> tuple[Any, ...]:
        groups = [found.patients[i] for i in positions] if found.patients else None
        return [found.paths[i] for i in positions], [labels[i] for i in positions], groups

    print(found.understood, file=sys.stderr if arguments.json else sys.stdout)
    photos, y, groups = part(train)
    estimator.fit(photos, y, groups=groups, val=part(held) if held else None)
    return len(held)


def _report(estimator: Any, folder: Path, held: int) -> dict[str, Any]:
    from retina_fm.adapters.saving import read_manifest

    manifest = read_manifest(folder)
    report: dict[str, Any] = {
        "adapter": str(folder),
        "task": manifest["task"],
        "encoders": ", ".join(one["name"] for one in manifest["encoders"]),
        "licence": manifest["licence"],
        "trained on": _photos(len(manifest["drawn"])),
    }
    if held:
        report["validated on"] = _photos(held)
    if hasattr(estimator, "classes_"):
        report["classes"] = ", ".join(map(str, estimator.classes_))
    if hasattr(estimator, "threshold_"):
        report["threshold"] = round(estimator.threshold_, 3)
    said = estimator.metrics()
    for figure, name in (("validation_auroc", "validation AUROC"), ("validation_error", "validation error")):
        if figure in said:
            report[name] = round(said[figure], 3)
    return report


def _photos(count: int) -> str:
    return f"{count} photo{'s' * (count != 1)}"
