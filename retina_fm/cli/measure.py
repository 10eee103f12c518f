"""``retina-fm measure``: photos to a table of numbers."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.arguments import (
    add_exchange_arguments,
    add_label_arguments,
    add_shard_argument,
    check_shard,
    named_with_rows,
)
from retina_fm.cli.checks import check_model

EXAMPLES = (
    "retina-fm measure photos/ --out numbers.csv",
    "retina-fm measure photos/ --out numbers.parquet --allow-unreliable",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "measure",
        help="photos to a table of numbers: quality, eye, disc and fovea, vessels, lesions",
        description="Measure a folder, a glob or single photos. A killed run continues where it was. "
        "docs/measuring.md defines the columns.",
    )
    parser.add_argument("photos", nargs="*", help="folders, quoted globs, files, or a table with id and path")
    add_label_arguments(parser, column=False)
    add_exchange_arguments(parser)
    parser.add_argument("--out", required=True, help="table to write: FILE.csv or FILE.parquet")
    parser.add_argument(
        "--model", default="fundus2video-half", help="one that maps vessels and anatomy (fundus2video-half)"
    )
    parser.add_argument("--device", help="cpu, cuda, cuda:1, mps (the first GPU if there is one)")
    parser.add_argument("--dtype", default="auto", help="auto, float32 or bfloat16")
    parser.add_argument("--batch-size", type=int, help="photos a forward pass (chosen for the device)")
    parser.add_argument("--workers", type=int, help="decoding processes (chosen for the device)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="unreadable photos")
    parser.add_argument(
        "--allow-unreliable", action="store_true", help="numbers too that rest on maps not to be relied on"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a table of another model, or a changed .csv"
    )
    add_shard_argument(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Measure and report."""
    from retina_fm.cli.main import print_json

    found = named_with_rows(arguments)
    check_model(arguments.model)
    check_shard(arguments)

    from retina_fm.measuring import measure_to

    report = measure_to(
        found.photos,
        arguments.out,
        arguments.model,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        device=arguments.device,
        dtype=arguments.dtype,
        on_error=arguments.on_error,
        allow_unreliable=arguments.allow_unreliable,
        overwrite=arguments.overwrite,
        pseudonymise=arguments.pseudonymise,
        bounds=arguments.bounds,
        shard=arguments.shard,
    )
    if arguments.json:
        print_json(report.__dict__)
        return 0
    print(f"{report.path}: {report.rows} rows ({report.reused} reused, {len(report.skipped)} skipped)")
    print(f"{report.seconds:.1f} s, {report.precision}")
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}")
    return 0
