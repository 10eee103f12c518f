"""``retina-fm demo``: the first minute, on drawn photos or one's own."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

from retina_fm.cli.arguments import Named, add_label_arguments, named
from retina_fm.cli.checks import check_model
from retina_fm.errors import ConfigError

EXAMPLES = (
    "retina-fm demo",
    "retina-fm demo photos/ --labels labels.csv --out first-look/",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "demo",
        help="one page of what the model does, with drawn photos or your own",
        description="Without photos, draws patients, both eyes of each; nothing is downloaded.",
    )
    parser.add_argument("photos", nargs="*", help="folder, quoted glob, or files (drawn without)")
    add_label_arguments(parser, columns=False)
    parser.add_argument("--out", type=Path, default=Path("retina-fm-demo"), help="folder for the results")
    parser.add_argument("--model", help="trained weights where they are, else fundus2video-random")
    parser.add_argument("--json", action="store_true", help="report as JSON")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Run the demo and say where the page is."""
    started = time.monotonic()
    check_model(arguments.model)
    found, column = _photos(arguments)

    def say(text: str) -> None:
        print(text, file=sys.stderr if arguments.json else sys.stdout, flush=True)

    from retina_fm.cli.main import print_json
    from retina_fm.cli.work.demo import run_demo

    report = run_demo(
        None if found is None else found.photos,
        arguments.out,
        columns={} if found is None else found.columns,
        column=column,
        model=arguments.model,
        say=say,
        started=started,
    )
    if arguments.json:
        print_json(report.__dict__)
        return 0
    said = {
        "same eye, other photo, found first": report.same_eye,
        "other eye found first": report.fellow_eyes,
        "few labels, AUROC": report.auroc,
    }
    print(f"{report.seconds:5.1f} s  done: {report.photos} photos, {report.model}")
    for what, value in said.items():
        if value is not None:
            print(f"         {what}: {value:.2f}")
    print(f"embeddings  {report.table}")
    print(f"page        {report.page}")
    return 0


def _photos(arguments: argparse.Namespace) -> tuple[Named | None, str]:
    """The photos named, or None where some are to be drawn; and the column of labels.

    Raises:
        ConfigError: there is no such column.
    """
    if not (arguments.photos or arguments.labels or arguments.images):
        if arguments.column:
            raise ConfigError(f"--column {arguments.column} is of a table: add --labels FILE.")
        return None, "label"
    from retina_fm._io.label_tables import known_name

    asked = arguments.column or "label"
    found = named(argparse.Namespace(**{**vars(arguments), "column": None}))  # all: patients and eyes, too
    column = asked if asked in found.columns else known_name(asked)
    if arguments.column and column not in found.columns:
        there = ", ".join(name for name in found.columns if name != "name") or "no columns"
        raise ConfigError(f"{arguments.labels} has no column {asked!r}; it has {there}.")
    return found, column
