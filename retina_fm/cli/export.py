"""``retina-fm export``: a training run to a weights folder."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm export run/ --out weights/mine",
    "retina-fm export run/ --out weights/mine --calibrate 512 --licence CC-BY-4.0",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "export",
        help="a training run to a weights folder",
        description="Write the last checkpoint of a run as a weights folder that every command takes.",
    )
    parser.add_argument("run", help="folder of a pretraining run")
    parser.add_argument("--out", required=True, help="weights folder to write, for example weights/mine")
    parser.add_argument("--name", help="of the model (the folder's)")
    parser.add_argument("--licence", default="Apache-2.0", help="of the weights, an SPDX name")
    parser.add_argument("--training-data", help="what the weights saw, for the card")
    parser.add_argument("--citation", default="", help="for the card")
    parser.add_argument(
        "--data", action="append", help="fit the pooling on these instead of the run's own photographs"
    )
    parser.add_argument("--photos", type=int, default=512, help="photographs that the pooling is fitted on")
    parser.add_argument(
        "--calibrate",
        type=int,
        default=0,
        metavar="N",
        help="make lesion maps probabilities, on N windows of eyes whose every lesion is known",
    )
    parser.add_argument(
        "--colour", action="store_true", help="pool colour and texture of the view beside the maps"
    )
    parser.add_argument(
        "--anatomy", action="store_true", help="pool what the maps of vessels and anatomy say, too"
    )
    parser.add_argument(
        "--clip",
        type=float,
        default=0.0,
        metavar="DEVIATIONS",
        help="draw pooled statistics in to so many standard deviations of the photographs (0: never)",
    )
    parser.add_argument("--last", action="store_true", help="the last weights instead of their average")
    parser.add_argument(
        "--without-sources",
        action="store_true",
        help="leave out sources.csv, the list of photographs, where the run's data are gone",
    )
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Export and report."""
    from pathlib import Path

    from retina_fm.training.pretraining.export import export

    config = export(
        arguments.run,
        arguments.out,
        name=arguments.name,
        licence=arguments.licence,
        training_data=arguments.training_data,
        citation=arguments.citation,
        data=arguments.data,
        photos=arguments.photos,
        calibrated_on=arguments.calibrate,
        colour=arguments.colour,
        anatomy=arguments.anatomy,
        clip=arguments.clip,
        averaged=not arguments.last,
        sources=not arguments.without_sources,
    )
    out = Path(arguments.out)
    sizes = [(out / name).stat().st_size for name in config.files]
    print(f"{out}: {len(sizes)} files, {sum(sizes) / 1e6:.1f} MB, the largest {max(sizes) / 1e6:.1f} MB")
    print(f"SHA-256 of the model {config.sha256}")
    return 0
