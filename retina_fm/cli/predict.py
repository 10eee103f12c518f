"""``retina-fm predict``: an adapter, or the model itself, over photos."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from retina_fm.cli.arguments import add_bounds_argument, add_label_arguments, named
from retina_fm.cli.checks import check_adapter, check_model
from retina_fm.errors import ConfigError
from retina_fm.vocabulary import LESION_TYPES

EXAMPLES = (
    "retina-fm predict vessels photos/ --out vessels/",
    "retina-fm predict grading/ --labels labels.csv --images photos/ --out predicted.csv",
)
_READINGS = ("vessels", "arteries", "veins", "disc", *LESION_TYPES)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "predict",
        help="an adapter over photos: masks with overlays, or a table",
        description="Predict with an adapter; or name 'vessels', 'arteries', 'veins', 'disc' or a lesion "
        "type to read the model itself.",
    )
    parser.add_argument(
        "adapter", help="folder, hf-hub:OWNER/NAME, 'vessels', 'arteries', 'veins', 'disc' or a lesion type"
    )
    parser.add_argument("photos", nargs="*", help="folders, quoted globs, files, or a table with id and path")
    add_label_arguments(parser)
    add_bounds_argument(parser)
    parser.add_argument("--out", required=True, help="folder; for classification also FILE.csv")
    parser.add_argument("--probabilities", action="store_true", help="probability maps as PNG too")
    parser.add_argument(
        "--explain", nargs="?", const="occlusion", choices=("occlusion", "gradients"),
        help="heat maps too, of a classifier or regressor: where in each photo the evidence lies",
    )  # fmt: skip
    parser.add_argument("--resume", action="store_true", help="leave out photos whose mask is there")
    parser.add_argument(
        "--model",
        help="what vessels, lesions and the like are read with (fundus2video); of an adapter, where its "
        "encoder is, if not under the name it remembers",
    )
    parser.add_argument(
        "--allow-unreliable", action="store_true", help="read maps too whose stated reliability is not enough"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Predict and say where."""
    check_adapter(arguments.adapter, _READINGS)
    check_model(arguments.model)
    named_photos = named(arguments)

    from retina_fm.adapters import adapt, load
    from retina_fm.adapters.prediction_files import write_masks, write_table
    from retina_fm.pictures import expand
    from retina_fm.pictures.bounds import with_bounds
    from retina_fm.pictures.tags import with_rows

    if arguments.adapter in _READINGS and not Path(arguments.adapter).exists():
        model = arguments.model or "fundus2video"
        estimator = adapt(
            "segmentation",
            0,
            model=model,
            target=arguments.adapter,
            allow_unreliable=arguments.allow_unreliable,
            device=arguments.device,
        )
    else:
        estimator = load(arguments.adapter, model=arguments.model, device=arguments.device)
    photos = list(expand(named_photos.photos))
    if arguments.bounds:
        photos = with_bounds(with_rows(photos, named_photos.told), arguments.bounds)
    out = Path(arguments.out)
    if arguments.explain and not hasattr(estimator, "head_"):
        raise ConfigError("--explain is for classifiers and regressors; masks say where by themselves.")
    if hasattr(estimator, "head_"):
        table, kept, failed = write_table(estimator, photos, out, named_photos.columns)
        print(f"{table}: {len(kept)} photos")
        if arguments.explain:
            from retina_fm.explaining import write_heat_maps

            folder = table.with_name(f"{table.stem}-heat")
            readable = [photos[number] for number in kept]
            written = write_heat_maps(estimator, readable, folder, arguments.explain)
            print(f"{folder}: {len(written)} heat maps ({arguments.explain})")
        return _told(failed)
    found = write_masks(
        estimator, photos, out, probabilities=arguments.probabilities, resume=arguments.resume
    )
    already = f", {found.skipped} were there" if found.skipped else ""
    print(f"{out}: {len(found.masks)} masks{already}, overlays in {out / 'overlays'}")
    return _told(found.failed)


def _told(failed: list[str]) -> int:
    """Name the photos that could not be read; the exit status that this means."""
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if failed else 0
