"""``retina-fm simulate``: angiograms for photos, or for drawn retinas, as paired videos on disk."""

from __future__ import annotations

import argparse
import glob
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from retina_fm.cli.checks import check_photos
from retina_fm.cli.prepare import add_mask_arguments, photos_of, print_ignored

if TYPE_CHECKING:
    from retina_fm.training.simulator.eyes.prepare_folder import PrepareReport

EXAMPLES = (
    "retina-fm simulate --drawn 2 --out videos/",
    "retina-fm simulate photos/ --sequences 3 --seed 7 --out videos/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "simulate",
        help="render angiograms for photos or drawn retinas",
        description="Writes sequences of twelve frames with photo, masks, parameters, contact sheet and GIF, "
        "and pairs.csv of all that is below --out. The same seed gives a photo the same bytes, whatever lies "
        "beside it. A killed run continues where it was; what another seed, size, painting or eye gave is "
        "rendered again.",
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
    check_photos(arguments.photos)

    from retina_fm._io.folders import own_folder
    from retina_fm.cli.main import print_json
    from retina_fm.errors import OutputError
    from retina_fm.training.simulator.simulate import SIGNS, WHAT, check_settings, simulate

    check_settings(
        drawn=arguments.drawn,
        sequences=arguments.sequences,
        painting=arguments.painting,
        workers=arguments.workers,
    )
    try:
        own_folder(arguments.out, WHAT, *SIGNS)
    except OutputError:
        if arguments.photos:
            _photos(arguments)  # says it more clearly where it is the folder of the photos
        raise
    prepared = _eyes(arguments)
    if arguments.photos and not prepared.eyes and arguments.drawn < 1:
        _refuse(prepared.failed)
    report = simulate(
        arguments.out,
        eyes=prepared.eyes,
        drawn=arguments.drawn,
        sequences=arguments.sequences,
        size=arguments.size,
        seed=arguments.seed,
        painting=arguments.painting,
        workers=arguments.workers,
    )
    failed = [*prepared.failed, *report.failed]
    if arguments.json:
        print_json(
            {
                "pairs": str(report.pairs),
                "made": report.made,
                "reused": report.reused,
                "failed": [{"what": what, "reason": reason} for what, reason in failed],
                "ignored": [str(folder) for folder in prepared.ignored],
            }
        )
        return int(bool(failed))
    print_ignored(prepared.ignored)
    for what, reason in failed:
        print(f"failed  {what}: {reason}")
    print(f"{report.pairs}: {report.made} sequences rendered, {report.reused} reused, {len(failed)} failed")
    return int(bool(failed))


def _eyes(arguments: argparse.Namespace) -> PrepareReport:
    """Eyes of the photos: those of a folder that holds some, else prepared below ``--out``."""
    from retina_fm.training.simulator.eyes.prepare_folder import PrepareReport, prepare_folder

    if not arguments.photos:
        return PrepareReport([], 0, 0)
    if len(arguments.photos) == 1 and Path(arguments.photos[0]).is_dir():
        eyes = sorted(Path(arguments.photos[0]).glob("*.eye.safetensors"))
        if eyes:
            return PrepareReport(eyes, 0, len(eyes))
    return prepare_folder(
        _photos(arguments),
        arguments.out / "eyes",
        vessels=arguments.vessels,
        arteries=arguments.arteries,
        veins=arguments.veins,
        discs=arguments.discs,
        lesions=arguments.lesions,
        size=arguments.size,
        workers=arguments.workers,
    )


def _photos(arguments: argparse.Namespace) -> Any:
    """The photos; of a folder or glob, without what an earlier call wrote to ``--out`` below it.

    Raises:
        ConfigError: ``--out`` is the folder of the photos: the two could not be told apart.
    """
    from retina_fm.errors import ConfigError
    from retina_fm.pictures.sources import expand, is_single

    photos = photos_of(arguments)
    if is_single(photos) or isinstance(photos, list):
        return photos
    out, root = arguments.out.resolve(), _fixed_part(Path(photos)).resolve()
    if out == root:
        raise ConfigError(f"--out is the folder of the photos, {root}. Give another folder, or one below it.")
    if root not in out.parents:
        return photos
    return [path for path in expand(photos) if out not in Path(path).resolve().parents]


def _fixed_part(photos: Path) -> Path:
    """A folder itself, or of a glob what comes before its first wildcard."""
    if photos.is_dir():
        return photos
    return next(parent for parent in photos.parents if not glob.has_magic(str(parent)))


def _refuse(failed: Sequence[tuple[str, str]]) -> None:
    """Says why there is nothing to render: the causes first, then the error.

    Raises:
        NoPicturesError: always.
    """
    from retina_fm.errors import NoPicturesError

    for what, reason in failed:
        print(f"failed  {what}: {reason}", file=sys.stderr)
    first = f", the first because: {failed[0][1]}" if failed else ""
    raise NoPicturesError(f"None of {len(failed)} photos could be prepared{first}. Mend or replace them.")
