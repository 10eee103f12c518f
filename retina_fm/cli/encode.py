"""``retina-fm encode``: photos to a table of embeddings."""

from __future__ import annotations

import argparse
from typing import Any

from retina_fm.cli.arguments import (
    add_exchange_arguments,
    add_label_arguments,
    add_model_arguments,
    add_shard_argument,
    check_shard,
    named_with_rows,
)
from retina_fm.cli.checks import check_model

EXAMPLES = (
    "retina-fm encode photos/ --out emb.parquet",
    "retina-fm encode --labels labels.csv --images photos/ --column label --out emb.csv",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "encode",
        help="photos to a table of embeddings: Parquet, CSV or NumPy",
        description="Encode a folder, a glob or single photos. A killed run continues where it was.",
    )
    parser.add_argument("photos", nargs="*", help="folders, quoted globs, files, or a table with id and path")
    parser.add_argument("--out", required=True, help="emb.parquet, emb.csv or emb.npz")
    add_label_arguments(parser)
    add_exchange_arguments(parser)
    add_model_arguments(parser)
    parser.add_argument("--batch-size", type=int, help="photos a forward pass (chosen for the device)")
    parser.add_argument("--workers", type=int, help="decoding processes (chosen for the device)")
    parser.add_argument("--on-error", choices=("raise", "skip"), default="raise", help="unreadable photos")
    parser.add_argument(
        "--signature", action="store_true", help="add the pattern of vessels, which recognises a person"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace a table of another model, or a .csv or .npz"
    )
    add_shard_argument(parser)
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Encode and report."""
    from retina_fm.cli.main import print_json
    from retina_fm.encoding.formats import check_out

    check_out(arguments.out)
    found = named_with_rows(arguments)
    check_model(arguments.model)
    check_shard(arguments)

    from retina_fm.encoding import encode_to

    report = encode_to(
        found.photos,
        arguments.out,
        arguments.model,
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        device=arguments.device,
        dtype=arguments.dtype,
        on_error=arguments.on_error,
        overwrite=arguments.overwrite,
        shard=arguments.shard,
        signature=arguments.signature,
        columns=found.columns or None,
        pseudonymise=arguments.pseudonymise,
        bounds=arguments.bounds,
    )
    fresh = report.rows - report.reused
    rate = fresh / report.seconds if report.seconds else 0.0
    if arguments.json:
        print_json({**report.__dict__, "photos_per_second": rate})
        return 0
    print(f"{report.path}: {report.rows} rows ({report.reused} reused, {len(report.skipped)} skipped)")
    print(f"{fresh} photos in {report.seconds:.1f} s, {rate:.2f} a second, {report.precision}")
    for name, reason in report.skipped:
        print(f"skipped {name}: {reason}")
    return 0
