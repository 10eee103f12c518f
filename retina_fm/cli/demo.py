"""``retina-fm demo``: the first minute, on drawn photos or one's own."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from retina_fm.cli.arguments import collect
from retina_fm.cli.checks import check_photos

EXAMPLES = (
    "retina-fm demo",
    "retina-fm demo photos/ --out first-look/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="embeddings and a page of similar eyes, from drawn photos or your own",
        description="Without photos, draws both eyes of six patients; nothing is downloaded.",
    )
    parser.add_argument("photos", nargs="*", help="folder, quoted glob, or files (drawn without)")
    parser.add_argument("--out", type=Path, default=Path("retina-fm-demo"), help="folder for the results")
    parser.add_argument("--model", help="trained weights where they are, else fundus2video-random")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and say where the page is."""
    check_photos(arguments.photos)

    from retina_fm.cli.main import print_json
    from retina_fm.cli.work.demo import run_demo

    photos = collect(arguments.photos) if arguments.photos else None
    report = run_demo(photos, arguments.out, model=arguments.model)
    if arguments.json:
        print_json(report.__dict__)
        return 0
    print(f"{report.photos} photos encoded with {report.model} in {report.seconds:.1f} s")
    print(f"embeddings  {report.table}")
    print(f"page        {report.page}")
    if report.fellow_eyes is not None:
        print(f"nearest photo is the same patient's other eye for {report.fellow_eyes:.0%} of the drawn eyes")
    return 0
