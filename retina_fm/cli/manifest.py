"""``retina-fm manifest``: the official download of a data set to one table."""

from __future__ import annotations

import argparse
from collections import Counter
from typing import Any

EXAMPLES = (
    "retina-fm manifest list",
    "retina-fm manifest idrid IDRiD/ --out idrid.csv",
)


def add(subparsers: Any) -> None:
    """Register the subcommand."""
    parser = subparsers.add_parser(
        "manifest",
        help="the official download of a data set to one table",
        description="Writes path, label or mask, patient, eye, split and modality of a public data set's "
        "pictures, for evaluate and adapt. Pictures stay where they are.",
    )
    parser.add_argument("name", help="for example idrid; 'list' names all")
    parser.add_argument("folder", nargs="?", help="that the download was unpacked into")
    parser.add_argument("--out", help="table to write (manifest.csv in the folder)")
    parser.set_defaults(handler=run)


def run(arguments: argparse.Namespace) -> int:
    """Write the table and say what is in it."""
    from retina_fm._io.label_tables import patients_in_words
    from retina_fm.errors import ConfigError
    from retina_fm.evaluation.datasets import READERS, make_manifest
    from retina_fm.evaluation.manifest import read_manifest

    if arguments.name == "list":
        for name, reader in READERS.items():
            print(f"{name:<18} {(reader.__doc__ or '').strip().splitlines()[0]}")
        return 0
    if arguments.folder is None:
        raise ConfigError("Give the folder that the download was unpacked into.")
    table = make_manifest(arguments.name, arguments.folder, arguments.out)
    manifest = read_manifest(table)
    named = "patients not named"
    if manifest.has_patients:
        named = patients_in_words([row.patient for row in manifest.rows])
    print(f"{table}: {len(manifest.rows)} pictures, {named}")
    labels = Counter(row.label for row in manifest.rows)
    if set(labels) != {""}:
        shown = (f"{name or 'none given'} ({count})" for name, count in sorted(labels.items()))
        print(f"labels: {', '.join(shown)}")
    return 0
