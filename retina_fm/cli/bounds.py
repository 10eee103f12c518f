"""``retina-fm bounds``: where the camera's circle lies in photos, as fundusprep writes it."""

from __future__ import annotations

import argparse
import sys
from typing import Any

from retina_fm.cli.arguments import add_label_arguments, named_with_rows

EXAMPLES = (
    "retina-fm bounds photos/ --out bounds.csv",
    "retina-fm bounds list.csv --out bounds.csv",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "bounds",
        help="the circle of the retina in photos, as a CSV of crop bounds",
        description="Find the camera's circle in each photo and write it as fundusprep does: id, success, "
        "bounds. --bounds of encode, measure and predict reads such a file.",
    )
    parser.add_argument("photos", nargs="*", help="folders, quoted globs, files, or a table with id and path")
    add_label_arguments(parser, column=False)
    parser.add_argument("--out", required=True, metavar="FILE", help="CSV to write")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Find, write, and say how many have none."""
    from retina_fm.errors import OutputError, PictureError
    from retina_fm.pictures import expand
    from retina_fm.pictures.bounds import Bounds, bounds_of, ids_of, write_bounds

    failed: list[str] = []

    def looked_at(photo: Any) -> Bounds | None:
        try:
            return bounds_of(photo)
        except PictureError as error:
            failed.append(str(error))
            return None

    photos = list(expand(named_with_rows(arguments).photos))
    found = dict(zip(ids_of(photos), map(looked_at, photos), strict=True))
    try:
        write_bounds(arguments.out, found)
    except OSError as error:
        raise OutputError(f"{arguments.out} cannot be written ({error}). Choose another --out.") from None
    none = sum(one is None for one in found.values())
    print(f"{arguments.out}: {len(found)} photos, {none} without a circle")
    for problem in failed:
        print(f"failed: {problem}", file=sys.stderr)
    return 1 if failed else 0
