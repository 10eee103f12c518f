"""``retina-fm simulate``: angiograms for photos, or for drawn retinas, as paired videos on disk."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from retina_fm.cli.prepare import add_mask_arguments, photos_of


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        help="render angiograms for photos or drawn retinas",
        description="Writes sequences of twelve frames with photo, masks, parameters, contact sheet and GIF, "
        "and pairs.csv. The same seed gives the same bytes. A killed run continues where it was.",
    )
    parser.add_argument("photos", nargs="*", help="folder, quoted glob, files, or a folder of prepared eyes")
    parser.add_argument("--drawn", type=int, default=0, metavar="N", help="draw N retinas instead of photos")
    parser.add_argument("--out", type=Path, required=True, help="folder for sequences and pairs.csv")
    add_mask_arguments(parser)
    parser.add_argument("--sequences", type=int, default=1, metavar="N", help="sequences a photo (1)")
    parser.add_argument("--size", type=int, default=512, help="side of the pictures in pixels (512)")
    parser.add_argument("--seed", type=int, default=0, help="of everything random (0)")
    parser.add_argument(
        "--painting", type=float, default=0.5, help="share of sequences with painted lesions (0.5)"
    )
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Prepare where needed, render and report; 1 if anything failed."""
    from retina_fm.cli.main import print_json
    from retina_fm.training.prepare_folder import prepare_folder
    from retina_fm.training.simulate import simulate

    eyes: list[Path] = []
    failed: list[tuple[str, str]] = []
    if arguments.photos:
        if len(arguments.photos) == 1 and Path(arguments.photos[0]).is_dir():
            eyes = sorted(Path(arguments.photos[0]).glob("*.eye.safetensors"))
        if not eyes:
            prepared = prepare_folder(
                photos_of(arguments),
                arguments.out / "eyes",
                vessels=arguments.vessels,
                arteries=arguments.arteries,
                veins=arguments.veins,
                discs=arguments.discs,
                lesions=arguments.lesions,
                size=arguments.size,
                workers=arguments.workers,
            )
            eyes, failed = prepared.eyes, list(prepared.failed)
    report = simulate(
        arguments.out,
        eyes=eyes,
        drawn=arguments.drawn,
        sequences=arguments.sequences,
        size=arguments.size,
        seed=arguments.seed,
        painting=arguments.painting,
        workers=arguments.workers,
    )
    failed += report.failed
    if arguments.json:
        reasons = [{"what": what, "reason": reason} for what, reason in failed]
        print_json(
            {"pairs": str(report.pairs), "made": report.made, "reused": report.reused, "failed": reasons}
        )
        return int(bool(failed))
    for what, reason in failed:
        print(f"failed  {what}: {reason}")
    print(f"{report.pairs}: {report.made} sequences rendered, {report.reused} reused, {len(failed)} failed")
    return int(bool(failed))
