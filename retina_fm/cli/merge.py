"""``retina-fm merge``: the tables of shards to one table."""

from __future__ import annotations

import argparse
from typing import Any

EXAMPLES = (
    "retina-fm merge part-*.parquet --out all.parquet",
    "retina-fm merge parts/ --out all.parquet --overwrite",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "merge",
        help="tables of shards to one table, once none is missing, doubled or of another model",
        description="Join what encode or measure wrote with --shard. The result is that of a single run.",
    )
    parser.add_argument("parts", nargs="+", help="tables of shards, folders of them, quoted globs")
    parser.add_argument("--out", required=True, help="all.parquet")
    parser.add_argument("--overwrite", action="store_true", help="replace a table that is there")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Merge and report."""
    from retina_fm.cli.main import print_json
    from retina_fm.encoding.merging import merge

    report = merge(arguments.parts, arguments.out, overwrite=arguments.overwrite)
    if arguments.json:
        print_json(report.__dict__)
        return 0
    print(f"{report.path}: {report.rows} rows of {report.parts} parts")
    return 0
