"""``retina-fm register``: frames of a clinic's archive onto their photographs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

EXAMPLES = (
    "retina-fm register archive/pairs.csv --out registered/",
    "retina-fm register archive/ --accept 0.4 --out registered/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "register",
        help="angiogram frames of an archive onto their photographs",
        description="Find rotation, scale and shift of every frame of a pairs.csv. Writes a pairs.csv with "
        "transforms, a table of qualities, and pictures to look at; frames below --accept are left out and "
        "named. A killed call continues where it was.",
    )
    parser.add_argument("pairs", help="pairs.csv, or a folder that holds one")
    parser.add_argument("--out", type=Path, required=True, help="folder for the results")
    parser.add_argument(
        "--accept",
        type=float,
        default=0.3,
        help="least quality, the correlation of photo's and frame's lines (0.3)",
    )
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Register and report; 1 if a sequence failed or none is left."""
    from retina_fm.cli.main import print_json
    from retina_fm.training.pairs.register_archive import register_archive

    report = register_archive(
        arguments.pairs, arguments.out, accept=arguments.accept, workers=arguments.workers
    )
    code = int(bool(report.failed) or not report.sequences)
    if arguments.json:
        print_json(
            {
                "pairs": str(report.pairs) if report.sequences else None,
                "sequences": report.sequences,
                "frames": report.frames,
                "rejected": [{"frame": frame, "reason": reason} for frame, reason in report.rejected],
                "dropped": [{"sequence": name, "reason": reason} for name, reason in report.dropped],
                "failed": [{"sequence": name, "reason": reason} for name, reason in report.failed],
            }
        )
        return code
    for name, reason in report.failed:
        print(f"failed    {name}: {reason}")
    for frame, reason in report.rejected:
        print(f"rejected  {frame}: {reason}")
    for name, reason in report.dropped:
        print(f"dropped   {name}: {reason}")
    what = f"{report.pairs}: {report.sequences} sequences" if report.sequences else "no sequence is left"
    print(
        f"{what}, {report.frames} frames registered, {len(report.rejected)} rejected, "
        f"{len(report.dropped)} sequences dropped, {len(report.failed)} failed"
    )
    return code
