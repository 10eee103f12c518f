"""``retina-fm prepare``: photos to prepared eyes, the cached first stage of the simulator."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from retina_fm.cli.checks import check_photos

EXAMPLES = (
    "retina-fm prepare photos/ --seen-by fundus2video-half --out eyes/",
    "retina-fm prepare --drawn 100 --size 256 --out drawn-eyes/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "prepare",
        help="photos to prepared eyes, from which angiograms are rendered",
        description="Finds vessels, disc, fovea and arrival times once a photo. A killed run continues where "
        "it was; vessels are estimated where no masks are given. An eye of the same photo from other masks "
        "or of another size is replaced.",
    )
    parser.add_argument("photos", nargs="*", help="folder, quoted glob, or files")
    parser.add_argument(
        "--drawn", type=int, default=0, metavar="N", help="draw N retinas, instead of photos or beside them"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the first drawn retina (0)")
    parser.add_argument("--healthy", action="store_true", help="the photos are known to show no lesions")
    parser.add_argument(
        "--seen-by",
        metavar="MODEL",
        help="model whose maps say where vessels, disc and fovea lie, instead of a filter",
    )
    parser.add_argument(
        "--least-trust",
        type=float,
        default=0.0,
        metavar="T",
        help="leave photos out whose estimated vessels are believed less than this, 0 to 1 (0)",
    )
    parser.add_argument("--out", type=Path, required=True, help="folder for the prepared eyes")
    add_mask_arguments(parser)
    parser.add_argument("--size", type=int, default=512, help="side of the view in pixels (512)")
    parser.add_argument("--workers", type=int, help="processes (one a core)")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def add_mask_arguments(parser: argparse.ArgumentParser) -> None:
    """Folders of masks named like the photos, shared with ``simulate``."""
    parser.add_argument("--vessels", type=Path, help="folder of vessel masks named like the photos")
    parser.add_argument("--arteries", type=Path, help="folder of artery masks; needs --veins")
    parser.add_argument("--veins", type=Path, help="folder of vein masks; needs --arteries")
    parser.add_argument("--discs", type=Path, help="folder of optic disc masks")
    parser.add_argument(
        "--lesions",
        type=Path,
        help="folder with a sub-folder of masks for each type of lesion; others are named and left out",
    )


def photos_of(arguments: argparse.Namespace) -> Any:
    """One folder, glob or file as it is; several as a list."""
    return arguments.photos[0] if len(arguments.photos) == 1 else arguments.photos


def print_ignored(folders: Iterable[Path]) -> None:
    """Names folders that no lesion has the name of, so that a misspelt one is not missed."""
    for folder in folders:
        print(f"ignored  {folder}: not the name of a type of lesion")


def run(arguments: argparse.Namespace) -> int:
    """Prepare and report; 1 if any photo failed."""
    check_photos(arguments.photos)

    from retina_fm.cli.main import print_json
    from retina_fm.errors import ConfigError
    from retina_fm.training.simulator.eyes.prepare_folder import prepare_drawn_folder, prepare_folder

    if arguments.drawn < 0:
        raise ConfigError(f"{arguments.drawn} retinas cannot be drawn. Give 1 or more, or leave --drawn out.")
    if not arguments.photos and arguments.drawn < 1:
        raise ConfigError("There is nothing to prepare. Give photos, or --drawn N with N of 1 or more.")
    reports = []
    if arguments.photos:
        reports.append(
            prepare_folder(
                photos_of(arguments),
                arguments.out,
                vessels=arguments.vessels,
                arteries=arguments.arteries,
                veins=arguments.veins,
                discs=arguments.discs,
                lesions=arguments.lesions,
                healthy=arguments.healthy,
                least_trust=arguments.least_trust,
                seen_by=arguments.seen_by,
                size=arguments.size,
                workers=arguments.workers,
            )
        )
    if arguments.drawn > 0:
        reports.append(
            prepare_drawn_folder(
                arguments.drawn,
                arguments.out,
                seed=arguments.seed,
                size=arguments.size,
                workers=arguments.workers,
            )
        )
    made, reused = sum(r.made for r in reports), sum(r.reused for r in reports)
    failed = [failure for report in reports for failure in report.failed]
    ignored = [folder for report in reports for folder in report.ignored]
    doubtful = [photo for report in reports for photo in report.doubtful]
    if arguments.json:
        reasons = [{"photo": photo, "reason": reason} for photo, reason in failed]
        named = [str(folder) for folder in ignored]
        print_json(
            {
                "out": str(arguments.out),
                "made": made,
                "reused": reused,
                "failed": reasons,
                "ignored": named,
                "doubtful": [{"photo": photo, "trust": trust} for photo, trust in doubtful],
            }
        )
        return int(bool(failed))
    print_ignored(ignored)
    for photo, trust in doubtful:
        print(f"doubtful  {photo}: its vessels are believed {trust:.2f}")
    for photo, reason in failed:
        print(f"failed  {photo}: {reason}")
    print(f"{arguments.out}: {made} eyes prepared, {reused} reused, {len(failed)} failed")
    return int(bool(failed))
